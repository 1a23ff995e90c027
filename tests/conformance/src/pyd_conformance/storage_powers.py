"""The storage suite's fourth part: what a driver declares beyond the nine hooks, and that it declares no more."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest

from pyd_conformance.clauses import clause, needs
from pyd_conformance.idmaps import id_mapped
from pyd_conformance.storage_stage import Stage
from pyd_conformance.trees import (
    Change,
    apply_changes,
    difference,
    edit,
    furnish,
    layer,
    mutate,
    overwrite,
    rename_directories,
)
from pyd_contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.storage import CAPABILITIES, DiffSource, Reclaiming, Releasing
from pyd_contracts.values import ChangeKind, Kind, Snapshot

__all__ = ["StoragePowers", "blob"]

_SIZE = 64 << 20
_LOOKING = ("scandir", "listdir", "stat", "lstat", "walk", "fwalk", "open")


def blob(name: str, size: int) -> Change:
    """A change that writes *size* bytes that do not compress."""

    def change(top: Path) -> None:
        with open(top / name, "wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())  # blocks are counted once they are given out

    return change


class StoragePowers:
    """Clauses about capabilities; collected as a part of StorageContract."""

    capabilities: frozenset[str] = frozenset()

    @clause("STO-7", "the class declares what the driver declares, in known words, and hooks come with their word")
    def test_capabilities_are_declared(self, stage: Stage) -> None:
        declared = getattr(stage.driver, "capabilities", None)

        if declared is None:  # a relay's caller shows hooks only
            return
        assert declared == self.capabilities
        assert set(declared) <= set(CAPABILITIES), f"unknown words; known: {sorted(CAPABILITIES)}"
        for word, contract in CAPABILITIES.items():
            for hook in [name for name in vars(contract or object) if name.startswith("storage_")]:
                assert callable(getattr(stage.driver, hook, None)) == (word in declared), f"{hook} and {word}"

    # --- native-diff -------------------------------------------------------------------------------------------

    @pytest.mark.root
    @needs("native-diff")
    @pytest.mark.parametrize(
        "change",
        [edit, overwrite, rename_directories, *map(mutate, range(5))],
        ids=["edit", "overwrite", "rename", *(f"random-{seed}" for seed in range(5))],
    )
    @clause("STO-65", "diff, then apply, is identity: against a plain directory")
    @clause("STO-66", "exactly what changed, parents first, nothing twice")
    def test_changes_make_the_entry_of_its_parent(self, stage: Stage, change: Change) -> None:
        stage.layer("base", None, furnish)
        stage.driver.storage_prepare(key="key", parent="base", options={})
        stage.write("key", change)

        self._compare(stage, "key", "base", (furnish,))
        stage.reopen()
        stage.driver.storage_commit(name="name", key="key")
        self._compare(stage, "name", "base", (furnish,))

    @pytest.mark.root
    @needs("native-diff")
    @clause("STO-65", "also over several layers, mounted")
    def test_changes_over_layers(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        stage.layer("middle", "base", edit)
        stage.layer("upper", "middle", layer(1))
        stage.driver.storage_prepare(key="key", parent="upper", options={})
        with stage.open("key") as top:
            layer(2)(top)
            overwrite(top)

            found = list(self._source(stage).storage_changes(name="key"))

        stage.driver.storage_view(key="old", parent="upper")
        assert sorted(found, key=repr) == sorted(difference(stage.tree("old"), stage.tree("key")), key=repr)
        self._compare(stage, "upper", "middle", (furnish, edit))

    @pytest.mark.root
    @needs("native-diff")
    @clause("STO-66", "an untouched snapshot has no changes")
    def test_no_changes(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        stage.driver.storage_prepare(key="key", parent="base", options={})

        assert list(self._source(stage).storage_changes(name="key")) == []
        with stage.open("key") as top:  # something came and went
            (top / "var/passing").mkdir()
            (top / "var/passing").rmdir()
        assert list(self._source(stage).storage_changes(name="key")) == []

    @pytest.mark.root
    @needs("native-diff")
    @clause("STO-67", "without a parent all is added")
    def test_changes_without_a_parent(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)

        found = list(self._source(stage).storage_changes(name="base"))

        tree = stage.tree_of("base")
        assert {each.kind for each in found if each.path} == {ChangeKind.ADDED}
        names = {name.removeprefix(b"./") for name in tree if name != b"."}
        assert {each.path for each in found if each.path} == names

    @needs("native-diff")
    @clause("STO-68", "only active and committed entries have changes")
    def test_changes_of_what_is_not_there(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.driver.storage_view(key="view", parent="base")

        with pytest.raises(NotFound):
            list(self._source(stage).storage_changes(name="nobody"))
        with pytest.raises(FailedPrecondition):
            list(self._source(stage).storage_changes(name="view"))

    @staticmethod
    def _source(stage: Stage) -> DiffSource:
        return cast("DiffSource", stage.driver)

    def _compare(self, stage: Stage, name: str, parent: str, made: tuple[Change, ...]) -> None:
        found = list(self._source(stage).storage_changes(name=name))

        paths = [each.path for each in found]
        assert len(paths) == len(set(paths)), "a path comes twice"
        places = {path: number for number, path in enumerate(paths)}
        for path in paths:
            above = path.rpartition(b"/")[0]
            assert not path or places[above] < places[path], f"{path!r} comes before its directory"
        old = stage.tree_of(parent)
        active = stage.driver.storage_stat(name=name).kind is Kind.ACTIVE
        new = stage.tree(name) if active else stage.tree_of(name)
        assert sorted(found, key=repr) == sorted(difference(old, new), key=repr)
        stage.driver.storage_view(key="source", parent=name) if not active else None
        with stage.open(name if active else "source") as top:
            assert stage.model(*made, lambda plain: apply_changes(found, top, plain), twins=False) == {
                path: node.alone() for path, node in new.items()
            }
        if not active:
            stage.driver.storage_remove(name="source")

    # --- release, shrink ---------------------------------------------------------------------------------------

    @pytest.mark.root
    @needs("release")
    @clause("STO-70", "mounts say and give the same after a release")
    @clause("STO-71", "twice is once, also before anything was mounted")
    def test_release(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        said = {
            "key": tuple(stage.driver.storage_prepare(key="key", parent="base", options={})),
            "view": tuple(stage.driver.storage_view(key="view", parent="base")),
        }
        releasing = cast("Releasing", stage.driver)
        for key in said:
            releasing.storage_release(key=key)
        stage.write("key", edit)
        for _ in range(2):
            for key, mounts in said.items():
                releasing.storage_release(key=key)
                releasing.storage_release(key=key)
                assert tuple(stage.driver.storage_mounts(key=key)) == mounts
            assert stage.tree("key") == stage.model(furnish, edit)
            assert stage.tree("view") == stage.model(furnish)
            stage.reopen()
            releasing = cast("Releasing", stage.driver)

        releasing.storage_release(key="key")
        stage.driver.storage_commit(name="name", key="key")
        assert stage.tree_of("name") == stage.model(furnish, edit)

    @needs("release")
    @clause("STO-71", "only keys are released")
    def test_release_of_what_is_no_key(self, stage: Stage) -> None:
        stage.layer("base", None)

        with pytest.raises(NotFound):
            cast("Releasing", stage.driver).storage_release(key="nobody")
        with pytest.raises(FailedPrecondition):
            cast("Releasing", stage.driver).storage_release(key="base")

    @pytest.mark.root
    @needs("shrink")
    @clause("STO-75", "entries and content stay, mounted or not")
    @clause("STO-76", "a second time gives back nothing")
    def test_shrink(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        stage.layer("big", "base", blob("data", 32 << 20))
        stage.driver.storage_remove(name="big")
        stage.driver.storage_prepare(key="key", parent="base", options={})
        reclaiming = cast("Reclaiming", stage.driver)
        with stage.open("key") as top:
            edit(top)

            assert reclaiming.storage_shrink() >= 0
            assert reclaiming.storage_shrink() == 0

        assert stage.tree("key") == stage.model(furnish, edit)
        assert stage.tree_of("base") == stage.model(furnish)
        assert stage.walk() == {Snapshot("base", Kind.COMMITTED, None), Snapshot("key", Kind.ACTIVE, "base")}

    # --- size --------------------------------------------------------------------------------------------------

    @clause("STO-12", "a driver without the capability refuses the option size")
    @clause("STO-13", "a size is a decimal number of bytes that suffices")
    @pytest.mark.parametrize("size", ["nonsense", "64M", "-1", "", "0", "1"])
    def test_bad_sizes(self, stage: Stage, size: str) -> None:
        for each in (size, *(() if "size" in self.capabilities else (str(_SIZE),))):
            with pytest.raises(InvalidArgument):
                stage.driver.storage_prepare(key="a", parent=None, options={"size": each})

        assert stage.walk() == set()

    @pytest.mark.root
    @needs("size")
    @clause("STO-13", "more than the size is refused, also after reopen, and disturbs nothing else")
    @pytest.mark.parametrize("parent", [None, "base"])
    def test_size_bounds_writes(self, stage: Stage, parent: str | None) -> None:
        stage.layer("base", None, furnish)
        stage.driver.storage_prepare(key="key", parent=parent, options={"size": str(_SIZE)})
        stage.driver.storage_prepare(key="other", parent="base", options={})

        with stage.open("key") as top:
            blob("fits", 8 << 20)(top)
        stage.reopen()
        with stage.open("key") as top:
            with pytest.raises(OSError) as refused:  # noqa: PT011  # its errno is checked below
                blob("too-much", 160 << 20)(top)
            assert (top / "fits").stat().st_size == 8 << 20
            (top / "too-much").unlink()
            blob("fits too", 8 << 20)(top)
        assert refused.value.errno in {errno.ENOSPC, errno.EDQUOT}
        stage.write("other", blob("more than that", _SIZE + (16 << 20)))

    # --- shared, usage-cheap, id-mapped --------------------------------------------------------------------------

    @pytest.mark.root
    @needs("shared")
    @clause("STO-46", "snapshots and views on a large parent hold nothing, on disk and in usage")
    def test_nothing_is_stored_twice(self, stage: Stage) -> None:
        stage.layer("base", None, blob("data", 32 << 20))
        room = stage.free()

        for number in range(3):
            stage.driver.storage_prepare(key=f"key-{number}", parent="base", options={})
            stage.driver.storage_view(key=f"view-{number}", parent="base")
            assert stage.driver.storage_usage(name=f"key-{number}").bytes < 1 << 20
            assert stage.driver.storage_usage(name=f"view-{number}").bytes < 1 << 20

        assert room - stage.free() < 32 << 20

    @pytest.mark.root
    @needs("usage-cheap")
    @clause("STO-47", "no directory is looked into")
    def test_usage_is_cheap(self, stage: Stage) -> None:
        def many(top: Path) -> None:
            for number in range(300):
                (top / f"d{number}").mkdir()
                (top / f"d{number}" / "file").touch()

        stage.driver.storage_prepare(key="few", parent=None, options={})
        stage.driver.storage_prepare(key="many", parent=None, options={})
        stage.write("many", many)

        counts = []
        for key in ("few", "many"):
            with _looks() as count:
                stage.driver.storage_usage(name=key)
            counts.append(count())
        assert counts[1] <= counts[0] + 8

    @pytest.mark.root
    @needs("id-mapped")
    @clause("STO-22", "what the mounts show of layers has shifted owners, and the layers keep theirs")
    @pytest.mark.parametrize("parents", [0, 1, 2])
    def test_mounts_can_be_id_mapped(self, stage: Stage, parents: int) -> None:
        changes = (furnish, layer(1))[:parents]
        above = None
        for number, change in enumerate(changes):
            above = stage.layer(f"layer-{number}", above, change).name
        mounts = stage.driver.storage_prepare(key="key", parent=above, options={})

        with id_mapped(mounts, shift=100000) as top:
            if mounts[0].type == "bind":  # whose root directory is no upper layer's
                assert (top.stat().st_uid, top.stat().st_gid) == (100000, 100000)
                os.chown(top, 100005, 100006)
            if parents:
                assert (top / "bin/su").stat().st_gid == 100008

        expected = stage.model(*changes)
        seen = stage.tree("key")
        if mounts[0].type == "bind":
            assert (seen[b"."].uid, seen[b"."].gid) == (5, 6)
        assert {**seen, b".": None} == {**expected, b".": None}


@contextmanager
def _looks() -> Iterator[Callable[[], int]]:
    """Count how often a file or directory is looked at through `os`."""
    seen = 0

    def watch(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal seen
            seen += 1
            return real(*arguments, **keywords)

        return call

    patches = [mock.patch.object(os, name, watch(getattr(os, name))) for name in _LOOKING]
    for patch in patches:
        patch.start()
    try:
        yield lambda: seen
    finally:
        for patch in patches:
            patch.stop()
