"""The entries of this driver, on disk and in memory, and how far they have kept up with the pool.

::

    <root>/entries/7     symbolic link to "1 <kind> <name> <parent or -> <thin device> <file system> <sectors>
                         <limit>"; a view has a number v7 of its own, and the thin device of its parent
    <root>/base          the same of kind "base": the empty file system that first layers are snapshots of
    <root>/new/8         the same of a device that is not finished: deleted by the next open
    <root>/trash/9       the same of a device that is to be deleted: now, or once nobody has it open
    <root>/transaction   symbolic link to "1 <number>": the pool's transaction up to which all this is complete

A record is a link's target because a link is made whole, in one call, and journalled with its directory. A pool counts
transactions, and a thin device has the number of the transaction that made it (modulo 2**24). So what was lost between
pool and catalog, by a crash or with the power, is told by two numbers: see `pool`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from dataclasses import dataclass, replace
from pathlib import Path

from pyd_contracts.errors import DriverFault
from pyd_contracts.values import Kind, Snapshot
from pyd_snapshots.errors import translated
from pyd_snapshots.names import Names

__all__ = ["Catalog", "Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One record. *number*: its file's name; *device*: the thin device; *sectors*: its length; *limit*: bytes that can be
    added to it, 0 for as many as there is room for.
    """

    snapshot: Snapshot
    number: str
    device: int
    filesystem: str
    sectors: int
    limit: int = 0


