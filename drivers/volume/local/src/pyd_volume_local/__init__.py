"""Volumes as plain directories."""
