"""The microkernel of pyd: composition, images, layers, networks, containers."""
