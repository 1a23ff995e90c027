"""The storage suite's third part: every hook is made to fail, and to die, at every change it asks of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.faults import crashing, failing
from pyd_conformance.storage_stage import Stage
from pyd_contracts.errors import AlreadyExists, NotFound, ResourceExhausted
from pyd_contracts.storage import CAPABILITIES, Rebasing, StorageDriver
from pyd_contracts.values import Kind, Snapshot

__all__ = ["StorageCrash"]

_MANY = 400  # a hook that changes more than this for an empty tree has no end

Hook = Callable[[StorageDriver], object]

_BASE = Snapshot("base", Kind.COMMITTED, None)
_KEY = Snapshot("key", Kind.ACTIVE, "base")
_VIEW = Snapshot("view", Kind.VIEW, "base")
_LOOSE = Snapshot("loose", Kind.ACTIVE, None)
_NAME = Snapshot("name", Kind.COMMITTED, "base")

# Hook, entries before it, entries after it. Before it there is always a committed "base" with one file.
_HOOKS: dict[str, tuple[Hook, frozenset[Snapshot], frozenset[Snapshot]]] = {
    "prepare": (
        lambda driver: driver.storage_prepare(key="key", parent="base", options={}),
        frozenset({_BASE}),
        frozenset({_BASE, _KEY}),
    ),
    "prepare-first": (
        lambda driver: driver.storage_prepare(key="key", parent=None, options={}),
        frozenset({_BASE}),
        frozenset({_BASE, Snapshot("key", Kind.ACTIVE, None)}),
    ),
    "view": (
        lambda driver: driver.storage_view(key="view", parent="base"),
        frozenset({_BASE}),
        frozenset({_BASE, _VIEW}),
    ),
    "commit": (
        lambda driver: driver.storage_commit(name="name", key="key"),
        frozenset({_BASE, _KEY}),
        frozenset({_BASE, _NAME}),
    ),
    "rebase": (
        lambda driver: cast("Rebasing", driver).storage_rebase(key="loose", parent="base"),
        frozenset({_BASE, _LOOSE}),
        frozenset({_BASE, Snapshot("loose", Kind.ACTIVE, "base")}),
    ),
    "remove": (
        lambda driver: driver.storage_remove(name="key"),
        frozenset({_BASE, _KEY}),
        frozenset({_BASE}),
    ),
    "remove-view": (
        lambda driver: driver.storage_remove(name="view"),
        frozenset({_BASE, _VIEW}),
        frozenset({_BASE}),
    ),
}

_each_hook = pytest.mark.parametrize("hook", sorted(_HOOKS))


def _content(top: Path) -> None:
    (top / "dir").mkdir()
    (top / "dir" / "file").write_text("content")


class StorageCrash:
    """Clauses about faults; collected as a part of StorageContract."""

    capabilities: frozenset[str] = frozenset()

    @pytest.mark.root
    @_each_hook
    @clause("STO-1", "a hook that fails raises one of the family and leaves everything as it was")
    @clause("STO-6", "a full disk is ResourceExhausted")
    def test_a_failing_hook_leaves_everything(self, stage: Stage, hook: str) -> None:
        run, before, after = self._declared(hook)
        _set(stage, before)

        for nth in range(1, _MANY):
            error = None
            with failing(nth) as plan:
                try:
                    run(stage.driver)
                except ResourceExhausted as raised:  # what was injected is ENOSPC
                    error = raised
            assert stage.walk() == (after if error is None else before)
            if error is None:
                if not plan.reached:
                    break
                _unset(stage)
                _set(stage, before)
            _check(stage)
        else:
            pytest.fail(f"{hook} did not end within {_MANY} changes")

    @pytest.mark.root
    @_each_hook
    @clause("STO-2", "a hook that died may be repeated once the driver is reopened")
    @clause("STO-40", "leftovers of a crash are not listed")
    @clause("STO-30", "leftovers of a crash are removed by the next open")
    def test_a_hook_that_died_may_be_repeated(self, stage: Stage, hook: str) -> None:
        run, before, after = self._declared(hook)
        _set(stage, before)
        stage.reopen()
        _unset(stage)
        empty = stage.on_disk()

        for nth in range(1, _MANY):
            _set(stage, before)
            with crashing(nth) as plan:
                run(stage.driver)
            stage.lose()
            seen = stage.walk()
            assert seen in (before, after), "neither as before nor as after"
            _check(stage)
            try:
                run(stage.driver)
            except (AlreadyExists, NotFound):
                assert seen == after, "refused although it had not happened"
            assert stage.walk() == after
            _check(stage)
            _unset(stage)
            assert stage.on_disk() == empty, f"something is left of dying at change {nth}"
            if not plan.reached:
                break
        else:
            pytest.fail(f"{hook} did not end within {_MANY} changes")

    def _declared(self, hook: str) -> tuple[Hook, frozenset[Snapshot], frozenset[Snapshot]]:
        if hook in CAPABILITIES and hook not in self.capabilities:
            pytest.skip(f"the driver does not declare {hook}")
        return _HOOKS[hook]

    @pytest.mark.root
    @clause("STO-2", "a driver that died while it opened opens again")
    def test_open_may_be_repeated(self, stage: Stage) -> None:
        stage.layer("base", None, _content)
        stage.driver.storage_prepare(key="key", parent="base", options={})
        for nth in range(1, _MANY):
            with crashing(nth) as plan:
                stage.lose()
            stage.lose()
            assert stage.walk() == {_BASE, _KEY}
            if not plan.reached:
                break
        else:
            pytest.fail(f"opening did not end within {_MANY} changes")

        _check(stage)


def _set(stage: Stage, entries: frozenset[Snapshot]) -> None:
    """Make what is to be there and is not."""
    there = stage.walk()
    if _BASE not in there:
        stage.layer("base", None, _content)
    if _KEY in entries - there:
        stage.driver.storage_prepare(key="key", parent="base", options={})
        stage.write("key", lambda top: (top / "dir" / "mine").mkdir())
    if _LOOSE in entries - there:
        stage.driver.storage_prepare(key="loose", parent=None, options={})
    if _VIEW in entries - there:
        stage.driver.storage_view(key="view", parent="base")


def _unset(stage: Stage) -> None:
    """Remove all but the base."""
    for entry in stage.walk() - {_BASE}:
        stage.driver.storage_remove(name=entry.name)


def _check(stage: Stage) -> None:
    """Whatever is listed can be used and is whole."""
    for entry in stage.walk():
        tree = stage.tree_of(entry.name) if entry.kind is Kind.COMMITTED else stage.tree(entry.name)
        if entry.parent is not None or entry == _BASE:
            assert b"./dir/file" in tree, f"{entry} lost content of its parent"
        if entry == _NAME:
            assert b"./dir/mine" in tree, f"{entry} lost what was written"
