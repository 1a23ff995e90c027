"""What storage drivers share: names of snapshots, directories that hold them, hostile trees, what a kernel can do."""
