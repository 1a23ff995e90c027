"""Storage driver: btrfs subvolumes and snapshots."""
