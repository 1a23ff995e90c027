"""Storage driver: plain copies, reflinked where the file system can."""
