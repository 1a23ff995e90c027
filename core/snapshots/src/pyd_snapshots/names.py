"""Which snapshots there are, under which names, and what stands on what: the contract's rules, in memory.

A catalog is this and a disk. No lock is held during slow work: what is being made has claimed its name, which counts as
taken, and stands on its parent already. What is quick, one rename, is handed in and done under the lock: so the disk and
the memory of it change in the same order.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from pyd_contracts.errors import AlreadyExists, DriverFault, FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.values import Kind, Snapshot

__all__ = ["Named", "Names"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,127}")


class Named(Protocol):
    """Whatever a driver knows of one snapshot."""

    @property
    def snapshot(self) -> Snapshot:
        """Its name, kind and parent."""
        ...


E = TypeVar("E", bound=Named)


class Names(Generic[E]):
    """Entries by name. *place* is for messages. Methods raise the contract's errors and are safe to call from several
    threads.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._entries: dict[str, E] = {}
        self._claims: dict[str, object] = {}
        self._standing: Counter[str] = Counter()  # name to how many entries, also claimed ones, stand on it

    # --- looking -----------------------------------------------------------------------------------------------

    def get(self, name: str) -> E:
        """The entry of a key or name. NotFound."""
        with self._lock:
            return self._get(name)

    def entries(self) -> list[E]:
        """All of them."""
        with self._lock:
            return list(self._entries.values())

    def chain(self, name: str) -> list[E]:
        """The entry and all it stands on, topmost first."""
        with self._lock:
            chain = [self._get(name)]
            while (parent := chain[-1].snapshot.parent) is not None:
                below = self._entries.get(parent)
                if below is None or len(chain) > len(self._entries):
                    raise DriverFault(
                        f"{name}: {parent!r}, on which it stands, is not in {self._place}; `pyd system check --repair` "
                        "unpacks again what images are made of"
                    )
                chain.append(below)
            return chain

    def check_commit(self, name: str, key: str) -> E:
        """Raise what a commit would; else the entry."""
        with self._lock:
            return self._committable(name, key)

    # --- for catalogs ------------------------------------------------------------------------------------------

    def load(self, entries: Iterable[E]) -> None:
        """Take over what an earlier run left."""
        with self._lock:
            for entry in entries:
                self._entries[entry.snapshot.name] = entry
                if entry.snapshot.parent is not None:
                    self._standing[entry.snapshot.parent] += 1

    @contextlib.contextmanager
    def claim(self, kind: Kind, key: str, parent: str | None) -> Iterator[E | None]:
        """Take *key* for the time of the block, or until `enter` makes an entry of it; let *parent* stay, and give its entry.

        InvalidArgument for a malformed key or a parent that is not committed, AlreadyExists, NotFound.
        """
        if _NAME.fullmatch(key) is None:
            raise InvalidArgument(f"{key!r} is no key: 1 to 128 of a-z A-Z 0-9 _ . : -, first a letter or digit")
        claim = object()
        with self._lock:
            if key in self._entries or key in self._claims:
                raise AlreadyExists(f"{kind.value} snapshot {key}: the name is taken")
            below = None if parent is None else self._get(parent)
            if below is not None and below.snapshot.kind is not Kind.COMMITTED:
                raise InvalidArgument(f"{kind.value} snapshot {key}: {parent} is not committed and cannot be a parent")
            self._claims[key] = claim
            if parent is not None:
                self._standing[parent] += 1
        try:
            yield below
        finally:
            with self._lock:
                # Once it was entered, the key may have been removed and be claimed by somebody else.
                if self._claims.get(key) is claim:
                    del self._claims[key]
                    if parent is not None:
                        self._standing[parent] -= 1

    def enter(self, entry: E) -> None:
        """Make an entry of what is claimed."""
        with self._lock:
            self._claims.pop(entry.snapshot.name, None)
            self._entries[entry.snapshot.name] = entry

    def rename(self, name: str, key: str, write: Callable[[E], E]) -> E:
        """Commit *key* as *name*: *write* puts that on the disk and gives the new entry."""
        with self._lock:
            committed = write(self._committable(name, key))
            del self._entries[key]
            self._entries[name] = committed
            return committed

    def stand(self, key: str, parent: str, write: Callable[[E], E]) -> E:
        """Put *key*, which has no parent, over *parent*: *write* puts that on the disk and gives the new entry.

        NotFound, InvalidArgument for a parent that is not committed, FailedPrecondition; nothing when it is there already.
        """
        with self._lock:
            entry, below = self._get(key), self._get(parent)
            if below.snapshot.kind is not Kind.COMMITTED:
                raise InvalidArgument(f"rebase {key}: {parent} is not committed and cannot be a parent")
            if entry.snapshot.kind is not Kind.ACTIVE:
                raise FailedPrecondition(f"rebase {key} over {parent}: it is {entry.snapshot.kind.value}, not active")
            if entry.snapshot.parent not in {None, parent}:
                raise FailedPrecondition(f"rebase {key} over {parent}: it stands on {entry.snapshot.parent} already")
            if entry.snapshot.parent is None:
                entry = self._entries[key] = write(entry)
                self._standing[parent] += 1
            return entry

    def drop(self, name: str, unlink: Callable[[E], None]) -> E:
        """Remove an entry that nothing stands on: *unlink* takes it from the disk."""
        with self._lock:
            entry = self._get(name)
            if self._standing[name]:
                raise FailedPrecondition(f"remove {name}: other snapshots stand on it; remove those first")
            unlink(entry)
            self._forget(entry)
            return entry

    def forget(self, entry: E) -> None:
        """It is gone from the disk, whatever stands on it. Twice is once."""
        with self._lock:
            if self._entries.get(entry.snapshot.name) is entry:
                self._forget(entry)

    # --- inside ------------------------------------------------------------------------------------------------

    def _get(self, name: str) -> E:
        entry = self._entries.get(name)
        if entry is None:
            raise NotFound(f"no snapshot {name!r}")
        return entry

    def _committable(self, name: str, key: str) -> E:
        if _NAME.fullmatch(name) is None:
            raise InvalidArgument(f"{name!r} is no name: 1 to 128 of a-z A-Z 0-9 _ . : -, first a letter or digit")
        entry = self._get(key)
        if entry.snapshot.kind is not Kind.ACTIVE:
            raise FailedPrecondition(f"commit {key} as {name}: it is {entry.snapshot.kind.value}, not active")
        if name in self._entries or name in self._claims:
            raise AlreadyExists(f"commit {key} as {name}: the name is taken")
        return entry

    def _forget(self, entry: E) -> None:
        del self._entries[entry.snapshot.name]
        if entry.snapshot.parent is not None:
            self._standing[entry.snapshot.parent] -= 1
