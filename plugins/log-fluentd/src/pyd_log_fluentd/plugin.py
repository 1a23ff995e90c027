"""The entry point."""

from __future__ import annotations

from pyd_contracts import DriverContext
from pyd_log_fluentd.driver import FluentdDriver

__all__ = ["create"]


def create(context: DriverContext) -> FluentdDriver:  # noqa: ARG001 - every entry point gets it
    """The driver; it takes no settings."""
    return FluentdDriver()
