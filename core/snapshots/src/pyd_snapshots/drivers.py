"""Bases of drivers whose snapshots have a catalog: hooks that say the same in each, and what mounts show.

A driver takes the base that fits how it keeps content, and adds what is its own: `storage_prepare` always. Each hook that
a base has can be given anew; the contract, `pyd_contracts.storage`, is what binds, not the base.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pyd_contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, LayerTarget, Mount, Snapshot, Usage, Whiteouts
from pyd_snapshots import syscalls
from pyd_snapshots.catalog import Catalog, Entry
from pyd_snapshots.errors import translated
from pyd_snapshots.names import Named, Names
from pyd_snapshots.removal import remove_tree
from pyd_snapshots.trees import DIRECTORY, opened, tree_usage

__all__ = ["CatalogDriver", "DirectoryDriver", "StackedDriver", "TreeDriver", "refuse_options"]

E = TypeVar("E", bound=Named)


def refuse_options(driver: str, key: str, options: Mapping[str, str]) -> None:
    """What a driver without options says to any."""
    if options:
        hint = "; limits of size need another storage driver" if "size" in options else ""
        raise InvalidArgument(f"prepare {key}: {driver} knows no option {', '.join(sorted(options))}{hint}")


class CatalogDriver(ABC, Generic[E]):
    """Hooks that names alone answer. A subclass has a catalog in ``_catalog``."""

    _catalog: Names[E]

    @hookimpl
    def storage_mounts(self, key: str) -> Sequence[Mount]:
        """The same again."""
        entry = self._catalog.get(key)
        if entry.snapshot.kind is Kind.COMMITTED:
            raise FailedPrecondition(f"{key} is committed and not mounted by itself; prepare or view something on it")
        return self._mounts(entry)

    @hookimpl
    def storage_stat(self, name: str) -> Snapshot:
        """From memory."""
        return self._catalog.get(name).snapshot

    @hookimpl
    def storage_walk(self) -> Iterable[Snapshot]:
        """From memory."""
        return [entry.snapshot for entry in self._catalog.entries()]

    @abstractmethod
    def _mounts(self, entry: E) -> Sequence[Mount]:
        """What shows an active entry or a view."""


class DirectoryDriver(CatalogDriver[Entry]):
    """Entries are directories (`Catalog`), and content is what is below ``f`` in them.

    root    the driver's directory
    sync    write the file system out before a layer counts as committed
    remove  for directories that need more than rm
    """

    _catalog: Catalog

    def __init__(
        self,
        root: Path,
        *,
        sync: bool = False,
        log: logging.Logger | None = None,
        remove: Callable[[int, str], None] = remove_tree,
    ) -> None:
        self._sync = sync
        self._log = log or logging.getLogger(type(self).__module__)
        self._root = os.path.realpath(root)
        self._catalog = Catalog(root, self._log, remove=remove)

    @hookimpl
    def storage_stat(self, name: str) -> Snapshot:
        """From memory, if the disk still agrees: who lost a directory to a disk or to a person may have it made again."""
        entry = self._catalog.get(name)
        if entry.snapshot.kind is Kind.VIEW or os.path.lexists(f"{entry.path}/f"):
            return entry.snapshot
        if self._catalog.get(name) is entry:  # else it was removed meanwhile, which is nothing to tell
            self._log.error("snapshot %s: its content at %s is gone from the disk", name, entry.path)
            self._catalog.lost(entry)
        raise NotFound(f"snapshot {name}: its content at {entry.path} is gone from the disk")

    @hookimpl
    def storage_commit(self, name: str, key: str) -> Snapshot:
        """Nothing moves: what is there gets its name."""
        if self._sync:
            with translated(f"commit {key} as {name}: write out {self._root}"):
                self._write_out()
        entry = self._catalog.commit(name, key)
        self._settle(entry)
        return entry.snapshot

    @hookimpl
    def storage_remove(self, name: str) -> None:
        """Out of sight by one rename, then deleted."""
        self._catalog.remove(name)

    @hookimpl
    def storage_usage(self, name: str) -> Usage:
        """What the entry's own directory holds; a view holds nothing."""
        entry = self._catalog.get(name)
        if entry.snapshot.kind is Kind.VIEW:
            return Usage(0, 0)
        with translated(f"count {name} at {entry.path}"):
            return self._usage(entry)

    @hookimpl
    def storage_close(self) -> None:
        """Nothing is held open."""

    def _settle(self, entry: Entry) -> None:
        """What is left to do with an entry that is committed now: nothing that could fail the commit."""

    def _usage(self, entry: Entry) -> Usage:
        return Usage(*tree_usage(f"{entry.path}/f"))

    def _write_out(self) -> None:
        with opened(os.open(self._root, DIRECTORY)) as fd:
            syscalls.syncfs(fd)

    def _writable(self, key: str) -> Entry:
        """The active entry of a key, for who writes a layer into it. FailedPrecondition."""
        entry = self._catalog.get(key)
        if entry.snapshot.kind is not Kind.ACTIVE:
            raise FailedPrecondition(f"{key} is {entry.snapshot.kind.value}; only active snapshots take layers")
        return entry


class TreeDriver(DirectoryDriver):
    """Each entry's ``f`` is the whole tree, made by `storage_prepare` from the parent's. A view shows the parent's own."""

    @hookimpl
    def storage_view(self, key: str, parent: str) -> Sequence[Mount]:
        """The parent's own tree, read-only: nothing is made."""
        return self._mounts(self._catalog.create(Kind.VIEW, key, parent, lambda _new: None))

    @hookimpl
    def storage_layer_target(self, key: str) -> LayerTarget:
        """The tree itself."""
        return LayerTarget(Path(self._writable(key).path, "f"), Whiteouts.PLAIN)

    def _mounts(self, entry: Entry) -> Sequence[Mount]:
        if entry.snapshot.kind is Kind.ACTIVE:
            return (Mount("bind", f"{entry.path}/f", ("rbind", "rw")),)
        parent = entry.snapshot.parent or ""  # a view has one
        return (Mount("bind", f"{self._catalog.get(parent).path}/f", ("rbind", "ro")),)


class StackedDriver(DirectoryDriver):
    """Each entry's ``f`` is a layer over those of its parents, and a union file system shows them as one."""

    @hookimpl
    def storage_view(self, key: str, parent: str) -> Sequence[Mount]:
        """The parent's layers without an upper one."""
        return self._mounts(self._catalog.create(Kind.VIEW, key, parent, lambda _new: self._stackable(key, parent)))

    def _layers(self, name: str) -> list[str]:
        """The layers of a committed name, topmost first."""
        return [f"{entry.path}/f" for entry in self._catalog.chain(name)]

    def _stackable(self, key: str, parent: str) -> None:
        """Refuse what cannot be mounted later: too many layers."""

    def _mounts(self, entry: Entry) -> Sequence[Mount]:
        parent = entry.snapshot.parent
        if parent is None:
            return (Mount("bind", f"{entry.path}/f", ("rbind", "rw")),)
        with translated(f"mounts of {entry.snapshot.name}"):
            layers = self._layers(parent)
        if entry.snapshot.kind is Kind.VIEW and len(layers) == 1:  # a union of one is what it is a union of
            return (Mount("bind", layers[0], ("rbind", "ro")),)
        return (self._union(entry, layers),)

    @abstractmethod
    def _union(self, entry: Entry, layers: Sequence[str]) -> Mount:
        """What shows the parent's *layers*, topmost first, and over them what an active entry has itself."""
