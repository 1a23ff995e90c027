"""A storage driver in a hundred lines: every snapshot is a directory, prepare copies it.

Kind and name are the path, so that each step of the life cycle is one rename(2), which happens whole or not at all::

    <root>/active/<key>/{parent,tree/}       committed/<name>/{parent,tree/}       view/<key>/{parent}
    <root>/staging/                          what is being made or deleted; emptied by the next open
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyd_contracts.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PydError,
    from_oserror,
)
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, Mount, Snapshot, Usage

from . import kernel

__all__ = ["TemplateDriver"]

_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,127}")


class TemplateDriver:
    """The storage contract, `pyd_contracts.storage`; read its clauses side by side with this."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.RLock()  # STO-3 the short way: one call at a time
        with _translated(f"open {root}"):
            for folder in ("staging", *(kind.value for kind in Kind)):
                (root / folder).mkdir(mode=0o700, exist_ok=True)
            for leftover in (root / "staging").iterdir():  # STO-40
                kernel.remove(leftover)

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        """Copy the parent's tree."""
        if options:
            raise InvalidArgument(f"prepare {key}: unknown options: {', '.join(sorted(options))}")
        return self._make(Kind.ACTIVE, key, parent)

    @hookimpl
    def storage_view(self, key: str, parent: str) -> Sequence[Mount]:
        """Show the parent's tree itself, read-only."""
        return self._make(Kind.VIEW, key, parent)

    @hookimpl
    def storage_mounts(self, key: str) -> Sequence[Mount]:
        """A bind mount of the tree."""
        snapshot = self.storage_stat(key)
        if snapshot.kind is Kind.COMMITTED:
            raise FailedPrecondition(f"{key} is committed: prepare or view a snapshot on it and mount that")
        if snapshot.kind is Kind.VIEW:
            return (Mount("bind", f"{self._root}/{Kind.COMMITTED.value}/{snapshot.parent}/tree", ("rbind", "ro")),)
        return (Mount("bind", f"{self._path(snapshot)}/tree", ("rbind", "rw")),)

    @hookimpl
    def storage_commit(self, name: str, key: str) -> Snapshot:
        """One rename: out of ``active``, into ``committed``."""
        with self._lock, _translated(f"commit {key} as {name}"):
            snapshot = self.storage_stat(key)
            if snapshot.kind is not Kind.ACTIVE:
                raise FailedPrecondition(f"commit {key}: it is {snapshot.kind.value}, not active")
            self._free(name)
            committed = Snapshot(name, Kind.COMMITTED, snapshot.parent)
            os.rename(self._path(snapshot), self._path(committed))
            return committed

    @hookimpl
    def storage_remove(self, name: str) -> None:
        """One rename out of sight, then rm(1)."""
        with self._lock, _translated(f"remove {name}"):
            snapshot = self.storage_stat(name)
            if any(other.parent == name for other in self.storage_walk()):
                raise FailedPrecondition(f"remove {name}: other snapshots stand on it; remove those first")
            os.rename(self._path(snapshot), self._root / "staging" / name)
            kernel.remove(self._root / "staging" / name)

    @hookimpl
    def storage_stat(self, name: str) -> Snapshot:
        """Look where it is."""
        with self._lock:
            if _KEY.fullmatch(name):
                for kind in Kind:
                    note = self._root / kind.value / name / "parent"
                    if note.exists():
                        return Snapshot(name, kind, note.read_text(encoding="ascii") or None)
            raise NotFound(f"no snapshot {name!r}")

    @hookimpl
    def storage_walk(self) -> Iterable[Snapshot]:
        """List what there is."""
        with self._lock:
            return [self.storage_stat(name) for kind in Kind for name in os.listdir(self._root / kind.value)]

    @hookimpl
    def storage_usage(self, name: str) -> Usage:
        """Ask du(1)."""
        path = self._path(self.storage_stat(name))
        return Usage(bytes=kernel.allocated(path), inodes=kernel.inodes(path))

    @hookimpl
    def storage_close(self) -> None:
        """Nothing is held open."""

    def _make(self, kind: Kind, key: str, parent: str | None) -> Sequence[Mount]:
        with self._lock, _translated(f"make {kind.value} snapshot {key}"):
            self._free(key)
            if parent is not None and self.storage_stat(parent).kind is not Kind.COMMITTED:
                raise InvalidArgument(f"{key}: {parent} is not committed and cannot be a parent")
            draft = self._root / "staging" / key
            try:
                draft.mkdir(mode=0o700)
                (draft / "parent").write_text(parent or "", encoding="ascii")
                if kind is Kind.ACTIVE and parent is None:
                    (draft / "tree").mkdir()
                    (draft / "tree").chmod(0o755)  # whatever the umask is: STO-10
                elif kind is Kind.ACTIVE:
                    kernel.copy(self._root / Kind.COMMITTED.value / str(parent) / "tree", draft / "tree")
                os.rename(draft, self._root / kind.value / key)
            except (OSError, PydError):  # STO-1
                kernel.remove(draft)
                raise
            return self.storage_mounts(key)

    def _free(self, name: str) -> None:
        if _KEY.fullmatch(name) is None:
            raise InvalidArgument(f"{name!r} is no key: 1 to 128 of a-z A-Z 0-9 _ . : -, first a letter or digit")
        if any((self._root / kind.value / name).exists() for kind in Kind):
            raise AlreadyExists(f"{name} is taken")

    def _path(self, snapshot: Snapshot) -> Path:
        return self._root / snapshot.kind.value / snapshot.name


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """`OSError` never crosses a contract."""
    try:
        yield
    except OSError as error:
        raise from_oserror(error, doing) from error
