"""IPAM driver: subnets out of pools, the lowest free address of each."""
