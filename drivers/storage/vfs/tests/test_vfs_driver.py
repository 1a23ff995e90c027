"""What is special to vfs: how content is copied, and what happens when a copy fails half-way."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance.trees import deep, furnish, read_tree
from pyd_contracts.context import DriverContext, read_settings
from pyd_contracts.errors import Declined, PydError, ResourceExhausted
from pyd_contracts.markers import settings_of
from pyd_contracts.values import Whiteouts
from pyd_snapshots import syscalls
from pyd_storage_vfs import driver
from pyd_storage_vfs.copying import copy_tree
from pyd_storage_vfs.driver import VfsDriver
from pyd_storage_vfs.plugin import create


def _pair(top: Path) -> tuple[Path, Path]:
    source, target = top / "source", top / "target"
    source.mkdir()
    target.mkdir()
    return source, target


@pytest.fixture(params=["btrfs", "xfs"])
def sharing(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system that can reflink, of 512 MiB."""
    kind = request.param
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not installed (package {kind}progs or {kind}-progs)")
    image, point = tmp_path / "image", tmp_path / kind
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(512 << 20)
    subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", str(image), str(point)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop mount of {kind} here: {done.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


@pytest.mark.root
def test_a_copy_equals_its_source(tmp_path: Path) -> None:
    source, target = _pair(tmp_path)
    furnish(source)

    copy_tree(str(source), str(target))

    assert read_tree(target) == read_tree(source)


@pytest.mark.root
def test_where_the_kernel_cannot_copy_ranges_sendfile_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> int:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    source, target = _pair(tmp_path)
    furnish(source)
    (source / "big").write_bytes(os.urandom(3 << 20))
    monkeypatch.setattr(os, "copy_file_range", refuse)

    copy_tree(str(source), str(target))

    assert read_tree(target) == read_tree(source)
    assert os.stat(target / "var/hole").st_blocks * 512 < 1 << 20


@pytest.mark.root
def test_holes_at_the_start_and_the_end_are_kept(tmp_path: Path) -> None:
    source, target = _pair(tmp_path)
    with open(source / "hole", "wb") as file:
        file.seek(8 << 20)
        file.write(b"data")
        file.truncate(32 << 20)
    with open(source / "nothing", "wb") as file:
        file.truncate(16 << 20)

    copy_tree(str(source), str(target))

    assert read_tree(target) == read_tree(source)
    assert os.stat(target / "hole").st_blocks * 512 < 1 << 20
    assert os.stat(target / "nothing").st_blocks == 0


@pytest.mark.root
def test_blocks_are_shared_where_the_file_system_can(sharing: Path) -> None:
    (sharing / "root").mkdir()
    vfs = VfsDriver(sharing / "root", sharing)
    vfs.storage_prepare("k", None, {})
    (vfs.storage_layer_target("k").path / "big").write_bytes(os.urandom(24 << 20))
    vfs.storage_commit("base", "k")
    os.sync()
    before = os.statvfs(sharing).f_bavail

    for number in range(24):  # twenty-four times 24 MiB would not fit
        vfs.storage_prepare(f"copy-{number}", "base", {})

    copy = vfs.storage_layer_target("copy-23").path / "big"
    assert copy.read_bytes() == (root_of(vfs, sharing) / "big").read_bytes()
    fd = os.open(sharing, os.O_RDONLY)
    syscalls.syncfs(fd)
    os.close(fd)
    assert before - os.statvfs(sharing).f_bavail < (8 << 20) // os.statvfs(sharing).f_frsize


def root_of(vfs: VfsDriver, sharing: Path) -> Path:
    """The committed tree, as a view shows it."""
    (mount,) = vfs.storage_view("look", "base")
    assert mount.source.startswith(str(sharing))
    return Path(mount.source)


@pytest.mark.root
def test_a_tree_deeper_than_any_path_is_copied_counted_and_removed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    vfs = VfsDriver(tmp_path / "root", tmp_path)
    vfs.storage_prepare("k", None, {})
    deep(3000)(vfs.storage_layer_target("k").path)  # 6000 bytes of path; PATH_MAX is 4096
    vfs.storage_commit("deep", "k")

    vfs.storage_prepare("copy", "deep", {})

    assert vfs.storage_usage("copy").inodes == vfs.storage_usage("deep").inodes == 3001
    vfs.storage_remove("copy")
    vfs.storage_remove("deep")
    assert os.listdir(tmp_path / "root" / "trash") == []


@pytest.mark.root
def test_a_full_disk_leaves_nothing_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    vfs = VfsDriver(tmp_path / "root", tmp_path)
    vfs.storage_prepare("k", None, {})
    furnish(vfs.storage_layer_target("k").path)
    vfs.storage_commit("base", "k")

    def full(source: str, target: str) -> None:
        copy_tree(source, target)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(driver, "copy_tree", full)

    with pytest.raises(ResourceExhausted, match="make active snapshot key"):
        vfs.storage_prepare("key", "base", {})
    assert os.listdir(tmp_path / "root" / "new") == []
    assert {entry.name for entry in vfs.storage_walk()} == {"base"}


@pytest.mark.root
def test_a_parent_stays_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    vfs = VfsDriver(tmp_path / "root", tmp_path)
    vfs.storage_prepare("k", None, {})
    vfs.storage_commit("base", "k")
    refusals = []

    def meddle(source: str, target: str) -> None:
        with pytest.raises(PydError) as refused:
            vfs.storage_remove("base")
        refusals.append(refused.value.kind)
        copy_tree(source, target)

    monkeypatch.setattr(driver, "copy_tree", meddle)
    vfs.storage_prepare("key", "base", {})

    assert refusals == ["failed-precondition"]


@pytest.mark.root
def test_settings_reach_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(syscalls, "syncfs", written.append)
    settings = read_settings(settings_of(create), {"sync": True}, "[storage.vfs]")
    vfs = create(DriverContext("vfs", tmp_path, tmp_path, settings, logging.getLogger("t")))
    vfs.storage_prepare("k", None, {})
    assert vfs.storage_layer_target("k").whiteouts is Whiteouts.PLAIN

    vfs.storage_commit("base", "k")

    assert len(written) == 1


def test_declines_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(Declined, match="uid 1000"):
        VfsDriver(tmp_path, tmp_path)
