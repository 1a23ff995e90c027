"""Snapshots that are directories, on disk and in memory.

::

    <root>/7/            one directory per entry, named by a number that is never used twice while the driver is open
    <root>/7/meta        symbolic link to "1 <kind> <name> <parent or ->"
    <root>/7/...         the driver's
    <root>/new/          what is being made
    <root>/trash/        what is being deleted

The record is a link's target because a link is made whole, in one call, and journalled with the directory that holds
it: neither a killed process nor a lost journal tail can leave half a record. Entries appear and vanish by rename; the
switch from active to committed is one rename of a new link over the old one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyd_contracts.errors import Conflict
from pyd_contracts.values import Kind, Snapshot
from pyd_snapshots.errors import translated
from pyd_snapshots.names import Names
from pyd_snapshots.places import Places
from pyd_snapshots.removal import mount_below, remove_tree
from pyd_snapshots.trees import DIRECTORY, opened

__all__ = ["Catalog", "Entry", "number_of"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry and its directory."""

    snapshot: Snapshot
    path: str

    @property
    def number(self) -> str:
        """The directory's name."""
        return os.path.basename(self.path)


class Catalog(Names[Entry]):
    """All entries below one root.

    remove  deletes a name of an open directory with all below it: for drivers whose directories need more than rm
    """

    def __init__(self, root: Path, log: logging.Logger, *, remove: Callable[[int, str], None] = remove_tree) -> None:
        self._root = os.path.realpath(root)
        super().__init__(self._root)
        self._log = log
        self._remove = remove
        with translated(f"open storage at {self._root}"):
            for each in ("new", "trash"):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(f"{self._root}/{each}", 0o700)
            self._places = Places(f"{self._root}/new")
            self._numbers = itertools.count(self._read_all() + 1)
            self._sweep("new")
            self._sweep("trash")

    # --- changing ----------------------------------------------------------------------------------------------

    def create(self, kind: Kind, key: str, parent: str | None, fill: Callable[[str], None]) -> Entry:
        """Make an entry; *fill* gets its empty directory (0700) and may take its time.

        InvalidArgument for a malformed key or a parent that is not committed, AlreadyExists, NotFound; when *fill*
        raises, nothing is left.
        """
        with self.claim(kind, key, parent):
            entry = self._make(Snapshot(key, kind, parent), fill)
            self.enter(entry)
        return entry

    def commit(self, name: str, key: str) -> Entry:
        """Give an active entry its name for good."""

        def write(entry: Entry) -> Entry:
            snapshot = Snapshot(name, Kind.COMMITTED, entry.snapshot.parent)
            self._change(entry.path, snapshot)
            return Entry(snapshot, entry.path)

        with translated(f"commit {key} as {name}"):
            return self.rename(name, key, write)

    def rebase(self, key: str, parent: str, fill: Callable[[str], None]) -> Entry:
        """Put an active entry without a parent over one; *fill* gets its directory and makes of it what that asks for.

        When *fill* raises the entry has no parent, and what was filled in stays: *fill* is repeatable.
        """

        def write(entry: Entry) -> Entry:
            fill(entry.path)
            snapshot = Snapshot(key, Kind.ACTIVE, parent)
            self._change(entry.path, snapshot)
            return Entry(snapshot, entry.path)

        with translated(f"rebase {key} over {parent}"):
            return self.stand(key, parent, write)

    def remove(self, name: str) -> None:
        """Remove an entry and its directory."""

        def unlink(entry: Entry) -> None:
            if point := mount_below(entry.path):
                raise Conflict(f"remove {name}: {point} is mounted; unmount it first")
            with contextlib.suppress(FileNotFoundError):  # somebody else removed it: nothing is left
                os.rename(entry.path, f"{self._root}/trash/{entry.number}")

        with translated(f"remove {name}"):
            entry = self.drop(name, unlink)
        self._delete("trash", entry.number)

    def lost(self, entry: Entry) -> None:
        """Its content is gone from the disk: forget it, whatever stands on it, and remove what is left of its directory."""
        self.forget(entry)
        try:
            os.rename(entry.path, f"{self._root}/trash/{entry.number}")
        except FileNotFoundError:
            return
        except OSError as error:
            self._log.warning("%s is of no use any more but stays: %s", entry.path, error)
            return
        self._delete("trash", entry.number)

    def discard(self, entry: Entry, part: str) -> None:
        """Remove a part of an entry's directory, at once or at the latest when the catalog is opened next."""
        name = f"{entry.number}.{part}"
        try:
            os.rename(f"{entry.path}/{part}", f"{self._root}/trash/{name}")
        except FileNotFoundError:
            return
        except OSError as error:
            self._log.warning("%s/%s is of no use any more but stays: %s", entry.path, part, error)
            return
        self._delete("trash", name)

    # --- inside ------------------------------------------------------------------------------------------------

    def _change(self, path: str, snapshot: Snapshot) -> None:
        """Exchange the record of the entry in *path*."""
        link = f"{self._root}/new/{next(self._numbers)}"
        os.symlink(_record(snapshot), link)
        os.rename(link, f"{path}/meta")

    def _make(self, snapshot: Snapshot, fill: Callable[[str], None]) -> Entry:
        number = str(next(self._numbers))
        final = f"{self._root}/{number}"
        with translated(f"make {snapshot.kind.value} snapshot {snapshot.name} at {final}"):
            making = self._places.take(number)
            new = f"{self._root}/new/{making}"
            try:
                fill(new)
                os.symlink(_record(snapshot), f"{new}/meta")
                os.rename(new, final)
            except BaseException:
                self._delete("new", making)
                raise
        return Entry(snapshot, final)

    def _read_all(self) -> int:
        """Find what an earlier run left; the highest number that is in use anywhere."""
        with os.scandir(self._root) as found:
            numbers = [entry.name for entry in found if entry.name.isdecimal()]
        entries = []
        for number in numbers:
            path = f"{self._root}/{number}"
            try:
                entries.append(Entry(_read(os.readlink(f"{path}/meta")), path))
            except (OSError, ValueError) as error:
                # Not ours to delete: entries get their record before they get here.
                self._log.error("%s is left alone: its record cannot be read: %s", path, error)
        self.load(entries)
        waste = [*os.listdir(f"{self._root}/trash"), *os.listdir(f"{self._root}/new")]
        heads = [name.partition(".")[0].partition("+")[0] for name in waste]
        used = [int(head) for head in (*numbers, *heads) if head.isdecimal()]
        return max(used, default=0)

    def _sweep(self, folder: str) -> None:
        for name in os.listdir(f"{self._root}/{folder}"):
            if point := mount_below(f"{self._root}/{folder}/{name}"):
                self._log.warning("%s/%s/%s stays for now: %s is mounted", self._root, folder, name, point)
                continue
            self._log.info("removing %s/%s/%s, left by an interrupted run", self._root, folder, name)
            self._delete(folder, name)

    def _delete(self, folder: str, name: str) -> None:
        """Delete what is no entry (any more). A failure is not the caller's: the next open tries again."""
        path = f"{self._root}/{folder}"
        try:
            with opened(os.open(path, DIRECTORY)) as fd:
                self._remove(fd, name)
        except OSError as error:
            self._log.warning("%s/%s stays for now: %s", path, name, error)


def number_of(new: str) -> int:
    """The number of the entry that is being made in the directory *new* (`Catalog.create`, *fill*)."""
    return int(os.path.basename(new).partition("+")[0])


def _record(snapshot: Snapshot) -> str:
    return f"1 {snapshot.kind.value} {snapshot.name} {snapshot.parent or '-'}"


def _read(record: str) -> Snapshot:
    version, kind, name, parent = record.split(" ")
    if version != "1":
        raise ValueError(f"record of version {version}, this driver knows 1: {record!r}")
    return Snapshot(name, Kind(kind), None if parent == "-" else parent)
