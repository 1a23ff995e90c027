"""What is special to fuse-overlayfs: its program, how it is told of layers, where it declines."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance.mounting import mounted
from pyd_contracts.context import DriverContext, read_settings
from pyd_contracts.errors import Declined, InvalidArgument
from pyd_contracts.markers import settings_of
from pyd_contracts.values import Mount, Whiteouts
from pyd_snapshots import syscalls
from pyd_storage_fuse_overlayfs import kernel, probe
from pyd_storage_fuse_overlayfs.driver import FuseOverlayfsDriver
from pyd_storage_fuse_overlayfs.plugin import create

needs_program = pytest.mark.skipif(shutil.which("fuse-overlayfs") is None, reason="fuse-overlayfs is not installed")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("root", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path / "root"


def _open(root: Path) -> FuseOverlayfsDriver:
    return FuseOverlayfsDriver(root, root.parent / "run")


def _layers(driver: FuseOverlayfsDriver, count: int) -> str:
    parent = None
    for number in range(count):
        driver.storage_prepare("k", parent, {})
        (driver.storage_layer_target("k").path / f"file-{number}").write_text(str(number))
        parent = driver.storage_commit(f"layer-{number}", "k").name
    assert parent is not None
    return parent


@pytest.mark.root
@needs_program
def test_mounts_name_the_program_and_the_layers_topmost_first(root: Path) -> None:
    driver = _open(root)
    parent = _layers(driver, 3)

    (mount,) = driver.storage_prepare("key", parent, {})
    (view,) = driver.storage_view("view", parent)

    upper = str(driver.storage_layer_target("key").path.parent)
    lowers = "lowerdir=" + ":".join(str(next(root.glob(f"*/f/file-{number}")).parent) for number in (2, 1, 0))
    assert mount == Mount(
        "fuse.fuse-overlayfs", "fuse-overlayfs", (lowers, f"upperdir={upper}/f", f"workdir={upper}/w")
    )
    assert view == Mount("fuse.fuse-overlayfs", "fuse-overlayfs", (lowers, "ro"))


@pytest.mark.root
@needs_program
def test_no_program_runs_for_what_one_directory_holds(root: Path) -> None:
    driver = _open(root)

    first = driver.storage_prepare("first", None, {})
    view = driver.storage_view("view", _layers(driver, 1))

    assert [mount.type for mount in (*first, *view)] == ["bind", "bind"]


@pytest.mark.root
@needs_program
def test_three_hundred_layers(root: Path) -> None:
    driver = _open(root)
    driver.storage_prepare("key", _layers(driver, 300), {})

    with mounted(driver.storage_mounts("key")) as top:
        assert len(os.listdir(top)) == 300


@pytest.mark.root
@needs_program
def test_an_odd_root_works(root: Path) -> None:
    odd = root / "a,b\\c d\n" / "root"
    odd.mkdir(parents=True)
    driver = FuseOverlayfsDriver(odd, root.parent / "run")
    driver.storage_prepare("key", _layers(driver, 2), {})

    with mounted(driver.storage_mounts("key")) as top:
        assert sorted(os.listdir(top)) == ["file-0", "file-1"]


@pytest.mark.root
@needs_program
def test_an_opaque_root_hides_all_below(root: Path) -> None:
    driver = _open(root)
    driver.storage_prepare("k", _layers(driver, 2), {})
    target = driver.storage_layer_target("k")
    assert target.whiteouts is Whiteouts.OVERLAY
    os.setxattr(target.path, "trusted.overlay.opaque", b"y")
    (target.path / "alone").touch()
    driver.storage_commit("opaque", "k")

    driver.storage_prepare("key", "opaque", {})

    with mounted(driver.storage_mounts("key")) as top:
        assert os.listdir(top) == ["alone"]


@pytest.mark.root
@needs_program
def test_the_probe_is_remembered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _open(root)
    monkeypatch.setattr(kernel, "fuse_mount", lambda _options: pytest.fail("asked again"))

    _open(root)


@pytest.mark.root
@needs_program
def test_declines_when_the_program_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def broken(command: list[str], **keywords: Any) -> subprocess.Popen[bytes]:
        return real(["sh", "-c", "echo out of order >&2; exit 1"], **keywords)

    monkeypatch.setattr(probe.subprocess, "Popen", broken)

    with pytest.raises(Declined, match=r"cannot list a directory: .* \(out of order\)"):
        _open(root)
    assert os.listdir(root / "new") == []


@pytest.mark.root
def test_declines_without_the_program(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    with pytest.raises(Declined, match="apt-get install fuse-overlayfs"):
        _open(root)


@pytest.mark.root
@needs_program
def test_declines_a_root_with_a_colon(root: Path) -> None:
    (root / "a:b").mkdir()

    with pytest.raises(Declined, match="separates its layers by colons"):
        FuseOverlayfsDriver(root / "a:b", root.parent / "run")


@pytest.mark.root
@needs_program
def test_settings_reach_the_driver(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(syscalls, "syncfs", written.append)
    given = read_settings(settings_of(create), {"sync": True}, "[storage.fuse-overlayfs]")
    driver = create(DriverContext("fuse-overlayfs", root, root.parent / "run", given, logging.getLogger("t")))

    _layers(driver, 2)

    assert len(written) == 2
    with pytest.raises(InvalidArgument, match="limits of size need another storage driver"):
        driver.storage_prepare("key", None, {"size": "67108864"})
