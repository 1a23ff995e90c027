"""The entry point: settings in, driver out."""

from __future__ import annotations

from pyd_contracts.context import DriverContext, Setting
from pyd_contracts.markers import settings

from .driver import OverlayDriver

__all__ = ["create"]


@settings(
    Setting("options", list, [], 'further overlay mount options, one an item: ["metacopy=on", "xino=off"]'),
    Setting("sync", bool, False, "write the file system out before a layer counts as committed (survives power loss)"),
)
def create(context: DriverContext) -> OverlayDriver:
    """Make the driver; Declined where overlayfs does not work."""
    return OverlayDriver(
        context.root,
        context.run,
        options=context.settings.get("options", []),
        sync=context.settings.get("sync", False),
        log=context.log,
    )
