"""What is special to aufs: how branches are told, and where it declines."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from pyd_contracts.context import DriverContext, read_settings
from pyd_contracts.errors import Declined, InvalidArgument, Unsupported
from pyd_contracts.markers import settings_of
from pyd_contracts.values import Mount
from pyd_snapshots import syscalls
from pyd_storage_aufs import driver, kernel
from pyd_storage_aufs.driver import AufsDriver
from pyd_storage_aufs.plugin import create


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver's root on a kernel that says it has aufs."""
    monkeypatch.setattr(kernel, "file_systems", lambda: {"ext4", "aufs"})
    for name in ("root", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path / "root"


def _layers(aufs: AufsDriver, count: int) -> str:
    parent = None
    for number in range(count):
        aufs.storage_prepare("k", parent, {})
        parent = aufs.storage_commit(f"layer-{number}", "k").name
    assert parent is not None
    return parent


@pytest.mark.root
def test_branches_are_options_of_their_own_topmost_first(root: Path) -> None:
    aufs = AufsDriver(root, root.parent / "run")
    parent = _layers(aufs, 3)

    (mount,) = aufs.storage_prepare("key", parent, {})
    (view,) = aufs.storage_view("view", parent)
    (low,) = aufs.storage_view("low", "layer-0")
    (first,) = aufs.storage_prepare("first", None, {})

    entries = [path for path in root.iterdir() if path.name.isdecimal()]
    places = {os.readlink(path / "meta").split()[2]: path / "f" for path in entries}
    top, *lower = (places[name] for name in ("layer-2", "layer-1", "layer-0"))
    below = [f"append:{each}=ro+wh" for each in lower]
    number = places["key"].parent.name
    assert mount.type == view.type == "aufs"
    assert list(mount.options) == [
        f"br:{places['key']}=rw", f"append:{top}=ro+wh", *below, "dio", "dirperm1", f"xino={root.parent}/run/{number}.xino",
    ]  # fmt: skip
    assert list(view.options) == [f"br:{top}=ro+wh", *below, "noxino", "ro"]
    assert low == Mount("bind", str(places["layer-0"]), ("rbind", "ro"))
    assert first == Mount("bind", str(places["first"]), ("rbind", "rw"))


@pytest.mark.root
def test_more_branches_than_aufs_stacks_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_BRANCHES_MAX", 3)
    aufs = AufsDriver(root, root.parent / "run")
    parent = _layers(aufs, 3)

    with pytest.raises(Unsupported, match="4 branches, and aufs stacks 3 at most"):
        aufs.storage_prepare("key", parent, {})
    with pytest.raises(Unsupported):
        aufs.storage_view("view", parent)
    assert os.listdir(root / "new") == []


@pytest.mark.root
def test_settings_reach_the_driver(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(syscalls, "syncfs", written.append)
    given = read_settings(settings_of(create), {"sync": True}, "[storage.aufs]")
    aufs = create(DriverContext("aufs", root, root.parent / "run", given, logging.getLogger("t")))

    _layers(aufs, 2)

    assert len(written) == 2
    with pytest.raises(InvalidArgument, match="limits of size need another storage driver"):
        aufs.storage_prepare("key", None, {"size": "67108864"})


def test_declines_without_aufs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "file_systems", lambda: {"ext4", "overlay"})

    with pytest.raises(Declined, match="no aufs in this kernel"):
        AufsDriver(tmp_path, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("odd", ["a:b", "a,b", "a=b", "a+b"])
def test_declines_paths_that_cannot_be_said(root: Path, odd: str) -> None:
    with pytest.raises(Declined, match="takes no path with"):
        AufsDriver(root / odd, root.parent / "run")
