"""Log driver: files of JSON lines beside the container, as Docker writes them."""