class Catalog(Names[Entry]):
    """All entries below one root."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        super().__init__(self._root)
        self._used: set[int] = set()  # thin devices of entries, base, new and trash
        self.base: Entry | None = None
        with translated(f"open storage at {self._root}"):
            for each in ("entries", "new", "trash"):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(f"{self._root}/{each}", 0o700)
            drafts = [f"new/{name}" for name in os.listdir(f"{self._root}/new") if name.endswith("+")]
            for draft in ("transaction.new", "entries.new", *drafts):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._root}/{draft}")
            self._load()
        views = [int(each.number[1:]) for each in self.entries() if each.number[0] == "v"]
        self._views = itertools.count(max(views, default=0) + 1)

    # --- looking -----------------------------------------------------------------------------------------------

    def waste(self, *, unfinished: bool = False) -> list[Entry]:
        """What is to be deleted; *unfinished*: with what an interrupted run did not finish."""
        found = []
        for folder in ("trash", "new") if unfinished else ("trash",):
            for number in os.listdir(f"{self._root}/{folder}"):
                with contextlib.suppress(FileNotFoundError):  # another thread deleted it
                    found.append(_read(os.readlink(f"{self._root}/{folder}/{number}"), number))
        return found

    def devices(self) -> dict[int, str]:
        """Thin devices that are known to belong here, and what they are."""
        known = {each.device: each.snapshot.name for each in self.entries() if each.snapshot.kind is not Kind.VIEW}
        if self.base is not None:
            known[self.base.device] = "the base"
        return known

    def uses(self, device: int) -> bool:
        """Whether a record has this thin device."""
        return device in self._used

    @property
    def transaction(self) -> int | None:
        """Up to which transaction of the pool all is complete; None: the pool was never used."""
        try:
            version, number = os.readlink(f"{self._root}/transaction").split(" ")
        except FileNotFoundError:
            return None
        if version != "1":
            raise DriverFault(f"{self._root}/transaction is of version {version}, this driver knows 1")
        return int(number)

    # --- changing ----------------------------------------------------------------------------------------------

    def mark(self, transaction: int) -> None:
        """All is complete up to here."""
        self._link(f"1 {transaction}", "transaction")

    def begin(self, entry: Entry) -> None:
        """Write down a device that is not finished."""
        os.symlink(_record(entry), f"{self._root}/new/{entry.number}")
        self._used.add(entry.device)

    def add(self, entry: Entry, *, begun: bool = False) -> None:
        """Make an entry of what was claimed; *begun*: it was written down as not finished."""
        if begun:
            self._link(_record(entry), f"new/{entry.number}", draft=f"new/{entry.number}+")
            os.rename(f"{self._root}/new/{entry.number}", f"{self._root}/entries/{entry.number}")
        else:
            os.symlink(_record(entry), f"{self._root}/entries/{entry.number}")
        self._used.add(entry.device)
        self.enter(entry)

    def add_view(self, snapshot: Snapshot, below: Entry) -> Entry:
        """Make an entry for a view on *below*."""
        entry = replace(below, snapshot=snapshot, number=f"v{next(self._views)}")
        self.add(entry)
        return entry

    def set_base(self, entry: Entry) -> None:
        """A finished device becomes the base; the one before goes into the bin."""
        if self.base is not None:
            os.rename(f"{self._root}/base", f"{self._root}/trash/{self.base.number}")
            self.base = None
        os.rename(f"{self._root}/new/{entry.number}", f"{self._root}/base")
        self.base = entry

    def commit(self, name: str, key: str, sectors: int) -> Entry:
        """Give an active entry its name for good; its device has *sectors* now."""

        def write(entry: Entry) -> Entry:
            snapshot = Snapshot(name, Kind.COMMITTED, entry.snapshot.parent)
            committed = replace(entry, snapshot=snapshot, sectors=sectors, limit=0)
            self._link(_record(committed), f"entries/{entry.number}", draft="entries.new")
            return committed

        with translated(f"commit {key} as {name}"):
            return self.rename(name, key, write)

    def remove(self, name: str) -> Entry:
        """Take an entry out of sight; its device, unless it was a view, is in the bin then."""

        def unlink(entry: Entry) -> None:
            if entry.snapshot.kind is Kind.VIEW:
                os.unlink(f"{self._root}/entries/{entry.number}")
            else:
                os.rename(f"{self._root}/entries/{entry.number}", f"{self._root}/trash/{entry.number}")

        with translated(f"remove {name}"):
            return self.drop(name, unlink)

    def abandon(self, entry: Entry) -> None:
        """What was begun is not going to be finished."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{self._root}/new/{entry.number}", f"{self._root}/trash/{entry.number}")

    def deleted(self, device: int) -> None:
        """A thin device that was to be deleted is gone from the pool."""
        for each in ("new", "trash"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._root}/{each}/{device}")
        self._used.discard(device)

    def lost(self, device: int) -> None:
        """The pool does not have a thin device: drop its record, whatever that is."""
        self.deleted(device)
        if self.base is not None and self.base.device == device:
            os.unlink(f"{self._root}/base")
            self.base = None
        for entry in self.entries():
            if entry.device == device and entry.snapshot.kind is not Kind.VIEW:
                os.unlink(f"{self._root}/entries/{device}")
                self.forget(entry)

    # --- inside ------------------------------------------------------------------------------------------------

    def _link(self, text: str, place: str, *, draft: str = "transaction.new") -> None:
        draft = f"{self._root}/{draft}"
        try:
            os.symlink(text, draft)
        except FileExistsError:  # a rename failed before
            os.unlink(draft)
            os.symlink(text, draft)
        os.rename(draft, f"{self._root}/{place}")

    def _load(self) -> None:
        entries = []
        for number in os.listdir(f"{self._root}/entries"):
            path = f"{self._root}/entries/{number}"
            try:
                entries.append(_read(os.readlink(path), number))
            except (OSError, ValueError) as error:
                # Not ours to delete: records are made whole.
                raise DriverFault(f"{path} is no record that this driver can read: {error}") from error
        self.load(entries)
        with contextlib.suppress(FileNotFoundError):
            record = os.readlink(f"{self._root}/base")
            self.base = _read(record, record.split(" ")[4])
        self._used.update(self.devices(), (each.device for each in self.waste(unfinished=True)))


_BASE = "base"


def _record(entry: Entry) -> str:
    snapshot = entry.snapshot
    kind, name = (_BASE, "-") if not snapshot.name else (snapshot.kind.value, snapshot.name)
    return f"1 {kind} {name} {snapshot.parent or '-'} {entry.device} {entry.filesystem} {entry.sectors} {entry.limit}"


def _read(record: str, number: str) -> Entry:
    version, kind, name, parent, device, filesystem, sectors, limit = record.split(" ")
    if version != "1":
        raise ValueError(f"record of version {version}, this driver knows 1: {record!r}")
    if kind == _BASE:
        snapshot = Snapshot("", Kind.COMMITTED, None)
    else:
        snapshot = Snapshot(name, Kind(kind), None if parent == "-" else parent)
    return Entry(snapshot, number, int(device), filesystem, int(sectors), int(limit))
