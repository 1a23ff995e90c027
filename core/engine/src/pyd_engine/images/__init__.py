"""The engine's images."""
