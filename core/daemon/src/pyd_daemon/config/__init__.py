"""The daemon's configuration: one TOML file, flags and variables for the common keys, every value with its origin."""

from __future__ import annotations

from pyd_daemon.config.configuration import ConfigError, Configuration, Origin
from pyd_daemon.config.hosts import Host, parse_host
from pyd_daemon.config.loading import DEFAULT_FILE, load
from pyd_daemon.config.shapes import AddressPool

__all__ = ["DEFAULT_FILE", "AddressPool", "ConfigError", "Configuration", "Host", "Origin", "load", "parse_host"]
