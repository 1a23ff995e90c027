"""Log driver: the journal of systemd."""
