"""What is special to btrfs: nested subvolumes, quota groups, what is read from the trees, where it declines."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from pathlib import Path

import pytest

from pyd_conformance.mounting import mounted
from pyd_conformance.trees import deep, furnish, read_tree
from pyd_contracts.context import DriverContext, read_settings
from pyd_contracts.errors import Declined, InvalidArgument, Unsupported
from pyd_contracts.markers import settings_of
from pyd_contracts.values import Kind, Snapshot, Whiteouts
from pyd_snapshots import syscalls
from pyd_snapshots.trees import DIRECTORY, opened
from pyd_storage_btrfs import kernel, quota
from pyd_storage_btrfs.driver import BtrfsDriver
from pyd_storage_btrfs.plugin import create
from pyd_storage_btrfs.subvolumes import nested

_MIB = 1 << 20


@pytest.fixture
def root(btrfs: Path) -> Path:
    (btrfs / "root").mkdir()
    return btrfs / "root"


@pytest.fixture
def driver(root: Path) -> BtrfsDriver:
    return BtrfsDriver(root, root)


def _tree(driver: BtrfsDriver, key: str) -> Path:
    return driver.storage_layer_target(key).path


def _subvolume(place: Path, name: str) -> Path:
    with opened(os.open(place, DIRECTORY)) as fd:
        kernel.subvolume_create(fd, name.encode())
    return place / name


def _subvolumes(btrfs: Path) -> int:
    """How many there are on the whole file system; a destroyed one no longer counts."""
    with opened(os.open(btrfs, DIRECTORY)) as fd:
        return len(nested(fd, 5))  # BTRFS_FS_TREE_OBJECTID


def _fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size // _MIB):
            file.write(os.urandom(_MIB))
        file.flush()
        os.fsync(file.fileno())


def _lock(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    fcntl.ioctl(fd, 0x40086602, struct.pack("i", 0x10))  # FS_IOC_SETFLAGS, FS_IMMUTABLE_FL
    os.close(fd)


# --- nested subvolumes -------------------------------------------------------------------------------------------


@pytest.mark.root
def test_nested_subvolumes_go_with_what_they_are_in(driver: BtrfsDriver, btrfs: Path) -> None:
    before = _subvolumes(btrfs)
    driver.storage_prepare("key", None, {})
    place = _tree(driver, "key")
    for depth in range(40):  # each in the one before
        place = _subvolume(place, f"inner-{depth}")
        (place / "file").write_text("content")
        _subvolume(place, "sister")
    assert _subvolumes(btrfs) == before + 81

    driver.storage_remove("key")

    assert _subvolumes(btrfs) == before
    assert os.listdir(btrfs / "root" / "trash") == []


@pytest.mark.root
def test_a_nested_subvolume_is_found_deeper_than_any_path(driver: BtrfsDriver, btrfs: Path) -> None:
    before = _subvolumes(btrfs)
    driver.storage_prepare("key", None, {})
    fd = os.open(_tree(driver, "key"), DIRECTORY)
    for _ in range(3000):  # 6000 bytes of path; PATH_MAX is 4096
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    kernel.subvolume_create(fd, b"deep")
    os.close(fd)

    driver.storage_remove("key")

    assert _subvolumes(btrfs) == before


@pytest.mark.root
def test_locked_and_sealed_subvolumes_do_not_stay(driver: BtrfsDriver, btrfs: Path) -> None:
    before = _subvolumes(btrfs)
    driver.storage_prepare("key", None, {})
    tree = _tree(driver, "key")
    (tree / "folder").mkdir()
    inner = _subvolume(tree / "folder", "inner")
    _lock(_subvolume(inner, "locked"))
    with opened(os.open(inner, DIRECTORY)) as fd:
        kernel.subvolume_read_only(fd, True)
    _lock(tree / "folder")
    _lock(tree)

    driver.storage_remove("key")

    assert _subvolumes(btrfs) == before
    assert os.listdir(btrfs / "root" / "trash") == []


@pytest.mark.root
def test_commit_keeps_nested_subvolumes_and_their_content(driver: BtrfsDriver) -> None:
    driver.storage_prepare("key", None, {})
    (_tree(driver, "key") / "var").mkdir()
    outer = _subvolume(_tree(driver, "key") / "var", "machines")
    furnish(outer)
    (_subvolume(outer, "inner") / "file").write_text("content")
    os.utime(outer.parent, ns=(10**9, 10**9))
    expected = read_tree(_tree(driver, "key"))
    driver.storage_commit("base", "key")

    driver.storage_prepare("one", "base", {})
    driver.storage_prepare("two", "base", {})
    (_tree(driver, "one") / "var/machines/inner/file").write_text("changed")

    assert read_tree(_tree(driver, "two")) == expected
    driver.storage_view("view", "base")
    with mounted(driver.storage_mounts("view")) as top:
        assert read_tree(top) == expected
        with pytest.raises(OSError, match="Read-only"):
            (top / "var/machines/new").touch()


@pytest.mark.root
def test_what_is_written_into_nested_subvolumes_is_counted(driver: BtrfsDriver) -> None:
    driver.storage_prepare("key", None, {})
    _fill(_subvolume(_tree(driver, "key"), "inner") / "data", 4 * _MIB)
    assert 4 * _MIB <= driver.storage_usage("key").bytes < 5 * _MIB
    driver.storage_commit("base", "key")

    driver.storage_prepare("next", "base", {})

    assert driver.storage_usage("next").bytes == 0


# --- usage -------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_usage_is_what_was_written_since_the_snapshot(driver: BtrfsDriver) -> None:
    driver.storage_prepare("key", None, {})
    _fill(_tree(driver, "key") / "data", 16 * _MIB)
    for number in range(500):
        (_tree(driver, "key") / f"file-{number}").write_text("content" * number)
    driver.storage_commit("base", "key")
    driver.storage_prepare("next", "base", {})
    assert driver.storage_usage("next") == driver.storage_usage("next").__class__(0, 0)

    with (_tree(driver, "next") / "data").open("r+b") as file:  # over the parent's file
        file.seek(4 * _MIB)
        file.write(os.urandom(_MIB))
        file.flush()
        os.fsync(file.fileno())
    with (_tree(driver, "next") / "new").open("wb") as file:  # not written out yet
        file.write(b"x" * 3 * _MIB)
    (_tree(driver, "next") / "file-7").unlink()
    os.truncate(_tree(driver, "next") / "file-8", 64 * _MIB)  # a hole

    usage = driver.storage_usage("next")
    assert usage.inodes == 1
    assert 4 * _MIB <= usage.bytes < 4 * _MIB + 64 * 1024


# --- differences -------------------------------------------------------------------------------------------------


def _base(driver: BtrfsDriver) -> None:
    driver.storage_prepare("k", None, {})
    furnish(_tree(driver, "k"))
    driver.storage_commit("base", "k")


def _changes(driver: BtrfsDriver, key: str) -> dict[str, str]:
    return {os.fsdecode(each.path): each.kind.name for each in driver.storage_changes(key)}


@pytest.mark.root
def test_a_file_of_the_same_size_and_time_is_told_by_its_content(driver: BtrfsDriver) -> None:
    _base(driver)
    driver.storage_prepare("key", "base", {})
    tree = _tree(driver, "key")
    for name, content in (("keep/one", b"KEEP/ONE" * 100), ("keep/two", b"keep/two" * 100)):
        before = os.stat(tree / name)
        (tree / name).unlink()
        (tree / name).write_bytes(content)
        os.utime(tree / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.link(tree / "grow", tree / "keep/grow")

    assert _changes(driver, "key") == {"": "MODIFIED", "keep": "MODIFIED", "keep/one": "MODIFIED", "keep/grow": "ADDED"}


@pytest.mark.root
def test_a_file_is_named_by_all_its_names(driver: BtrfsDriver) -> None:
    driver.storage_prepare("k", None, {})
    (_tree(driver, "k") / "file").write_text("content")
    for number in range(400):  # more than fit into one item: extended references
        (_tree(driver, "k") / f"d{number}").mkdir()
        os.link(_tree(driver, "k") / "file", _tree(driver, "k") / f"d{number}" / f"{number:0200}")
    driver.storage_commit("base", "k")
    driver.storage_prepare("key", "base", {})

    (_tree(driver, "key") / "file").write_text("another")

    assert len(_changes(driver, "key")) == 802


@pytest.mark.root
def test_changes_deeper_than_any_path(driver: BtrfsDriver) -> None:
    driver.storage_prepare("k", None, {})
    deep(1500)(_tree(driver, "k"))
    driver.storage_commit("base", "k")
    driver.storage_prepare("key", "base", {})
    fd = os.open(_tree(driver, "key"), DIRECTORY)
    for _ in range(1500):
        inner = os.open("d", DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.unlink("end", dir_fd=fd)
    os.close(fd)

    found = driver.storage_changes("key")

    assert len(list(found)) == 1502


@pytest.mark.root
def test_nested_subvolumes_are_compared_too(driver: BtrfsDriver) -> None:
    driver.storage_prepare("k", None, {})
    (_tree(driver, "k") / "var/lib").mkdir(parents=True)
    for name in ("stays", "goes", "changes"):
        furnish(_subvolume(_tree(driver, "k") / "var/lib", name))
    driver.storage_commit("base", "k")
    driver.storage_prepare("key", "base", {})
    assert _changes(driver, "key") == {}

    place = _tree(driver, "key") / "var/lib"
    (place / "changes/etc/passwd").unlink()
    with opened(os.open(place, DIRECTORY)) as fd:
        kernel.snapshot_destroy(fd, b"goes")
    (_subvolume(place, "comes") / "file").touch()

    assert _changes(driver, "key") == {
        "": "MODIFIED", "var": "MODIFIED", "var/lib": "MODIFIED", "var/lib/goes": "DELETED", "var/lib/comes": "ADDED",
        "var/lib/comes/file": "ADDED", "var/lib/changes": "MODIFIED", "var/lib/changes/etc": "MODIFIED",
        "var/lib/changes/etc/passwd": "DELETED",
    }  # fmt: skip


@pytest.mark.root
def test_only_what_changed_is_looked_at(driver: BtrfsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.storage_prepare("k", None, {})
    for number in range(200):
        (_tree(driver, "k") / f"d{number}").mkdir()
        (_tree(driver, "k") / f"d{number}" / "file").touch()
    driver.storage_commit("base", "k")
    driver.storage_prepare("key", "base", {})
    (_tree(driver, "key") / "d7" / "new").touch()
    read: list[int] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda fd: read.append(fd) or real(fd))

    assert set(_changes(driver, "key")) == {"", "d7", "d7/new"}
    assert len(read) == 4  # the top and d7, before and after


# --- quota groups ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["simple", "full"])
def limited(root: Path, request: pytest.FixtureRequest) -> BtrfsDriver:
    driver = BtrfsDriver(root, root, quotas=request.param)
    try:
        driver.storage_prepare("first", None, {"size": str(32 * _MIB)})
    except Unsupported as error:
        pytest.skip(str(error))
    driver.storage_remove("first")
    return driver


def _groups(btrfs: Path) -> set[int]:
    """Groups of ours in the quota tree."""
    with opened(os.open(btrfs, DIRECTORY)) as fd:
        span = (0, 242, 0x7079 << 48), (0, 242, (0x707A << 48) - 1)
        return {offset for _, kind, offset, _ in kernel.tree_search(fd, 8, *span) if kind == 242}


@pytest.mark.root
def test_size_bounds_what_is_written_over_a_larger_parent(limited: BtrfsDriver, btrfs: Path) -> None:
    limited.storage_prepare("key", None, {})
    _fill(_tree(limited, "key") / "data", 64 * _MIB)
    limited.storage_commit("base", "key")
    os.sync()
    limited.storage_prepare("small", "base", {"size": str(32 * _MIB)})

    _fill(_tree(limited, "small") / "fits", 8 * _MIB)
    with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
        _fill(_tree(limited, "small") / "too-much", 48 * _MIB)

    limited.storage_remove("small")
    assert _groups(btrfs) == set()


@pytest.mark.root
def test_a_nested_subvolume_is_no_way_round_the_limit(root: Path, btrfs: Path) -> None:
    driver = BtrfsDriver(root, root, quotas="simple")
    try:
        driver.storage_prepare("key", None, {"size": str(32 * _MIB)})
    except Unsupported as error:
        pytest.skip(str(error))
    inner = _subvolume(_tree(driver, "key"), "inner")
    assert len(_groups(btrfs)) == 1

    with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
        _fill(inner / "too-much", 64 * _MIB)

    driver.storage_remove("key")
    assert _groups(btrfs) == set()


@pytest.mark.root
def test_a_group_that_a_crash_left_goes_with_the_next_open(root: Path, btrfs: Path) -> None:
    driver = BtrfsDriver(root, root, quotas="simple")
    try:
        driver.storage_prepare("key", None, {"size": str(32 * _MIB)})
    except Unsupported as error:
        pytest.skip(str(error))
    with opened(os.open(root, DIRECTORY)) as fd:
        kernel.qgroup_create(fd, 0x7079 << 48 | 99999, create=True)  # no subvolume has this number
    assert len(_groups(btrfs)) == 2

    again = BtrfsDriver(root, root)

    assert len(_groups(btrfs)) == 1
    again.storage_remove("key")
    assert _groups(btrfs) == set()


@pytest.mark.root
def test_quotas_that_are_off_stay_off_when_told_so(root: Path, btrfs: Path) -> None:
    driver = BtrfsDriver(root, root, quotas="off")

    assert "size" not in driver.capabilities
    with pytest.raises(InvalidArgument, match=r"quota = \"off\""):
        driver.storage_prepare("key", None, {"size": str(32 * _MIB)})

    assert list(driver.storage_walk()) == []
    assert os.listdir(root / "new") == []
    with opened(os.open(btrfs, DIRECTORY)) as fd:
        assert quota.state(fd) is None
        kernel.quota_enable(fd, simple=False)
    BtrfsDriver(root, root, quotas="off").storage_prepare("key", None, {"size": str(32 * _MIB)})  # the operator's own


@pytest.mark.root
def test_without_simple_quotas_auto_takes_full_ones(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = kernel.quota_enable

    def before_6_7(fd: int, *, simple: bool) -> None:
        if simple:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(fd, simple=False)

    monkeypatch.setattr(kernel, "quota_enable", before_6_7)
    with pytest.raises(Unsupported, match="Linux 6.7"):
        BtrfsDriver(root, root, quotas="simple").storage_prepare("key", None, {"size": str(32 * _MIB)})

    BtrfsDriver(root, root).storage_prepare("key", None, {"size": str(32 * _MIB)})

    with opened(os.open(root, DIRECTORY)) as fd:
        assert quota.state(fd) is False


# --- opening -----------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_what_a_dying_commit_sealed_can_be_written_again(driver: BtrfsDriver, root: Path) -> None:
    driver.storage_prepare("key", None, {})
    inner = _subvolume(_tree(driver, "key"), "inner")
    for path in (inner, inner.parent):
        with opened(os.open(path, DIRECTORY)) as fd:
            kernel.subvolume_read_only(fd, True)

    again = BtrfsDriver(root, root)

    assert again.storage_stat("key") == Snapshot("key", Kind.ACTIVE, None)
    (_tree(again, "key") / "new").touch()
    (_tree(again, "key") / "inner" / "new").touch()


@pytest.mark.root
def test_a_committed_subvolume_refuses_writes_from_the_host(driver: BtrfsDriver, root: Path) -> None:
    driver.storage_prepare("key", None, {})
    tree = _tree(driver, "key")
    driver.storage_commit("base", "key")

    with pytest.raises(OSError, match="Read-only"):
        (tree / "new").touch()


@pytest.mark.root
def test_declines_elsewhere_and_says_what_to_do(tmp_path: Path) -> None:
    if syscalls.statfs_type(str(tmp_path)) == kernel.BTRFS:
        pytest.skip("the tests' own directory is on btrfs")

    with pytest.raises(Declined, match=r"not on btrfs; make one \(mkfs.btrfs"):
        BtrfsDriver(tmp_path, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.root
@pytest.mark.parametrize(("number", "reason"), [(errno.EPERM, "CAP_SYS_ADMIN"), (errno.ENOTTY, "Linux 4.18")])
def test_declines_with_the_reason(root: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str) -> None:
    def refuse(fd: int) -> kernel.Subvolume:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(kernel, "subvolume_info", refuse)

    with pytest.raises(Declined, match=reason):
        BtrfsDriver(root, root)


@pytest.mark.root
def test_settings_reach_the_driver(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(syscalls, "syncfs", written.append)
    given = read_settings(settings_of(create), {"sync": True, "quota": "off"}, "[storage.btrfs]")
    driver = create(DriverContext("btrfs", root, root, given, logging.getLogger("t")))

    driver.storage_prepare("k", None, {})
    assert driver.storage_layer_target("k").whiteouts is Whiteouts.PLAIN
    driver.storage_commit("base", "k")

    assert len(written) == 1
    with pytest.raises(InvalidArgument, match="quotas are off"):
        driver.storage_prepare("k", None, {"size": str(1 << 30)})
    with pytest.raises(InvalidArgument, match="none of auto, simple, full, off"):
        create(DriverContext("btrfs", root, root, {"quota": "maybe"}, logging.getLogger("t")))
