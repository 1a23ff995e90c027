"""The storage suite's fifth part: a disk that fills up while layers are applied and containers write."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.storage_stage import Place, Stage
from pyd_conformance.trees import furnish, layer
from pyd_contracts.errors import ResourceExhausted
from pyd_contracts.values import Kind, Snapshot

__all__ = ["StorageRoom"]


def _fill(top: Path) -> None:
    """Write until nothing more goes."""
    with open(top / "fill", "wb", buffering=0) as file:
        for piece in (1 << 20, 4096, 1):
            while True:
                try:
                    file.write(os.urandom(piece))
                    os.fsync(file.fileno())
                except OSError as error:
                    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                        raise
                    break


class StorageRoom:
    """Clauses about room; collected as a part of StorageContract."""

    make: Callable[..., object]

    @pytest.fixture
    def little(self, cramped: Place) -> Iterator[Stage]:
        """The driver, open and empty, with little room."""
        stage = Stage(self.make, cramped)  # type: ignore[arg-type]  # StorageContract has the whole type
        yield stage
        stage.driver.storage_close()

    @pytest.mark.root
    @clause("STO-6", "a disk that fills while a layer is applied: others are whole, and with room all works again")
    def test_the_disk_fills_while_applying(self, little: Stage) -> None:
        little.layer("base", None, furnish)
        little.driver.storage_prepare(key="key", parent="base", options={})
        little.write("key", _fill)

        entries = little.walk()
        made: list[str] = []
        for number in range(50):  # whether there is room for an empty one is the driver's affair
            try:
                little.driver.storage_prepare(key=f"more-{number}", parent="base", options={})
            except ResourceExhausted:
                break
            made.append(f"more-{number}")
        assert little.walk() == entries | {Snapshot(name, Kind.ACTIVE, "base") for name in made}
        little.reopen()
        assert little.walk() == entries | {Snapshot(name, Kind.ACTIVE, "base") for name in made}
        for name in (*made, "key"):
            little.driver.storage_remove(name=name)  # removing must work on a full disk, how else would it get room

        assert little.tree_of("base") == little.model(furnish)
        little.layer("again", "base", layer(1))
        assert little.tree_of("again") == little.model(furnish, layer(1))

    @pytest.mark.root
    @clause("STO-6", "hooks on a full disk happen or raise ResourceExhausted")
    def test_hooks_on_a_full_disk(self, little: Stage) -> None:
        little.layer("base", None, furnish)
        little.driver.storage_prepare(key="key", parent="base", options={})
        little.driver.storage_prepare(key="fill", parent="base", options={})
        little.write("fill", _fill)
        before = little.walk()
        steps = (
            (lambda: little.driver.storage_commit(name="name", key="key"), "key", "name"),
            (lambda: little.driver.storage_view(key="view", parent="base"), None, "view"),
        )
        for step, gone, there in steps:
            try:
                step()
            except ResourceExhausted:
                assert little.walk() == before
                continue
            names = {entry.name for entry in little.walk()}
            assert there in names
            assert gone not in names
            before = little.walk()
        little.driver.storage_usage(name="fill")
        little.driver.storage_mounts(key="fill")
        little.reopen()

        assert little.walk() == before
        little.driver.storage_remove(name="fill")
        assert little.tree_of("base") == little.model(furnish)
