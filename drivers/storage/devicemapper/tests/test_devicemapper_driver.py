"""What is special to devicemapper and needs no kernel for it: words, records, transactions, repair, room, who is active."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dying_mapper import DyingMapper
from fake_mapper import POOL, Directories, FakeMapper, FakeVolumes

from pyd_conformance.faults import Crash
from pyd_contracts.context import DriverContext, read_settings
from pyd_contracts.errors import Conflict, Declined, DriverFault, InvalidArgument, ResourceExhausted, Unavailable
from pyd_contracts.markers import settings_of
from pyd_contracts.values import Kind, Snapshot
from pyd_storage_devicemapper import devices, driver, kernel, mapper
from pyd_storage_devicemapper.driver import DevicemapperDriver, Options
from pyd_storage_devicemapper.mapper import Target
from pyd_storage_devicemapper.plugin import create
from pyd_storage_devicemapper.sizes import size_of
from pyd_storage_devicemapper.thin import PoolStatus, PoolTable, mapped_sectors, pool_status
from pyd_storage_devicemapper.volumes import Label


class Bench:
    """A driver over a fake that can be lost and opened again."""

    def __init__(self, top: Path) -> None:
        self.root = top / "root"
        self.root.mkdir()
        self.fake = FakeMapper(top / "pool")
        self.disk = self.fake.disk
        self.volumes = FakeVolumes(self.fake)
        self.mapper = DyingMapper(self.fake)
        self.open()

    def open(self, **options: Any) -> DevicemapperDriver:
        self.mapper = DyingMapper(self.fake)
        self.driver = DevicemapperDriver(
            self.root,
            self.root.parent / "run",
            Options(loop=True, filesystem="fake", **options),
            instance="cafe0000",
            mapper=self.mapper,
            filesystems={"fake": Directories("fake", "", (), 0)},
            volumes=self.volumes,
        )
        return self.driver

    def walk(self) -> set[Snapshot]:
        return set(self.driver.storage_walk())

    def device(self, name: str) -> int:
        return self.driver._catalog.get(name).device

    def layer(self, name: str, parent: str | None = None) -> None:
        self.driver.storage_prepare(f"k-{name}", parent, {})
        self.driver.storage_commit(name, f"k-{name}")

    def agrees(self) -> None:
        """Pool and catalog know the same devices, and no more."""
        assert self.disk.thin == set(self.driver._catalog.devices())
        assert self.driver._catalog.transaction == self.disk.transaction
        assert os.listdir(self.root / "new") == os.listdir(self.root / "trash") == []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# --- words and structures ----------------------------------------------------------------------------------------


def test_requests_are_those_of_the_header() -> None:
    # linux/dm-ioctl.h: DM_VERSION 0xc138fd00, DM_TABLE_STATUS 0xc138fd0c, as a C compiler computes them on every machine
    assert mapper.request(0) == 0xC138FD00
    assert mapper.request(12) == 0xC138FD0C
    assert (mapper._HEAD.size, mapper._SPEC.size) == (312, 40)
    assert kernel._LOOP_CONFIG.size == 304
    assert (kernel._FSXATTR.size, kernel._FS_DISK_QUOTA.size) == (28, 112)


def test_a_table_is_packed_and_read() -> None:
    table = [Target(0, 8, "linear", "8:0 1"), Target(8, 16, "thin", "253:0 17")]
    packed = mapper.pack_table(table)

    assert len(packed) % 8 == 0
    assert struct.unpack_from("=QQiI16s", packed) == (0, 8, 0, 48, b"linear".ljust(16, b"\0"))
    assert packed[40:46] == b"8:0 1\0"
    # in answers, "next" counts from the first: with two of them it is the second's place and its end
    answer = bytearray(packed)
    struct.pack_into("=I", answer, 48 + 20, len(packed))
    assert mapper.unpack_table(bytes(answer), 2) == table


def test_device_numbers_are_read_as_the_kernel_writes_them() -> None:
    # huge_encode_dev: minor 0..7, major 8..19, the rest of the minor above
    assert mapper._number(253 << 8 | 5) == os.makedev(253, 5)
    assert mapper._number(253 << 8 | 0x34 | 0x12 << 20) == os.makedev(253, 0x1234)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (
            "7 10/512 3/900 - rw discard_passdown error_if_no_space - 1024",
            PoolStatus(7, 10, 512, 3, 900, "rw"),
        ),
        (
            "7 10/512 900/900 - out_of_data_space no_discard_passdown queue_if_no_space needs_check 64",
            PoolStatus(7, 10, 512, 900, 900, "out_of_data_space", queues=True, needs_check=True),
        ),
        ("Fail", PoolStatus()),
        ("Error", PoolStatus(mode="failed")),
    ],
)
def test_what_a_pool_says(words: str, status: PoolStatus) -> None:
    assert pool_status(Target(0, 1, "thin-pool", words)) == status


def test_a_pools_table_is_read_and_written() -> None:
    table = PoolTable.of(Target(0, 800, "thin-pool", "7:0 7:1 128 0 2 error_if_no_space ignore_discard"))

    assert (table.metadata, table.data, table.block) == ("7:0", "7:1", 128)
    assert table.target().parameters == "7:0 7:1 128 0 2 error_if_no_space ignore_discard"
    with pytest.raises(ValueError, match="linear"):
        PoolTable.of(Target(0, 8, "linear", "8:0 0"))


def test_what_a_thin_device_says() -> None:
    assert mapped_sectors(Target(0, 8, "thin", "1024 2047")) == 1024
    assert mapped_sectors(Target(0, 8, "thin", "0 -")) == 0
    assert mapped_sectors(Target(0, 8, "thin", "Fail")) is None


@pytest.mark.parametrize("text", ["", "0", "-1", "ten", "10X", "1.5G", "1 0G"])
def test_bad_sizes_are_named(text: str) -> None:
    with pytest.raises(InvalidArgument, match="base-size"):
        size_of(text, "base-size")


def test_a_label_is_read_back_and_a_half_one_is_not() -> None:
    metadata, data = Label.divide(2048, 8 << 21, 4096)
    label = Label("ab" * 16, 1, 128, (metadata,), (data,))
    block = label.pack()

    assert len(block) == Label.SIZE
    assert Label.unpack(block) == label
    assert Label.unpack(block[:200].ljust(Label.SIZE, b"\0")) is None
    assert Label.unpack(bytes(Label.SIZE)) is None
    assert metadata[0] + metadata[1] == data[0]
    assert label.end <= 8 << 21
    assert metadata[1] % 2048 == data[1] % 2048 == 0


def test_too_many_pieces_do_not_fit_into_a_label() -> None:
    pieces = tuple((number << 30, 1 << 20) for number in range(300))
    with pytest.raises(OSError, match="full"):
        Label("ab" * 16, 1, 128, pieces, pieces).pack()


# --- settings ------------------------------------------------------------------------------------------------------


def _context(top: Path, **given: Any) -> DriverContext:
    read = read_settings(settings_of(create), given, "[storage.devicemapper]")
    return DriverContext("devicemapper", top, top, read, logging.getLogger("t"), "cafe0000")


def test_without_device_mapper_it_declines_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "CONTROL", str(tmp_path / "control"))

    with pytest.raises(Declined, match="no device-mapper in this kernel"):
        create(_context(tmp_path, loop=True))


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({}, Declined, "no pool is configured"),
        ({"loop": True, "pool": "/dev/mapper/x"}, InvalidArgument, "pool and loop are set"),
        ({"loop": True, "block-size": "100k"}, InvalidArgument, "multiple of 64k"),
        ({"loop": True, "filesystem": "ntfs"}, InvalidArgument, "ext4, xfs"),
        ({"loop": True, "base-size": "ten"}, InvalidArgument, "base-size"),
        ({"loop": True, "base-size": "1M"}, Declined, "too little for ext4"),
        ({"loop": True, "min-free-space": 100}, InvalidArgument, "0 to 90"),
        ({"pool": "/dev/vg/pool"}, Declined, "named as /dev/mapper/NAME"),
        ({"pool": "/dev/mapper/nobody"}, Declined, "lvcreate"),
    ],
)
def test_settings_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], error: type[Exception], text: str
) -> None:
    monkeypatch.setattr(driver, "_mapper", lambda: FakeMapper(tmp_path / "pool"))

    with pytest.raises(error, match=text):
        create(_context(tmp_path, **given))


# --- pool and catalog -------------------------------------------------------------------------------------------------


def test_a_device_has_the_number_of_its_transaction(bench: Bench) -> None:
    bench.layer("base")
    before = bench.disk.transaction
    bench.driver.storage_prepare("key", "base", {})

    assert bench.device("key") == bench.disk.transaction == before + 1
    bench.agrees()


def test_numbers_begin_anew_after_the_last_and_pass_by_those_in_use(bench: Bench) -> None:
    bench.layer("base")  # devices 1 (the empty one) and 2
    bench.disk.transaction = (5 << 24) - 2
    os.unlink(bench.root / "transaction")
    os.symlink(f"1 {bench.disk.transaction}", bench.root / "transaction")
    bench.open()

    for number in range(3):
        bench.driver.storage_prepare(f"key-{number}", "base", {})

    assert [bench.device(f"key-{number}") for number in range(3)] == [(1 << 24) - 1, 3, 4]
    bench.agrees()


_HOOKS: dict[str, Callable[[DevicemapperDriver], object]] = {
    "prepare": lambda driver: driver.storage_prepare("key", "base", {}),
    "prepare with a size": lambda driver: driver.storage_prepare("key", "base", {"size": str(20 << 30)}),
    "view": lambda driver: driver.storage_view("key", "base"),
    "commit": lambda driver: driver.storage_commit("name", "old"),
    "commit with a size": lambda driver: driver.storage_commit("name", "sized"),
    "remove": lambda driver: driver.storage_remove("old"),
    "release": lambda driver: driver.storage_release("old"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("hook", _HOOKS)
def test_dying_at_any_call_of_the_device_mapper(tmp_path: Path, hook: str, after: bool) -> None:
    for nth in range(1, 60):
        bench = Bench(_fresh(tmp_path / str(nth)))
        bench.layer("base")
        bench.driver.storage_prepare("old", "base", {})
        bench.driver.storage_prepare("sized", "base", {"size": str(20 << 30)})
        before = bench.walk()
        bench.mapper.seen, bench.mapper.nth, bench.mapper.after = 0, nth, after
        with suppress(Crash):
            _HOOKS[hook](bench.driver)
        dead = bench.mapper.dead
        bench.open()

        seen = bench.walk()
        assert len(seen ^ before) <= 2
        bench.agrees()
        for entry in seen:
            if entry.kind is not Kind.COMMITTED:
                bench.driver.storage_mounts(entry.name)
        for entry in sorted(seen, key=lambda entry: entry.name == "base"):
            bench.driver.storage_remove(entry.name)
        bench.agrees()
        if not dead:
            return
    pytest.fail("a hook without an end")


def _fresh(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_dying_while_the_first_base_is_made(tmp_path: Path, after: bool) -> None:
    for nth in range(1, 30):
        bench = Bench(_fresh(tmp_path / str(nth)))
        bench.driver.storage_close()
        shutil.rmtree(bench.root)
        bench.root.mkdir()
        bench.disk.thin.clear()
        bench.disk.devices.clear()
        shutil.rmtree(bench.disk.place)
        bench.disk.place.mkdir()
        bench.disk.transaction = 0
        dying = DyingMapper(bench.fake, nth, after=after)
        with suppress(Crash):
            DevicemapperDriver(
                bench.root, bench.root, Options(filesystem="fake"), instance="cafe0000", mapper=dying,
                filesystems={"fake": Directories("fake", "", (), 0)}, volumes=bench.volumes,
            )  # fmt: skip
        bench.open()
        bench.agrees()
        bench.layer("base")
        if not dying.dead:
            return
    pytest.fail("opening has no end")


def test_a_catalog_that_lost_its_last_seconds_follows_the_pool(bench: Bench, tmp_path: Path) -> None:
    bench.layer("base")
    bench.driver.storage_prepare("gone", "base", {})
    bench.driver.storage_prepare("stays", "base", {})
    shutil.copytree(bench.root, tmp_path / "then", symlinks=True)
    bench.driver.storage_remove("gone")
    bench.driver.storage_prepare("new", "base", {})
    bench.driver.storage_prepare("newer", "base", {})
    bench.driver.storage_close()
    shutil.rmtree(bench.root)
    shutil.copytree(tmp_path / "then", bench.root, symlinks=True)

    bench.open()

    assert {entry.name for entry in bench.walk()} == {"base", "stays"}
    bench.agrees()


def test_a_pool_that_is_behind_is_not_touched(bench: Bench) -> None:
    bench.layer("base")
    thin = set(bench.disk.thin)
    bench.disk.transaction -= 1

    with pytest.raises(Declined, match="another pool, or an old copy"):
        bench.open()
    assert bench.disk.thin == thin


def test_a_pool_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    fake = FakeMapper(tmp_path / "pool")
    fake.disk.transaction, fake.disk.used = 12, 400

    with pytest.raises(Declined, match=r"in use: 400 blocks, transaction 12\. A pool is for one driver alone"):
        Bench(tmp_path)


def test_a_record_that_cannot_be_read_stops_the_driver(bench: Bench) -> None:
    os.symlink("2 committed from-the-future - 99 ext4 8 0", bench.root / "entries" / "99")

    with pytest.raises(DriverFault, match="record of version 2"):
        bench.open()


def test_another_base_size_makes_another_base(bench: Bench) -> None:
    bench.layer("old")
    bench.open(base_size=20 << 30)
    bench.layer("new")

    assert bench.driver._catalog.get("old").sectors == (10 << 30) // 512
    assert bench.driver._catalog.get("new").sectors == (20 << 30) // 512
    bench.agrees()


# --- room ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["data", "metadata"])
def test_too_little_room_is_refused_with_what_helps(bench: Bench, what: str) -> None:
    bench.layer("base")
    if what == "data":
        bench.disk.used = 901
    else:
        bench.disk.metadata = (950, 1000)

    with pytest.raises(ResourceExhausted, match=f"free for {what} .*min-free-space = 10 per cent. help yourself"):
        bench.driver.storage_prepare("key", "base", {})
    assert {entry.name for entry in bench.walk()} == {"base"}
    bench.driver.storage_view("view", "base")  # which takes no room
    bench.driver.storage_remove("view")


def test_room_that_came_meanwhile_is_noticed(bench: Bench) -> None:
    bench.layer("base")
    bench.disk.used = 950
    bench.volumes.grows_by = 1000

    bench.driver.storage_prepare("key", "base", {})

    assert bench.volumes.grown == 1


@pytest.mark.parametrize(("mode", "word"), [("ro", "read-only"), ("failed", "broken")])
def test_a_broken_pool_is_named(bench: Bench, mode: str, word: str) -> None:
    bench.layer("base")
    bench.disk.mode = mode

    with pytest.raises(Unavailable, match=f"is {word}; check its metadata with thin_check"):
        bench.driver.storage_prepare("key", "base", {})


# --- who is active ---------------------------------------------------------------------------------------------------


def test_what_was_mounted_leaves_with_its_last_unmount(bench: Bench) -> None:
    bench.driver.storage_prepare("key", None, {})
    name = f"pyd-cafe0000-{bench.device('key')}"
    bench.fake.open(name)
    bench.driver.storage_prepare("other", None, {})  # any hook that activates looks around

    assert bench.disk.devices[name].leaving
    bench.fake.shut(name)
    assert name not in bench.disk.devices


def test_what_is_only_looked_into_does_not_leave(bench: Bench) -> None:
    bench.driver.storage_prepare("key", None, {})
    name = f"pyd-cafe0000-{bench.device('key')}"
    bench.fake.open(name, mounted=False)  # udev's blkid
    bench.driver.storage_prepare("other", None, {})
    bench.fake.shut(name)

    assert name in bench.disk.devices


def test_what_is_leaving_stays_when_it_is_asked_for_again(bench: Bench) -> None:
    bench.driver.storage_prepare("key", None, {})
    name = f"pyd-cafe0000-{bench.device('key')}"
    bench.fake.open(name)
    bench.driver.storage_release("key")
    assert bench.disk.devices[name].leaving

    bench.driver.storage_mounts("key")
    bench.fake.shut(name)

    assert name in bench.disk.devices


def test_views_share_a_device_until_the_last_is_released(bench: Bench) -> None:
    bench.layer("base")
    name = f"pyd-cafe0000-{bench.device('base')}"
    bench.driver.storage_view("one", "base")
    bench.driver.storage_view("two", "base")
    assert bench.disk.devices[name].read_only

    bench.driver.storage_release("one")
    assert name in bench.disk.devices
    bench.driver.storage_remove("two")
    assert name not in bench.disk.devices


def test_removing_what_is_mounted_waits_for_the_unmount(bench: Bench) -> None:
    bench.layer("base")
    bench.driver.storage_prepare("key", "base", {})
    thin, name = bench.device("key"), f"pyd-cafe0000-{bench.device('key')}"
    bench.fake.open(name)

    bench.driver.storage_remove("key")

    assert {entry.name for entry in bench.walk()} == {"base"}
    assert thin in bench.disk.thin
    bench.driver.storage_prepare("key", "base", {})  # the name is free
    bench.open()
    assert thin in bench.disk.thin, "still mounted"
    bench.fake.shut(name)
    bench.driver.storage_remove("key")
    assert thin not in bench.disk.thin
    bench.agrees()


def test_committing_what_stays_mounted_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_PATIENCE", 0.02)
    bench.driver.storage_prepare("key", None, {})
    name = f"pyd-cafe0000-{bench.device('key')}"
    bench.fake.open(name)

    with pytest.raises(Conflict, match=f"commit key as name: {name} is open 1 times; unmount it first"):
        bench.driver.storage_commit("name", "key")
    assert bench.walk() == {Snapshot("key", Kind.ACTIVE, None)}
    bench.fake.shut(name)
    bench.driver.storage_commit("name", "key")


def test_devices_of_an_earlier_run_leave_and_those_in_use_stay(bench: Bench) -> None:
    bench.driver.storage_prepare("idle", None, {})
    bench.driver.storage_prepare("busy", None, {})
    idle, busy = (f"pyd-cafe0000-{bench.device(key)}" for key in ("idle", "busy"))
    bench.fake.open(busy)

    bench.open()

    assert idle not in bench.disk.devices
    assert bench.disk.devices[busy].leaving
    assert POOL in bench.disk.devices


def test_a_refusal_of_the_kernel_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.layer("base")
    real = bench.fake.create

    def refuse(name: str, table: list[Target], *, read_only: bool = False) -> None:
        if not name.startswith(POOL):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        real(name, table, read_only=read_only)

    monkeypatch.setattr(bench.fake, "create", refuse)
    for call in (
        lambda: bench.driver.storage_prepare("key", "base", {}),
        lambda: bench.driver.storage_prepare("key", "base", {"size": "1073741824"}),
        lambda: bench.driver.storage_view("key", "base"),
    ):
        with pytest.raises(ResourceExhausted):
            call()
    assert {entry.name for entry in bench.walk()} == {"base"}
    bench.agrees()
    bench.driver.storage_remove("base")  # nothing stands on it
