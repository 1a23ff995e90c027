"""What is special to overlay: options, old kernels, odd paths, roots that overlayfs refuses."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyd_conformance.mounting import mounted, perform, unmount
from pyd_contracts.context import DriverContext, read_settings
from pyd_contracts.errors import Declined, InvalidArgument, Unsupported
from pyd_contracts.markers import settings_of
from pyd_contracts.values import Mount, Whiteouts
from pyd_snapshots import syscalls
from pyd_storage_overlay import driver
from pyd_storage_overlay.driver import OverlayDriver
from pyd_storage_overlay.options import check_options
from pyd_storage_overlay.plugin import create


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "run").mkdir()
    return tmp_path / "root"


def _open(root: Path, *options: str) -> OverlayDriver:
    return OverlayDriver(root, root.parent / "run", options=options)


def _layers(overlay: OverlayDriver, count: int) -> str:
    parent = None
    for number in range(count):
        overlay.storage_prepare("k", parent, {})
        (overlay.storage_layer_target("k").path / f"file-{number}").write_text(str(number))
        parent = overlay.storage_commit(f"layer-{number}", "k").name
    assert parent is not None
    return parent


def _listing(overlay: OverlayDriver, key: str) -> list[str]:
    with mounted(overlay.storage_mounts(key)) as top:
        return sorted(os.listdir(top))


def _old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before Linux 6.5: no lowerdir+."""
    real = syscalls.fsconfig_option

    def refuse(fd: int, option: str) -> None:
        if option.startswith("lowerdir+="):
            raise OSError(errno.EINVAL, "Unknown parameter 'lowerdir+'")
        real(fd, option)

    monkeypatch.setattr(syscalls, "fsconfig_option", refuse)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["metacpy=on"], "did you mean 'metacopy'"),
        (["lowerdir=/etc"], "unknown option"),
        (["index=maybe"], "index takes off or on"),
        (["volatile=1"], "takes no value"),
        (["xino"], "xino takes"),
        (["index=on", "index=off"], "given twice"),
    ],
)
def test_faulty_options_are_named(options: list[str], fault: str) -> None:
    with pytest.raises(InvalidArgument, match=fault):
        check_options(options)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidArgument, match=r"'a'.*'b'"):
        check_options(["a", "b"])


@pytest.mark.root
def test_settings_reach_the_driver(root: Path) -> None:
    given = read_settings(settings_of(create), {"options": ["metacopy=on"], "sync": True}, "[storage.overlay]")
    overlay = create(DriverContext("overlay", root, root.parent / "run", given, logging.getLogger("t")))

    parent = _layers(overlay, 2)  # sync is on: each commit writes out
    (mount,) = overlay.storage_prepare("key", parent, {})

    assert "metacopy=on" in mount.options


@pytest.mark.root
def test_lowers_are_items_of_their_own_topmost_first(root: Path) -> None:
    overlay = _open(root)
    (mount,) = overlay.storage_prepare("key", _layers(overlay, 3), {})

    lowers = [Path(x.removeprefix("lowerdir+=")) for x in mount.options if x.startswith("lowerdir+=")]
    assert [sorted(os.listdir(lower)) for lower in lowers] == [["file-2"], ["file-1"], ["file-0"]]
    assert "index=off" in mount.options


@pytest.mark.root
def test_the_probe_says_it_as_old_kernels_want_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _old_kernel(monkeypatch)

    overlay = _open(root)

    (mount,) = overlay.storage_prepare("key", _layers(overlay, 2), {})
    assert sum(option.startswith("lowerdir+=") for option in mount.options) == 2


@pytest.mark.root
def test_an_odd_root_works(tmp_path: Path) -> None:
    odd = tmp_path / "a:b,c\\d\ne" / ("n" * 200)
    (odd / "root").mkdir(parents=True)
    (odd / "run").mkdir()
    overlay = _open(odd / "root")

    overlay.storage_prepare("key", _layers(overlay, 3), {})

    assert _listing(overlay, "key") == ["file-0", "file-1", "file-2"]


@pytest.mark.root
@pytest.mark.parametrize("old", [False, True])
def test_as_many_layers_as_overlayfs_stacks(tmp_path: Path, old: bool) -> None:
    """Five hundred, in a place with a long and odd name, performed as workers and containers perform it."""
    odd = tmp_path / "a:b,c\\d e" / ("n" * 200)
    (odd / "root").mkdir(parents=True)
    (odd / "run").mkdir()
    (odd / "m").mkdir()
    overlay = _open(odd / "root")
    (mount,) = overlay.storage_prepare("key", _layers(overlay, 500), {})
    (view,) = overlay.storage_view("view", "layer-499")

    for each in (mount, view):
        options = [option for option in each.options if option != "ro"]
        code = (
            "import json, os, sys; from pyd_shim.overlay import mount_overlay; from pyd_shim import kernel;"
            "kernel.unshare(kernel.CLONE_NEWNS); kernel.mount('', '/', None, kernel.MS_REC | kernel.MS_PRIVATE);"
            "target, options, attributes, old = json.load(sys.stdin);"
            "fd = mount_overlay('overlay', target, options, attributes, old=old);"
            "print(fd < 0 or not old, len(os.listdir(target if fd < 0 else f'/proc/self/fd/{fd}')))"
        )
        asked = json.dumps([str(odd / "m"), options, 1 if "ro" in each.options else 0, old])
        done = subprocess.run([sys.executable, "-c", code], input=asked, capture_output=True, text=True)
        assert done.stdout == "True 500\n", done.stderr


