"""Network driver: loopback only."""
