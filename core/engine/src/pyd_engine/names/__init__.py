"""Names of containers on user-defined networks: the resolver at 127.0.0.11."""
