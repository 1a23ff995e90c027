"""The commands, one module for each (or for each noun with a few small ones). Imported when used: see `catalog`."""
