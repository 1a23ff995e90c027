"""What containers write: reading it back, and having it delivered by log drivers."""
