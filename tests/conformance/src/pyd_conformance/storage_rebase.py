"""The storage suite's seventh part: layers that are written before what they lie over is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from pyd_conformance.clauses import clause, needs
from pyd_conformance.storage_content import layer_model, write_layer
from pyd_conformance.storage_stage import Stage
from pyd_conformance.trees import furnish, layer
from pyd_contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.storage import LayerTargets, Rebasing
from pyd_contracts.values import Kind, Snapshot

__all__ = ["StorageRebase"]


class StorageRebase:
    """Clauses about a parent that comes later; collected as a part of StorageContract."""

    @pytest.mark.root
    @needs("rebase")
    @clause("STO-80", "a layer that was written by itself is seen over the parent, also after reopen and commit")
    @clause("STO-81", "the root directory is the parent's")
    @pytest.mark.parametrize("layers", [1, 3])
    def test_rebase(self, stage: Stage, layers: int) -> None:
        changes = (furnish, _root_directory, layer(1))[:layers]
        below = None
        for number, change in enumerate(changes):
            below = stage.layer(f"base-{number}", below, change).name
        stage.driver.storage_prepare(key="key", parent=None, options={})
        target = cast("LayerTargets", stage.driver).storage_layer_target(key="key")
        write_layer(target)
        os.chmod(target.path, 0o700)

        cast("Rebasing", stage.driver).storage_rebase(key="key", parent=str(below))

        expected = stage.model(*changes, layer_model)
        assert stage.driver.storage_stat(name="key") == Snapshot("key", Kind.ACTIVE, below)
        assert stage.tree("key") == expected
        stage.reopen()
        assert stage.tree("key") == expected
        stage.write("key", lambda top: (top / "more").mkdir())
        stage.driver.storage_commit(name="name", key="key")
        assert stage.tree_of("name") == stage.model(*changes, layer_model, lambda top: (top / "more").mkdir())
        with pytest.raises(FailedPrecondition):
            stage.driver.storage_remove(name=str(below))

    @pytest.mark.root
    @needs("rebase")
    @clause("STO-80", "layers written at once, committed from the lowest up")
    def test_layers_written_at_once(self, stage: Stage) -> None:
        for number in range(4):
            stage.driver.storage_prepare(key=f"key-{number}", parent=None, options={})
            target = cast("LayerTargets", stage.driver).storage_layer_target(key=f"key-{number}")
            if number:
                (target.path / f"only-{number}").write_text(str(number))
            else:
                furnish(target.path)
        below = None
        for number in range(4):
            if below is not None:
                cast("Rebasing", stage.driver).storage_rebase(key=f"key-{number}", parent=below)
            below = stage.driver.storage_commit(name=f"name-{number}", key=f"key-{number}").name

        def model(top: Path) -> None:
            for number in range(1, 4):
                (top / f"only-{number}").write_text(str(number))

        assert stage.tree_of("name-3") == stage.model(furnish, model)

    @needs("rebase")
    @clause("STO-82", "twice is once")
    @clause("STO-83", "only an active key without a parent is put over a committed one")
    def test_rebase_refuses(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.layer("other", None)
        stage.driver.storage_view(key="view", parent="base")
        stage.driver.storage_prepare(key="key", parent=None, options={})
        stage.driver.storage_prepare(key="stands", parent="base", options={})
        before = stage.walk()
        rebase: Callable[..., None] = cast("Rebasing", stage.driver).storage_rebase

        for key, parent, error in (
            ("nobody", "base", NotFound), ("key", "nobody", NotFound), ("key", "view", InvalidArgument),
            ("key", "stands", InvalidArgument), ("key", "key", InvalidArgument), ("view", "base", FailedPrecondition),
            ("base", "other", FailedPrecondition), ("stands", "other", FailedPrecondition),
        ):  # fmt: skip
            with pytest.raises(error):
                rebase(key=key, parent=parent)
        assert stage.walk() == before
        rebase(key="stands", parent="base")
        for _ in range(2):
            rebase(key="key", parent="base")
        assert stage.walk() == before - {Snapshot("key", Kind.ACTIVE, None)} | {Snapshot("key", Kind.ACTIVE, "base")}
        stage.driver.storage_remove(name="key")


def _root_directory(top: Path) -> None:
    """A change of the root directory itself."""
    os.chown(top, 5, 6)
    os.chmod(top, 0o1751)
    os.setxattr(top, "user.root", b"x")
