"""The engine's containers."""
