"""The command line of pyd.

It speaks HTTP to the daemon's socket and knows nothing else of the engine: no module here imports another pyd
distribution, so `pyd` starts fast, and works against any daemon that serves the Docker Engine API.
"""

__version__ = "0.1.0"
