"""A minimal storage driver that passes the kit: copy it, rename it, make it yours."""
