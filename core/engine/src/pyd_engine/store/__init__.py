"""The engine's store."""
