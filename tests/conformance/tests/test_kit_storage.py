"""The storage suite itself: every clause has a test, and every kind of broken driver is caught."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pluggy
import pytest

from pyd_conformance import StorageContract
from pyd_conformance.clauses import documented, proved
from pyd_conformance.fakes import FakeStorage
from pyd_conformance.storage_stage import Place, Stage
from pyd_contracts.errors import DriverFault
from pyd_contracts.markers import PROJECT, hookimpl
from pyd_contracts.storage import CAPABILITIES, StorageDriver
from pyd_contracts.values import Kind, LayerTarget, Mount, Snapshot, Usage, Whiteouts

_CONTRACTS = (StorageDriver, *filter(None, CAPABILITIES.values()))


class TestRelayedFake(StorageContract):
    """The same suite, with the driver behind pluggy, as the engine has it."""

    capabilities = FakeStorage.capabilities

    def make(self, root: Path, run: Path) -> StorageDriver:
        manager = pluggy.PluginManager(PROJECT)
        for contract in _CONTRACTS:
            manager.add_hookspecs(contract)
        manager.register(FakeStorage(root, run))
        caller: StorageDriver = manager.hook  # type: ignore[assignment]  # hooks are found by name
        return caller


def test_every_clause_has_a_test_and_every_test_a_clause() -> None:
    assert set(proved(StorageContract)) == {number for contract in _CONTRACTS for number in documented(contract)}


def test_there_are_enough_checks() -> None:
    tests = {test for names in proved(StorageContract).values() for test in names}

    assert len(tests) >= 40


# --- drivers that break one promise each ------------------------------------------------------------------------------


class _SharesContent(FakeStorage):
    """Gives a child its parent's own directory."""

    @hookimpl
    def storage_mounts(self, key: str) -> Sequence[Mount]:
        snapshot = self.storage_stat(key)
        if snapshot.kind is Kind.ACTIVE and snapshot.parent is not None:
            return (Mount("bind", f"{self._root}/{self._get(snapshot.parent)[1]}", ("rbind",)),)
        return super().storage_mounts(key)


class _WritableViews(FakeStorage):
    """Forgets ``ro``."""

    @hookimpl
    def storage_mounts(self, key: str) -> Sequence[Mount]:
        return tuple(Mount(mount.type, mount.source, ("rbind",)) for mount in super().storage_mounts(key))


class _KeepsKeys(FakeStorage):
    """Leaves the key after commit."""

    @hookimpl
    def storage_commit(self, name: str, key: str) -> Snapshot:
        snapshot = super().storage_commit(name, key)
        self._disk.entries[key] = (Snapshot(key, Kind.ACTIVE, snapshot.parent), "0")
        return snapshot


class _ForgetsParents(FakeStorage):
    """Loses parents on commit."""

    @hookimpl
    def storage_commit(self, name: str, key: str) -> Snapshot:
        super().storage_commit(name, key)
        _, number = self._disk.entries[name]
        self._disk.entries[name] = (Snapshot(name, Kind.COMMITTED, None), number)
        return self.storage_stat(name)


class _WrongMode(FakeStorage):
    """Makes roots with the caller's umask."""

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        mounts = super().storage_prepare(key, parent, options)
        if parent is None:
            os.chmod(mounts[0].source, 0o700)
        return mounts


class _LeavesContent(FakeStorage):
    """Forgets entries and keeps their directories."""

    @hookimpl
    def storage_remove(self, name: str) -> None:
        path = Path(self._root, self._get(name)[1])
        kept = path.with_name(f"kept-{path.name}")
        if path.exists():
            path.rename(kept)
        super().storage_remove(name)


class _RawErrors(FakeStorage):
    """Lets `OSError` out."""

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        try:
            return super().storage_prepare(key, parent, options)
        except DriverFault:
            raise
        except Exception as error:
            raise error.__cause__ or error from error


class _CountsParents(FakeStorage):
    """Counts nothing."""

    @hookimpl
    def storage_usage(self, name: str) -> Usage:
        super().storage_usage(name)
        return Usage(0, 0)


class _ListsTwice(FakeStorage):
    """Walks every entry twice."""

    @hookimpl
    def storage_walk(self) -> Iterable[Snapshot]:
        return [*super().storage_walk(), *super().storage_walk()]


class _TakesAnything(FakeStorage):
    """Ignores options."""

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        return super().storage_prepare(key, parent, {})


class _WrongTarget(FakeStorage):
    """Names a directory of its own as target."""

    @hookimpl
    def storage_layer_target(self, key: str) -> LayerTarget:
        path = super().storage_layer_target(key).path.parent / "elsewhere"
        path.mkdir(exist_ok=True)
        return LayerTarget(path, Whiteouts.PLAIN)


@pytest.mark.root
@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (_SharesContent, "test_a_parent_does_not_change"),
        (_WritableViews, "test_a_view_refuses_writes"),
        (_KeepsKeys, "test_commit_consumes_the_key"),
        (_ForgetsParents, "test_commit_consumes_the_key"),
        (_WrongMode, "test_a_first_snapshot_is_empty"),
        (_LeavesContent, "test_remove_leaves_nothing"),
        (_RawErrors, "test_a_failing_hook_leaves_everything"),
        (_CountsParents, "test_usage"),
        (_ListsTwice, "test_walk_before_and_after_reopen"),
        (_TakesAnything, "test_prepare_refuses_unknown_options"),
        (_WrongTarget, "test_layer_target_of_a_first_layer"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value,
)
def test_a_broken_driver_is_caught(broken: type[FakeStorage], test: str, tmp_path: Path) -> None:
    arguments: dict[str, dict[str, object]] = {
        "test_a_view_refuses_writes": {"depth": 1},
        "test_a_failing_hook_leaves_everything": {"hook": "prepare"},
    }
    stage = Stage(broken, Place.at(tmp_path / "root", tmp_path))

    with pytest.raises((AssertionError, pytest.fail.Exception, OSError)):
        getattr(StorageContract(), test)(stage, **arguments.get(test, {}))
