"""The engine's networks."""
