"""Isolation backend: any installed OCI runtime, one shim per container."""
