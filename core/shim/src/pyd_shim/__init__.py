"""The processes that own running containers: a zygote, a shim per container, and the spool of its output."""
