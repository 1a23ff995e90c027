"""Storage driver: overlayfs."""
