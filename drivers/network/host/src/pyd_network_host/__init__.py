"""Network driver: the host namespace itself."""
