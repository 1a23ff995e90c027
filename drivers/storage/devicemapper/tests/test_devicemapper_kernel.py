"""What is special to devicemapper on the kernel's own device-mapper: full pools, growing ones, crashes, busy devices."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dying_mapper import DyingMapper

from pyd_conformance.faults import Crash
from pyd_conformance.mounting import mounted
from pyd_contracts.errors import Conflict, Declined, ResourceExhausted
from pyd_contracts.values import Kind, Mount
from pyd_storage_devicemapper import devices
from pyd_storage_devicemapper.driver import DevicemapperDriver, Options
from pyd_storage_devicemapper.mapper import DIRECTORY, DeviceMapper, Mapper, Target
from pyd_storage_devicemapper.thin import pool_status

NEEDED = [name for name in ("thin_dump", "mkfs.xfs", "xfs_repair", "mkfs.ext4", "e2fsck") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,
    pytest.mark.skipif(bool(NEEDED), reason=f"not installed here: {', '.join(NEEDED)} (scripts/provision vm)"),
]

MIB = 1 << 20
PREFIX = "pyd-00c0ffee-"
POOL = f"{PREFIX}pool"
dm = DeviceMapper()


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Every device of a test goes with it."""
    yield
    left = sorted(dm.devices(), key=lambda name: (name in ("thedisk", POOL), name))
    for name in left:  # of a test that failed: the next one begins with nothing
        dm.leave(name)
        dm.forget(name)
    assert left == []
    assert os.listdir(DIRECTORY) == ["control"]
    assert not list(Path("/sys/block").glob("loop*/loop/backing_file"))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "root").mkdir()
    yield tmp_path / "root"
    (tmp_path / "root" / "data").unlink(missing_ok=True)  # $TMPDIR is not large


@pytest.fixture
def disk() -> str:
    device = os.environ["VM_DISK0"]
    with open(device, "r+b") as file:
        file.write(bytes(MIB))
        os.fsync(file.fileno())
    return device


def make(root: Path, mapper: Mapper = dm, **options: Any) -> DevicemapperDriver:
    plain = {"data_size": 128 * MIB, "metadata_size": 4 * MIB, "base_size": 256 * MIB}
    if not options.keys() & {"pool", "device"}:
        options["loop"] = True
    return DevicemapperDriver(root, root, Options(**{**plain, **options}), instance="00c0ffee", mapper=mapper)


