"""The entry point: settings in, driver out."""

from __future__ import annotations

from pyd_contracts.context import DriverContext
from pyd_volume_local.driver import LocalDriver

__all__ = ["create"]


def create(context: DriverContext) -> LocalDriver:
    """Make the driver."""
    return LocalDriver(context.root, context.run, log=context.log)
