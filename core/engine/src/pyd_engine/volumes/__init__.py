"""Volumes: what they are called, who uses them, when they go."""
