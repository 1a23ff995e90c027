"""The engine's layers."""
