"""The devicemapper driver under the storage contract, on the kernel's device-mapper: in the virtual machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyd_conformance import StorageContract
from pyd_conformance.storage import Place
from pyd_storage_devicemapper.driver import DevicemapperDriver, Options
from pyd_storage_devicemapper.mapper import DIRECTORY, DeviceMapper

CAPABILITIES = frozenset({"id-mapped", "release", "shared", "size", "usage-cheap"})


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Every device of a test goes with it: thin devices, pool, nodes, loop devices."""
    before = DeviceMapper().devices(), sorted(os.listdir(DIRECTORY)), _loops()
    yield
    assert (DeviceMapper().devices(), sorted(os.listdir(DIRECTORY)), _loops()) == before


def _loops() -> list[str]:
    return sorted(str(path) for path in Path("/sys/block").glob("loop*/loop/backing_file"))


def wipe(device: str) -> None:
    """A disk as it comes from the shop, where it matters."""
    with open(device, "r+b") as disk:
        disk.write(bytes(1 << 20))
        os.fsync(disk.fileno())


@pytest.mark.vm
@pytest.mark.root
class TestExt4OnLoop(StorageContract):
    """The explicit default for development."""

    subject = "ext4, loop"
    capabilities = CAPABILITIES

    def make(self, root: Path, run: Path) -> DevicemapperDriver:
        base = 24 << 20 if "cramped" in str(root) else 256 << 20
        options = Options(loop=True, data_size=1 << 30, metadata_size=8 << 20, base_size=base)
        return DevicemapperDriver(root, run, options)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        yield Place.at(tmp_path / "root", tmp_path)
        (tmp_path / "root" / "data").unlink(missing_ok=True)  # $TMPDIR is not large

    @pytest.fixture
    def cramped(self, tmp_path: Path) -> Iterator[Place]:
        yield Place.at(tmp_path / "cramped", tmp_path)
        (tmp_path / "cramped" / "data").unlink(missing_ok=True)


@pytest.mark.vm
@pytest.mark.root
class TestExt4OnDisk(TestExt4OnLoop):
    """On a block device."""

    subject = "ext4, disk"

    def make(self, root: Path, run: Path) -> DevicemapperDriver:
        base = 24 << 20 if "cramped" in str(root) else 256 << 20
        return DevicemapperDriver(root, run, Options(device=os.environ["VM_DISK0"], base_size=base))

    @pytest.fixture(autouse=True)
    def _blank(self) -> None:
        wipe(os.environ["VM_DISK0"])


@pytest.mark.vm
@pytest.mark.root
class TestXfsOnLoop(TestExt4OnLoop):
    """xfs, which has no file systems below 300 MB."""

    subject = "xfs, loop"

    def make(self, root: Path, run: Path) -> DevicemapperDriver:
        options = Options(loop=True, data_size=2 << 30, metadata_size=8 << 20, filesystem="xfs", base_size=320 << 20)
        return DevicemapperDriver(root, run, options)
