"""Storage driver: aufs."""
