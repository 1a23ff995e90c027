"""The entry point: settings in, driver out."""

from __future__ import annotations

from pyd_contracts.context import DriverContext, Setting
from pyd_contracts.errors import InvalidArgument
from pyd_contracts.markers import settings

from .driver import DevicemapperDriver, Options
from .sizes import size_of

__all__ = ["create"]


@settings(
    Setting("pool", str, "", "a thin pool for this driver alone, /dev/mapper/NAME"),
    Setting("device", str, "", "a block device for this driver alone, on which it makes its pool: /dev/vdb"),
    Setting("loop", bool, False, "make the pool of two sparse files in the driver's directory: for development"),
    Setting("data-size", str, "100G", "with loop: the size of the file for data; it can be raised later"),
    Setting("metadata-size", str, "2G", "with loop: the size of the file for metadata; it can be raised later"),
    Setting("block-size", str, "64k", "with device or loop: what a new pool gives out at once, a multiple of 64k"),
    Setting("filesystem", str, "ext4", "of images that are unpacked from now on: ext4 or xfs"),
    Setting("base-size", str, "10G", "the size of root file systems; the option size of a container can raise it"),
    Setting("min-free-space", int, 10, "per cent of the pool, data and metadata, below which nothing new is made"),
    Setting("discard", bool, True, "give back to the pool what containers remove (the mount option discard)"),
    Setting("mount-options", list, [], "further mount options of containers' file systems"),
)
def create(context: DriverContext) -> DevicemapperDriver:
    """Make the driver; Declined where there is no device-mapper, or no pool."""
    given = context.settings
    if not 0 <= given["min-free-space"] <= 90:
        raise InvalidArgument(f"min-free-space = {given['min-free-space']}: 0 to 90 per cent")
    options = Options(
        pool=given["pool"],
        device=given["device"],
        loop=given["loop"],
        data_size=size_of(given["data-size"], "data-size"),
        metadata_size=size_of(given["metadata-size"], "metadata-size"),
        block_size=size_of(given["block-size"], "block-size"),
        filesystem=given["filesystem"],
        base_size=size_of(given["base-size"], "base-size"),
        min_free=given["min-free-space"],
        discard=given["discard"],
        mount=tuple(given["mount-options"]),
    )
    return DevicemapperDriver(context.root, context.run, options, instance=context.instance, log=context.log)
