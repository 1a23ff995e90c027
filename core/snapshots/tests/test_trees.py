"""Trees walked without trust, what is remembered until a reboot, and what the kernel is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyd_conformance.trees import deep
from pyd_snapshots import idmaps, syscalls
from pyd_snapshots.memory import remembered
from pyd_snapshots.removal import remove_tree
from pyd_snapshots.trees import DIRECTORY, Descent, copy_attributes, descend, opened, tree_usage


def test_usage_counts_each_inode_once_and_not_the_top(tmp_path: Path) -> None:
    assert tree_usage(str(tmp_path)) == (0, 0)
    (tmp_path / "file").write_bytes(os.urandom(64 << 10))
    os.link(tmp_path / "file", tmp_path / "again")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to("/")

    size, inodes = tree_usage(str(tmp_path))

    assert inodes == 3
    assert size >= 64 << 10


def test_trees_deeper_than_any_path_are_walked_and_removed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    deep(3000)(tmp_path / "tree")  # 6000 bytes of path; PATH_MAX is 4096

    assert tree_usage(str(tmp_path / "tree"))[1] == 3001
    with opened(os.open(tmp_path, DIRECTORY)) as top, Descent(top) as descent:
        path = b"tree/" + b"/".join([b"d"] * 3000)
        with opened(descend(top, path)) as far:
            assert os.listdir(far) == os.listdir(descent.open(path)) == ["end"]
        assert os.listdir(descent.open(b"tree/d")) == ["d"]
        remove_tree(top, "tree")
    assert os.listdir(tmp_path) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    with opened(os.open(tmp_path, DIRECTORY)) as top, Descent(top) as descent:
        for path in (b"link", b"real/../link"):
            with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
                descend(top, path)
        with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
            descent.open(b"link")
        assert os.listdir(descent.open(b"real")) == [], "it goes on after a refusal"


@pytest.mark.root
def test_attributes_are_copied_but_for_marks(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    os.chown(source, 7, 8)
    source.chmod(0o3751)
    os.setxattr(source, "trusted.overlay.opaque", b"y")
    os.setxattr(source, "trusted.mine", b"yes")
    os.utime(source, ns=(10**18 + 1, 10**18 + 2))

    copy_attributes(str(source), str(target), but=("trusted.overlay.",))

    made = target.stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (7, 8, 0o3751)
    assert (made.st_atime_ns, made.st_mtime_ns) == (10**18 + 1, 10**18 + 2)
    assert os.listxattr(target) == ["trusted.mine"]
    copy_attributes(str(source), str(target))
    assert sorted(os.listxattr(target)) == ["trusted.mine", "trusted.overlay.opaque"]


def test_answers_are_remembered_for_the_same_question_only(tmp_path: Path) -> None:
    asked: list[int] = []

    def find() -> dict[str, bool]:
        asked.append(1)
        return {"works": True}

    place = tmp_path / "answer"
    odd = {"root": "/a b\n\udcff", "device": 1}
    for _ in range(2):
        assert remembered(place, odd, find) == {"works": True}
    assert len(asked) == 1
    assert os.listdir(tmp_path) == ["answer"]

    remembered(place, {**odd, "device": 2}, find)
    assert len(asked) == 2
    for content in (b"", b"[]", b"{}", b"\xff"):
        place.write_bytes(content)
        assert remembered(place, odd, find) == {"works": True}
    assert len(asked) == 6


def test_what_was_not_found_out_is_not_remembered(tmp_path: Path) -> None:
    def fail() -> bool:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        remembered(tmp_path / "answer", {}, fail)
    assert os.listdir(tmp_path) == []


@pytest.mark.root
def test_id_maps_are_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    answer = idmaps.supported(str(tmp_path), tmp_path)
    monkeypatch.setattr(idmaps, "other_user_namespace", lambda: pytest.fail("asked again"))

    assert idmaps.supported(str(tmp_path), tmp_path) == answer
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_without_user_namespaces_there_are_no_id_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert not idmaps.supported(str(tmp_path), tmp_path)


@pytest.mark.root
def test_detached_mounts_are_made_and_refusals_explained(tmp_path: Path) -> None:
    fs = syscalls.fsopen("tmpfs")
    with opened(fs):
        for option in ("source=mine", "size=64k"):
            syscalls.fsconfig_option(fs, option)
        with pytest.raises(OSError, match=r"mount option no-such=1: Invalid argument \(.*no-such"):
            syscalls.fsconfig_option(fs, "no-such=1")
        syscalls.fsconfig_create(fs, "tmpfs")
        with opened(syscalls.fsmount(fs, "tmpfs")) as mount:
            top = f"/proc/self/fd/{mount}"
            assert syscalls.statfs_type(top) == 0x01021994  # TMPFS_MAGIC
            syscalls.whiteout(f"{top}/gone")
            assert os.stat(f"{top}/gone").st_rdev == 0
    with pytest.raises(FileNotFoundError, match="open_tree /no/such"):
        syscalls.open_tree_clone("/no/such")
