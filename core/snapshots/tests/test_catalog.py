"""The catalog on disk: what an earlier run left, what is half, what is mounted."""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from pathlib import Path

import pytest

from pyd_conformance.mounting import perform, unmount
from pyd_conformance.trees import deep
from pyd_contracts.errors import AlreadyExists, Conflict, NotFound, ResourceExhausted
from pyd_contracts.values import Kind, Mount, Snapshot
from pyd_snapshots import catalog
from pyd_snapshots.catalog import Catalog

_LOG = logging.getLogger("test")


def _nothing(_new: str) -> None:
    """An entry without content."""


def _open(root: Path) -> Catalog:
    return Catalog(root, _LOG)


def test_records_are_read_as_they_are_written() -> None:
    for snapshot in (Snapshot("a:b", Kind.COMMITTED, None), Snapshot("k", Kind.VIEW, "a:b")):
        assert catalog._read(catalog._record(snapshot)) == snapshot


def test_entries_outlive_the_catalog(tmp_path: Path) -> None:
    before = _open(tmp_path)
    before.create(Kind.ACTIVE, "k", None, _nothing)
    before.commit("base", "k")
    before.create(Kind.ACTIVE, "key", "base", _nothing)

    after = _open(tmp_path)

    assert {entry.snapshot for entry in after.entries()} == {
        Snapshot("base", Kind.COMMITTED, None),
        Snapshot("key", Kind.ACTIVE, "base"),
    }
    assert [entry.number for entry in after.chain("key")] == ["3", "1"]  # 2 was the link that gave the first its name


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    mine = _open(tmp_path)

    def full(new: str) -> None:
        os.mkdir(f"{new}/f")
        raise OSError(28, os.strerror(28))

    with pytest.raises(ResourceExhausted, match="make active snapshot key"):
        mine.create(Kind.ACTIVE, "key", None, full)

    assert os.listdir(tmp_path / "new") == []
    mine.create(Kind.ACTIVE, "key", None, _nothing)
    with pytest.raises(AlreadyExists):
        mine.create(Kind.ACTIVE, "key", None, _nothing)


def test_what_an_interrupted_run_left_is_swept_and_its_number_not_used(tmp_path: Path) -> None:
    _open(tmp_path)
    (tmp_path / "new" / "7" / "f").mkdir(parents=True)
    (tmp_path / "trash" / "8").mkdir()
    (tmp_path / "trash" / "9.w").mkdir()
    (tmp_path / "trash" / "11+0").mkdir()
    (tmp_path / "new" / "12+beef" / "f").mkdir(parents=True)

    again = _open(tmp_path)

    assert os.listdir(tmp_path / "new") == os.listdir(tmp_path / "trash") == []
    assert again.create(Kind.ACTIVE, "key", None, _nothing).number == "13"


def test_what_is_made_is_named_by_number_and_chance(tmp_path: Path) -> None:
    seen: list[str] = []
    entry = _open(tmp_path).create(Kind.ACTIVE, "key", None, seen.append)
    assert catalog.number_of(seen[0]) == int(entry.number)
    assert os.path.basename(seen[0]) != entry.number


def test_an_unreadable_record_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _open(tmp_path).create(Kind.ACTIVE, "key", None, _nothing)
    (tmp_path / "99").mkdir()
    (tmp_path / "99" / "meta").symlink_to("2 committed from-the-future -")

    again = _open(tmp_path)

    assert {entry.snapshot.name for entry in again.entries()} == {"key"}
    assert (tmp_path / "99").is_dir()
    assert "record of version 2" in caplog.text
    assert again.create(Kind.ACTIVE, "new", None, _nothing).number == "100", "its number is not given out again"


def test_directories_go_as_the_driver_says(tmp_path: Path) -> None:
    gone: list[str] = []

    def remove(bin_fd: int, name: str) -> None:
        gone.append(name)
        os.unlink(f"{name}/meta", dir_fd=bin_fd)
        os.rmdir(name, dir_fd=bin_fd)

    mine = Catalog(tmp_path, _LOG, remove=remove)
    mine.create(Kind.ACTIVE, "key", None, _nothing)
    mine.remove("key")

    assert gone == ["1"]
    assert os.listdir(tmp_path / "trash") == []


def test_parts_are_discarded(tmp_path: Path) -> None:
    mine = _open(tmp_path)
    entry = mine.create(Kind.ACTIVE, "key", None, lambda new: os.makedirs(f"{new}/w/work"))

    mine.discard(entry, "w")
    mine.discard(entry, "w")

    assert os.listdir(entry.path) == ["meta"]
    assert os.listdir(tmp_path / "trash") == []


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    mine = _open(tmp_path)
    entry = mine.create(Kind.ACTIVE, "key", None, lambda new: os.mkdir(f"{new}/f"))
    deep(3000)(Path(entry.path, "f"))  # 6000 bytes of path; PATH_MAX is 4096

    mine.remove("key")

    assert os.listdir(tmp_path / "trash") == []


@pytest.mark.root
def test_an_immutable_file_does_not_stay(tmp_path: Path) -> None:
    mine = _open(tmp_path)
    entry = mine.create(Kind.ACTIVE, "key", None, lambda new: os.makedirs(f"{new}/f/folder"))
    folder = Path(entry.path, "f", "folder")
    (folder / "file").touch()
    for path in (folder / "file", folder):
        fd = os.open(path, os.O_RDONLY)
        fcntl.ioctl(fd, 0x40086602, struct.pack("i", 0x10))  # FS_IOC_SETFLAGS, FS_IMMUTABLE_FL
        os.close(fd)

    mine.remove("key")

    assert os.listdir(tmp_path / "trash") == []
    with pytest.raises(NotFound):
        mine.get("key")


@pytest.mark.root
def test_a_foreign_mount_is_not_entered(tmp_path: Path) -> None:
    foreign, root = tmp_path / "foreign data", tmp_path / "root"
    for each in (foreign, root):
        each.mkdir()
    (foreign / "precious").touch()
    mine = _open(root)
    entry = mine.create(Kind.ACTIVE, "key", None, lambda new: os.makedirs(f"{new}/f/mount point"))
    point = Path(entry.path, "f", "mount point")
    perform(Mount("bind", str(foreign)), point)
    try:
        with pytest.raises(Conflict, match="mount point is mounted"):
            mine.remove("key")
        assert mine.get("key").snapshot == Snapshot("key", Kind.ACTIVE, None)
    finally:
        unmount(point)

    mine.remove("key")

    assert (foreign / "precious").exists()


@pytest.mark.root
def test_what_is_mounted_in_the_bin_stays_until_it_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _open(tmp_path)
    point = tmp_path / "trash" / "7" / "point"
    point.mkdir(parents=True)
    perform(Mount("tmpfs", "tmpfs", ("size=64k",)), point)
    try:
        (point / "file").touch()
        _open(tmp_path)
        assert (point / "file").exists()
        assert "stays for now" in caplog.text
    finally:
        unmount(point)

    _open(tmp_path)

    assert os.listdir(tmp_path / "trash") == []
