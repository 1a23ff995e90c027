"""Network driver: Linux bridges, veth pairs and nftables."""
