"""The entry point: settings in, driver out."""

from __future__ import annotations

from pyd_contracts.context import DriverContext, Setting
from pyd_contracts.markers import settings

from .driver import FuseOverlayfsDriver

__all__ = ["create"]


@settings(
    Setting("sync", bool, False, "write the file system out before a layer counts as committed (survives power loss)"),
)
def create(context: DriverContext) -> FuseOverlayfsDriver:
    """Make the driver; Declined where fuse-overlayfs does not work."""
    return FuseOverlayfsDriver(context.root, context.run, sync=context.settings.get("sync", False), log=context.log)
