"""Build frontend: Dockerfiles."""