def write(top: Path, name: str, size: int) -> None:
    """Bytes on the disk, or OSError."""
    with open(top / name, "wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())


def status() -> tuple[int, int]:
    """MiB of data and of metadata that the pool has."""
    found = pool_status(dm.status(POOL)[0])
    return found.data_total * 64 // 1024, found.metadata_total * 4 // 1024


def thin_ids(driver: DevicemapperDriver) -> set[int]:
    """What the pool itself says it has: read from its metadata, which nobody else of this test can lie about."""
    dm.message(POOL, "reserve_metadata_snap")
    try:
        (pool,) = dm.table(POOL)
        number = pool.parameters.split()[0]
        node = f"/dev/{os.path.basename(os.path.realpath(f'/sys/dev/block/{number}'))}"
        dump = subprocess.run(["thin_dump", "-m", node], capture_output=True, text=True, check=True).stdout
    finally:
        dm.message(POOL, "release_metadata_snap")
    return {int(found) for found in re.findall(r'dev_id="(\d+)"', dump)}


def agrees(driver: DevicemapperDriver) -> None:
    assert thin_ids(driver) == set(driver._catalog.devices())


def check(node: str, kind: str) -> None:
    """The file system is whole, as its own program says."""
    command = ["e2fsck", "-fn", node] if kind == "ext4" else ["xfs_repair", "-n", node]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


# --- room ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_full_pool_gives_errors_and_works_again_when_it_has_grown(root: Path, kind: str) -> None:
    options = {"filesystem": kind, "base_size": (256 if kind == "ext4" else 320) * MIB}
    driver = make(root, **options)
    (mount,) = driver.storage_prepare("key", None, {})
    with mounted([mount]) as top:
        write(top, "kept", 16 * MIB)
        content = (top / "kept").read_bytes()
        os.sync()  # not only into the journal: an ext4 may lose from there what it cannot write to its place any more
        with pytest.raises(OSError) as refused:  # noqa: PT011  # its errno is checked below
            write(top, "too much", 160 * MIB)
    assert refused.value.errno in {errno.ENOSPC, errno.EIO, errno.EROFS}
    driver.storage_release("key")

    with pytest.raises(ResourceExhausted, match=r"prepare more: .* free for data .*truncate -s \+10G"):
        driver.storage_prepare("more", None, {})
    assert {entry.name for entry in driver.storage_walk()} == {"key"}

    os.truncate(root / "data", 512 * MIB)
    driver.storage_prepare("more", None, {})  # notices it
    assert status()[0] == 512
    with mounted(driver.storage_mounts("key")) as top:
        assert (top / "kept").read_bytes() == content
        (top / "too much").unlink(missing_ok=True)
        write(top, "fits", 100 * MIB)
    (mount,) = driver.storage_mounts("key")
    check(mount.source, kind)
    agrees(driver)
    driver.storage_close()


def test_removing_gives_room_to_the_pool_and_to_the_file(root: Path) -> None:
    driver = make(root, min_free=50)
    (mount,) = driver.storage_prepare("key", None, {})
    before = os.stat(root / "data").st_blocks
    with mounted([mount]) as top:
        write(top, "data", 80 * MIB)
    with pytest.raises(ResourceExhausted):
        driver.storage_prepare("more", None, {})

    driver.storage_remove("key")

    driver.storage_prepare("more", None, {})
    assert os.stat(root / "data").st_blocks < before + 8 * MIB // 512
    driver.storage_close()


def test_files_that_a_container_removes_give_room_to_the_pool(root: Path) -> None:
    driver = make(root)
    with mounted(driver.storage_prepare("key", None, {})) as top:
        write(top, "data", 40 * MIB)
        assert driver.storage_usage("key").bytes > 39 * MIB  # some of it lies in blocks that the base has begun
        (top / "data").unlink()
    assert driver.storage_usage("key").bytes < 20 * MIB
    driver.storage_close()


def test_larger_settings_make_a_larger_pool(root: Path) -> None:
    driver = make(root)
    assert status() == (128, 4)
    driver.storage_prepare("key", None, {})
    driver.storage_close()

    driver = make(root, data_size=256 * MIB, metadata_size=16 * MIB)

    assert status() == (256, 16)
    with mounted(driver.storage_mounts("key")) as top:
        write(top, "data", 150 * MIB)
    driver.storage_close()


def test_a_disk_that_grows_is_noticed(root: Path, disk: str) -> None:
    number = os.stat(disk).st_rdev

    def table(size: int) -> list[Target]:
        return [Target(0, size // 512, "linear", f"{os.major(number)}:{os.minor(number)} 0")]

    dm.create("thedisk", table(128 * MIB))
    device = dm.node("thedisk")
    driver = make(root, device=device)
    data, metadata = status()
    assert 120 <= data <= 126
    with (
        mounted(driver.storage_prepare("key", None, {})) as top,
        pytest.raises(OSError, match=r"space|Input|Read-only"),
    ):
        write(top, "too much", 160 * MIB)
    driver.storage_release("key")
    with pytest.raises(ResourceExhausted, match="enlarge the device"):
        driver.storage_prepare("more", None, {})

    dm.change("thedisk", table(1024 * MIB))
    driver.storage_prepare("more", None, {})

    assert status()[0] > 1000
    assert status()[1] > metadata
    driver.storage_close()
    driver = make(root, device=device)  # the label knows of it
    assert status()[0] > 1000
    with mounted(driver.storage_mounts("key")) as top:
        (top / "too much").unlink(missing_ok=True)
        write(top, "fits", 100 * MIB)
    driver.storage_close()
    assert dm.leave("thedisk")
    dm.forget("thedisk")


# --- devices of others ---------------------------------------------------------------------------------------------


def test_a_disk_with_something_on_it_is_not_touched(root: Path, disk: str) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    with pytest.raises(Declined, match="is not empty; if what it holds is not needed, wipe its start"):
        make(root, device=disk)
    with mounted([Mount("ext4", disk)]), pytest.raises(Declined, match="is in use"):
        make(root, device=disk)
    check(disk, "ext4")


def test_another_disk_in_its_place_is_noticed(root: Path, disk: str, tmp_path: Path) -> None:
    make(root, device=disk).storage_close()
    with open(disk, "r+b") as file:
        file.write(bytes(MIB))
    with pytest.raises(Declined, match="no label of this driver any more"):
        make(root, device=disk)
    (tmp_path / "other").mkdir()
    make(tmp_path / "other", device=disk).storage_close()
    with pytest.raises(Declined, match="another device than before"):
        make(root, device=disk)


def test_a_pool_made_by_the_operator(root: Path, disk: str, caplog: pytest.LogCaptureFixture) -> None:
    number = os.stat(disk).st_rdev
    device = f"{os.major(number)}:{os.minor(number)}"
    dm.create("their-metadata", [Target(0, 8192, "linear", f"{device} 0")])
    dm.create("their-data", [Target(0, 1 << 20, "linear", f"{device} 8192")])
    names = [os.stat(dm.node(name)).st_rdev for name in ("their-metadata", "their-data")]
    parts = " ".join(f"{os.major(each)}:{os.minor(each)}" for each in names)
    dm.create("theirs", [Target(0, 1 << 20, "thin-pool", f"{parts} 128 0 0")])

    driver = make(root, pool=f"{DIRECTORY}/theirs")

    assert "queues writes when it is full" in caplog.text
    with mounted(driver.storage_prepare("key", None, {})) as top:
        write(top, "data", 8 * MIB)
    driver.storage_close()
    assert "theirs" in dm.devices(), "it is not ours to remove"
    with pytest.raises(Declined, match="is no thin pool"):
        make(root, pool=f"{DIRECTORY}/their-data")
    (root.parent / "new").mkdir()
    with pytest.raises(Declined, match="A pool is for one driver alone"):
        make(root.parent / "new", pool=f"{DIRECTORY}/theirs")
    for name in ("theirs", "their-data", "their-metadata"):
        assert dm.leave(name)
        dm.forget(name)


# --- crashes -------------------------------------------------------------------------------------------------------

_HOOKS: dict[str, Callable[[DevicemapperDriver], object]] = {
    "prepare": lambda driver: driver.storage_prepare("key", "base", {}),
    "prepare-with-a-size": lambda driver: driver.storage_prepare("key", "base", {"size": str(512 * MIB)}),
    "commit": lambda driver: driver.storage_commit("name", "old"),
    "remove": lambda driver: driver.storage_remove("old"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("hook", _HOOKS)
def test_dying_between_pool_and_catalog(root: Path, hook: str, after: bool) -> None:
    driver = make(root)
    with mounted(driver.storage_prepare("first", None, {})) as top:
        write(top, "data", MIB)
    driver.storage_commit("base", "first")
    for nth in range(1, 60):
        if "old" not in {entry.name for entry in driver.storage_walk()}:
            driver.storage_prepare("old", "base", {})
        dying = DyingMapper(dm, after=after)
        driver = make(root, mapper=dying)
        dying.seen, dying.nth = 0, nth
        with suppress(Crash):
            _HOOKS[hook](driver)
        driver = make(root)

        agrees(driver)
        for entry in list(driver.storage_walk()):
            if entry.kind is Kind.ACTIVE:
                with mounted(driver.storage_mounts(entry.name)) as top:
                    assert (top / "data").stat().st_size == MIB
            if entry.name in ("key", "name"):
                driver.storage_remove(entry.name)
        agrees(driver)
        if not dying.dead:
            break
    else:
        pytest.fail("a hook without an end")
    driver.storage_close()


# --- busy devices ----------------------------------------------------------------------------------------------------


def test_a_device_leaves_with_its_last_unmount(root: Path) -> None:
    driver = make(root)
    mounts = driver.storage_prepare("key", None, {})
    name = os.path.basename(mounts[0].source)
    with mounted(mounts):
        driver.storage_prepare("other", None, {})  # any hook that activates looks around
        state = dm.state(name)
        assert state is not None
        assert state.leaving

    gone(name)
    with mounted(driver.storage_mounts("key")) as top:
        write(top, "data", MIB)
    driver.storage_close()


def test_removing_what_is_mounted(root: Path) -> None:
    driver = make(root)
    mounts = driver.storage_prepare("key", None, {})
    name = os.path.basename(mounts[0].source)
    with mounted(mounts) as top:
        write(top, "data", MIB)
        driver.storage_remove("key")

        assert list(driver.storage_walk()) == []
        write(top, "more", MIB)  # whoever has it, keeps it
        driver = make(root)
        assert int(name.rpartition("-")[2]) in thin_ids(driver)
    gone(name)

    driver.storage_prepare("next", None, {})

    agrees(driver)
    driver.storage_close()


def test_committing_what_is_mounted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_PATIENCE", 0.1)
    driver = make(root)
    mounts = driver.storage_prepare("key", None, {})
    with mounted(mounts) as top:
        write(top, "data", MIB)
        with pytest.raises(Conflict, match="unmount it first"):
            driver.storage_commit("name", "key")
    driver.storage_commit("name", "key")
    with mounted(driver.storage_view("view", "name")) as top:
        assert (top / "data").stat().st_size == MIB
    driver.storage_close()


def test_closing_under_a_running_container(root: Path) -> None:
    driver = make(root)
    mounts = driver.storage_prepare("key", None, {})
    with mounted(mounts) as top:
        driver.storage_close()
        write(top, "data", MIB)
        driver = make(root)  # pool and loop devices were about to leave
        write(top, "more", MIB)
        driver.storage_prepare("other", None, {})
        driver.storage_close()
    gone(POOL)
    driver = make(root)
    with mounted(driver.storage_mounts("key")) as top:
        assert sorted(os.listdir(top)) == ["data", "more"]
    driver.storage_close()


def gone(name: str) -> None:
    """The kernel removes what leaves in a worker of its own: wait for it."""
    end = time.monotonic() + 20
    while dm.state(name) is not None:
        assert time.monotonic() < end, f"{name} is still there"
        time.sleep(0.01)


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("size", [64, 2048])
def test_a_size_makes_the_file_system_smaller_or_larger(root: Path, kind: str, size: int) -> None:
    driver = make(root, filesystem=kind, base_size=512 * MIB, data_size=1024 * MIB)
    (mount,) = driver.storage_prepare("key", None, {"size": str(size * MIB)})
    with mounted([mount]) as top:
        room = os.statvfs(top)
        free = room.f_bavail * room.f_frsize / MIB
        assert 0.95 * size <= free <= 1.15 * size
        write(top, "data", 32 * MIB)
    driver.storage_release("key")
    (mount,) = driver.storage_mounts("key")
    check(mount.source, kind)
    driver.storage_commit("name", "key")
    with mounted(driver.storage_prepare("child", "name", {})) as top:
        room = os.statvfs(top)
        assert room.f_bavail * room.f_frsize > 350 * MIB
        assert (top / "data").stat().st_size == 32 * MIB
    driver.storage_close()