@pytest.mark.root
def test_more_layers_than_overlayfs_stacks_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_LAYERS_MAX", 3)
    overlay = _open(root)
    parent = _layers(overlay, 3)
    overlay.storage_prepare("k", parent, {})
    overlay.storage_commit("fourth", "k")

    with pytest.raises(Unsupported, match="4 layers, and overlayfs stacks 3 at most"):
        overlay.storage_view("view", "fourth")
    with pytest.raises(Unsupported):
        overlay.storage_prepare("key", "fourth", {})
    assert os.listdir(root / "new") == []


@pytest.mark.root
def test_without_fsopen_the_probe_mounts_in_a_namespace_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fsopen(kind: str) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(syscalls, "fsopen", no_fsopen)
    before = os.readlink("/proc/self/ns/mnt"), Path("/proc/self/mountinfo").read_bytes().count(b"pytest")

    overlay = _open(root)
    (mount,) = overlay.storage_prepare("key", _layers(overlay, 2), {})

    assert mount.type == "overlay"
    assert (os.readlink("/proc/self/ns/mnt"), Path("/proc/self/mountinfo").read_bytes().count(b"pytest")) == before


@pytest.mark.root
@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENODEV, "no overlayfs in this kernel"), (errno.EPERM, "CAP_SYS_ADMIN")]
)
def test_declines_with_the_reason(root: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str) -> None:
    def refuse(kind: str) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(syscalls, "fsopen", refuse)

    with pytest.raises(Declined, match=reason):
        _open(root)
    assert os.listdir(root / "new") == []


@pytest.mark.root
def test_declines_where_whiteouts_show_through(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "whiteout", lambda path: Path(path).touch())

    with pytest.raises(Declined, match="d_type"):
        _open(root)


@pytest.mark.root
def test_declines_on_an_overlay(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged", "run"):
        (tmp_path / name).mkdir()
    options = tuple(f"{key}={tmp_path}/{name}" for key, name in
                    (("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")))  # fmt: skip
    perform(Mount("overlay", "overlay", options), tmp_path / "merged")
    try:
        with pytest.raises(Declined, match="lies on an overlay"):
            OverlayDriver(tmp_path / "merged", tmp_path / "run")
    finally:
        unmount(tmp_path / "merged")


@pytest.mark.root
def test_the_probe_is_remembered_for_the_same_question_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = syscalls.fsopen

    def count(kind: str) -> int:
        asked.append(kind)
        return real(kind)

    monkeypatch.setattr(syscalls, "fsopen", count)
    _open(root)
    first = len(asked)
    _open(root)
    assert len(asked) == first > 0

    _open(root, "metacopy=on")

    assert len(asked) > first


@pytest.mark.root
def test_a_volatile_snapshot_is_mounted_again(root: Path) -> None:
    overlay = _open(root, "volatile")
    overlay.storage_prepare("key", _layers(overlay, 2), {})

    assert _listing(overlay, "key") == _listing(overlay, "key") == ["file-0", "file-1"]
    (view,) = overlay.storage_view("view", "layer-1")
    assert "volatile" not in view.options


@pytest.mark.root
def test_marks_in_layers_outlive_the_option(root: Path) -> None:
    overlay = _open(root, "redirect_dir=on", "metacopy=on")
    overlay.storage_prepare("k", None, {})
    target = overlay.storage_layer_target("k").path
    (target / "dir").mkdir()
    (target / "dir" / "file").write_text("content")
    overlay.storage_commit("base", "k")
    overlay.storage_prepare("k", "base", {})
    with mounted(overlay.storage_mounts("k")) as top:
        (top / "dir").rename(top / "moved")
        (top / "moved" / "file").chmod(0o600)
    overlay.storage_commit("marked", "k")

    plain = _open(root)
    plain.storage_prepare("key", "marked", {})
    plain.storage_view("view", "marked")

    for key in ("key", "view"):
        with mounted(plain.storage_mounts(key)) as top:
            assert (top / "moved" / "file").read_text() == "content"
            assert not (top / "dir").exists()


@pytest.mark.root
def test_an_opaque_root_hides_all_below(root: Path) -> None:
    overlay = _open(root)
    parent = _layers(overlay, 2)
    overlay.storage_prepare("k", parent, {})
    target = overlay.storage_layer_target("k")
    assert target.whiteouts is Whiteouts.OVERLAY
    os.setxattr(target.path, "trusted.overlay.opaque", b"y")
    (target.path / "alone").touch()
    overlay.storage_commit("opaque", "k")

    overlay.storage_prepare("key", "opaque", {})
    overlay.storage_view("view", "opaque")

    assert _listing(overlay, "key") == _listing(overlay, "view") == ["alone"]
    with mounted(overlay.storage_mounts("key")) as top:
        assert os.listxattr(top) == []
