"""Storage driver: overlays by the program fuse-overlayfs."""
