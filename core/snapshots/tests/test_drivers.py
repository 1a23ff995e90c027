"""The bases of drivers, under the smallest drivers that stand on them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pyd_contracts.errors import FailedPrecondition, InvalidArgument
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, Mount, Snapshot, Usage, Whiteouts
from pyd_snapshots import syscalls
from pyd_snapshots.catalog import Entry
from pyd_snapshots.drivers import DirectoryDriver, StackedDriver, TreeDriver, refuse_options
from pyd_snapshots.overlaid import OverlaidDriver


class _Prepares(DirectoryDriver):
    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        refuse_options("least", key, options)

        def fill(new: str) -> None:
            os.mkdir(f"{new}/f")
            os.mkdir(f"{new}/w")

        return self._mounts(self._catalog.create(Kind.ACTIVE, key, parent, fill))


class Trees(_Prepares, TreeDriver):
    """Trees that are all empty."""


class Stacked(_Prepares, StackedDriver):
    """Layers in a union that tells its parts."""

    def _union(self, entry: Entry, layers: Sequence[str]) -> Mount:
        return Mount("union", entry.snapshot.name, tuple(layers))


class Overlaid(_Prepares, OverlaidDriver):
    """The same with overlayfs' marks."""

    def _union(self, entry: Entry, layers: Sequence[str]) -> Mount:
        return Mount("union", entry.snapshot.name, tuple(layers))


def _stack(driver: Stacked | Overlaid, count: int) -> None:
    """Entries ``base-0`` and up, each on the one before, whose directories are 1, 3, 5 ..."""
    parent = None
    for number in range(count):
        driver.storage_prepare("k", parent, {})
        parent = driver.storage_commit(f"base-{number}", "k").name


def test_options_are_refused_with_a_hint() -> None:
    refuse_options("least", "key", {})
    with pytest.raises(InvalidArgument, match="least knows no option colour, shape$"):
        refuse_options("least", "key", {"shape": "", "colour": ""})
    with pytest.raises(InvalidArgument, match="limits of size need another storage driver"):
        refuse_options("least", "key", {"size": "1"})


def test_a_view_of_a_tree_is_the_parents_own(tmp_path: Path) -> None:
    driver = Trees(tmp_path)
    assert driver.storage_prepare("k", None, {}) == (Mount("bind", f"{tmp_path}/1/f", ("rbind", "rw")),)
    assert driver.storage_layer_target("k").path == tmp_path / "1" / "f"
    assert driver.storage_layer_target("k").whiteouts is Whiteouts.PLAIN
    driver.storage_commit("base", "k")

    view = driver.storage_view("view", "base")

    assert view == driver.storage_mounts("view") == (Mount("bind", f"{tmp_path}/1/f", ("rbind", "ro")),)
    assert set(driver.storage_walk()) == {Snapshot("base", Kind.COMMITTED, None), Snapshot("view", Kind.VIEW, "base")}
    assert driver.storage_usage("view") == Usage(0, 0)


def test_what_kinds_cannot_do_is_refused(tmp_path: Path) -> None:
    driver = Trees(tmp_path)
    driver.storage_prepare("k", None, {})
    driver.storage_commit("base", "k")

    with pytest.raises(FailedPrecondition, match="prepare or view something on it"):
        driver.storage_mounts("base")
    with pytest.raises(FailedPrecondition, match="only active snapshots take layers"):
        driver.storage_layer_target("base")


def test_a_commit_is_written_out_where_that_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(syscalls, "syncfs", lambda fd: written.append(os.readlink(f"/proc/self/fd/{fd}")))
    for sync in (False, True):
        driver = Trees(tmp_path, sync=sync)
        driver.storage_prepare("k", None, {})
        driver.storage_commit(f"base-{sync}", "k")

    assert written == [str(tmp_path)]


def test_layers_are_told_topmost_first(tmp_path: Path) -> None:
    driver = Stacked(tmp_path)
    _stack(driver, 3)
    layers = tuple(f"{tmp_path}/{number}/f" for number in (5, 3, 1))

    assert driver.storage_prepare("key", "base-2", {}) == (Mount("union", "key", layers),)
    assert driver.storage_view("view", "base-2") == (Mount("union", "view", layers),)
    assert driver.storage_view("low", "base-0") == (Mount("bind", layers[2], ("rbind", "ro")),)
    assert driver.storage_prepare("first", None, {})[0].type == "bind"


@pytest.mark.root
def test_an_opaque_root_hides_all_below(tmp_path: Path) -> None:
    driver = Overlaid(tmp_path)
    _stack(driver, 3)
    os.setxattr(tmp_path / "3" / "f", "trusted.overlay.opaque", b"y")

    (mount,) = driver.storage_prepare("key", "base-2", {})

    assert mount.options == (f"{tmp_path}/5/f", f"{tmp_path}/3/f")
    assert driver.storage_layer_target("key").whiteouts is Whiteouts.OVERLAY


def test_work_directories_end_with_the_commit_or_the_next_open(tmp_path: Path) -> None:
    driver = Overlaid(tmp_path)
    _stack(driver, 1)
    assert sorted(os.listdir(tmp_path / "1")) == ["f", "meta"]
    (tmp_path / "1" / "w").mkdir()
    driver.storage_prepare("key", "base-0", {})

    Overlaid(tmp_path)._discard_work()

    assert sorted(os.listdir(tmp_path / "1")) == ["f", "meta"]
    assert sorted(os.listdir(tmp_path / "3")) == ["f", "meta", "w"]
