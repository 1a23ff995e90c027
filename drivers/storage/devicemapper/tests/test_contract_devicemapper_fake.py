"""The devicemapper driver under the storage contract, over a device-mapper in memory whose devices are directories.

All that is the driver's own (records, transactions, what is active when, repair) is proven here on any kernel, crashes
included. What the kernel has to do is proven in a virtual machine: `test_contract_devicemapper`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_mapper import Directories, FakeMapper, FakeVolumes

from pyd_conformance import StorageContract
from pyd_storage_devicemapper.driver import DevicemapperDriver, Options


def make(root: Path, **options: object) -> DevicemapperDriver:
    """A driver whose pool lies beside *root*."""
    mapper = FakeMapper(root.parent / "pool")
    return DevicemapperDriver(
        root,
        root.parent / "run",
        Options(loop=True, filesystem="fake", **options),  # type: ignore[arg-type]
        mapper=mapper,
        filesystems={"fake": Directories("fake", "", (), 0)},
        volumes=FakeVolumes(mapper),
    )


@pytest.mark.root
class TestDevicemapperOnAFake(StorageContract):
    """Directories neither share blocks nor have a size."""

    subject = "Devicemapper (fake)"
    capabilities = frozenset({"id-mapped", "release", "shared", "size", "usage-cheap"})
    test_nothing_is_stored_twice = None
    test_size_bounds_writes = None

    def make(self, root: Path, run: Path) -> DevicemapperDriver:
        return make(root)
