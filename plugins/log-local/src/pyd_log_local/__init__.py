"""Log driver: the engine's own spool, bounded."""
