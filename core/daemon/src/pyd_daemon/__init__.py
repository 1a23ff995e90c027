"""pydd: the Docker Engine REST API over the pyd engine."""
