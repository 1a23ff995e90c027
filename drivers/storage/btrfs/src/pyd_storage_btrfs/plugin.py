"""The entry point: settings in, driver out."""

from __future__ import annotations

from pyd_contracts.context import DriverContext, Setting
from pyd_contracts.errors import InvalidArgument
from pyd_contracts.markers import settings

from .driver import BtrfsDriver
from .quota import MODES

__all__ = ["create"]


@settings(
    Setting(
        "quota", str, "auto", "what may be switched on for --storage-opt size=: auto, simple (Linux 6.7), full, off"
    ),
    Setting("sync", bool, False, "write the file system out before a layer counts as committed (survives power loss)"),
)
def create(context: DriverContext) -> BtrfsDriver:
    """Make the driver; Declined where root is not on btrfs, InvalidArgument for a faulty setting."""
    quotas = context.settings.get("quota", "auto")
    if quotas not in MODES:
        raise InvalidArgument(f"[storage.btrfs] quota: {quotas!r} is none of {', '.join(MODES)}")
    return BtrfsDriver(
        context.root, context.run, quotas=quotas, sync=context.settings.get("sync", False), log=context.log
    )
