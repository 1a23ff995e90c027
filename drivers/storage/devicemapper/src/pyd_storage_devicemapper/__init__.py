"""Storage driver: thin devices of the device-mapper."""
