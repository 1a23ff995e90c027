"""Log driver: nothing is kept."""
