"""Builds: the plan of a frontend carried out, step by step, each an image."""
