"""Isolation backend: namespaces, cgroups, capabilities and seccomp, from Python."""
