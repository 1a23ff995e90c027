"""The stage a storage suite plays on: a driver, its directories, and a plain directory to compare with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyd_conformance.mounting import mounted
from pyd_conformance.trees import Change, Tree, read_tree
from pyd_contracts.storage import StorageDriver
from pyd_contracts.values import Snapshot

__all__ = ["Make", "Place", "Stage"]

Make = Callable[[Path, Path], StorageDriver]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a driver lives (root, run: mode 0700, as the daemon makes them), and the test's own directory."""

    root: Path
    run: Path
    work: Path

    @classmethod
    def at(cls, root: Path, others: Path) -> Place:
        """Make the directories: the driver's *root* wherever it is to be, the rest below *others*."""
        place = cls(root, others / "run", others / "work")
        for each in (place.root, place.run, place.work):
            each.mkdir(mode=0o700, parents=True)
        return place


class Stage:
    """A driver that can be closed, lost and opened again, and short words for what every test does with it.

    Hooks are called by keyword only: so a relay with any number of wrappers stands the same tests.
    """

    def __init__(self, make: Make, place: Place) -> None:
        self._make = make
        self.place = place
        self.driver = make(place.root, place.run)
        self._models = 0

    def reopen(self) -> StorageDriver:
        """Close the driver and open it again on the same root."""
        self.driver.storage_close()
        return self.lose()

    def lose(self) -> StorageDriver:
        """Open the driver again without closing it, as after a crash."""
        self.driver = self._make(self.place.root, self.place.run)
        return self.driver

    @contextmanager
    def open(self, key: str) -> Iterator[Path]:
        """The mounted tree of a key."""
        with mounted(self.driver.storage_mounts(key=key)) as path:
            yield path

    def layer(self, name: str, parent: str | None, *changes: Change) -> Snapshot:
        """Import a layer as an engine does: prepare, write, commit."""
        key = f"import:{name}"
        self.driver.storage_prepare(key=key, parent=parent, options={})
        if changes:
            self.write(key, *changes)
        return self.driver.storage_commit(name=name, key=key)

    def write(self, key: str, *changes: Change) -> None:
        """Apply changes to a mounted key."""
        with self.open(key) as path:
            for change in changes:
                change(path)

    def tree(self, key: str) -> Tree:
        """What is seen in a mounted key."""
        with self.open(key) as path:
            return read_tree(path)

    def tree_of(self, name: str) -> Tree:
        """What is seen in a view of a committed name."""
        self.driver.storage_view(key="look", parent=name)
        try:
            return self.tree("look")
        finally:
            self.driver.storage_remove(name="look")

    def model(self, *changes: Change, twins: bool = True) -> Tree:
        """What the same changes leave in a plain directory of mode 0755; *twins*: which names are one inode counts too."""

        def all_of_them(plain: Path) -> None:
            for change in changes:
                change(plain)

        return next(self.models(all_of_them, twins=twins))

    def models(self, *changes: Change, twins: bool = True) -> Iterator[Tree]:
        """The tree in a plain directory of mode 0755 after each of the changes."""
        self._models += 1
        plain = self.place.work / f"model-{self._models}"
        plain.mkdir()
        plain.chmod(0o755)
        for change in changes:
            change(plain)
            tree = read_tree(plain)
            yield tree if twins else {path: node.alone() for path, node in tree.items()}

    def free(self) -> int:
        """Bytes of room below the driver's root."""
        os.sync()
        found = os.statvfs(self.place.root)
        return found.f_bfree * found.f_frsize

    def walk(self) -> set[Snapshot]:
        """All entries; a driver that lists one twice is caught here."""
        listed = list(self.driver.storage_walk())
        assert len(listed) == len(set(listed)), f"walk lists an entry twice: {listed}"
        return set(listed)

    def on_disk(self) -> set[bytes]:
        """Every path below the driver's root."""
        top = os.fsencode(self.place.root)
        return {os.path.join(at, name) for at, folders, files in os.walk(top) for name in (*folders, *files)}
