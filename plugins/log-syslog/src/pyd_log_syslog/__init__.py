"""Log driver: syslog, over datagrams, streams and TLS."""
