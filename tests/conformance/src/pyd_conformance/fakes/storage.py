"""A storage driver whose entries live in memory and whose content lives in plain directories.

For tests of whatever stands on a storage driver: it prepares, commits and removes without any privilege (only mounting
needs root), and it passes the same suite as the real ones. "Disk" is what all fakes on one root share, so that a fake
made again on the same root finds what the former left, as after a restart of the daemon.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pyd_conformance.trees import Tree, difference, read_tree
from pyd_contracts.errors import (
    AlreadyExists,
    DriverFault,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PydError,
    ResourceExhausted,
    from_oserror,
)
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, LayerTarget, Mount, Snapshot, TreeChange, Usage, Whiteouts

__all__ = ["FakeStorage"]

_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,127}")


@dataclass(slots=True)
class _Disk:
    """What outlives a fake: entries, each with its directory's number, and the lock over both."""

    inode: int
    entries: dict[str, tuple[Snapshot, str]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    lock: threading.RLock = field(default_factory=threading.RLock)


_DISKS: dict[str, _Disk] = {}


class FakeStorage:
    """Passes StorageContract with the capabilities it names. *root* must exist; *run* is not used."""

    capabilities = frozenset({"layer-targets", "native-diff", "release"})

    def __init__(self, root: Path, run: Path | None = None) -> None:
        self._root = os.path.realpath(root)
        self._run = run
        inode = os.stat(self._root).st_ino
        disk = _DISKS.get(self._root)
        if disk is None or disk.inode != inode:  # a directory made anew is another disk
            disk = _DISKS[self._root] = _Disk(inode)
        self._disk = disk
        with disk.lock:
            known = {number for _, number in disk.entries.values()}
            for leftover in set(os.listdir(self._root)) - known:
                _run("rm", "-rf", "--", f"{self._root}/{leftover}")

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        """Copy the parent with cp(1)."""
        if options:
            raise InvalidArgument(f"prepare {key}: unknown options {sorted(options)}")
        return self._make(Snapshot(key, Kind.ACTIVE, parent))

    @hookimpl
    def storage_view(self, key: str, parent: str) -> Sequence[Mount]:
        """Show the parent itself."""
        return self._make(Snapshot(key, Kind.VIEW, parent))

    @hookimpl
    def storage_mounts(self, key: str) -> Sequence[Mount]:
        """A bind mount, always."""
        snapshot, number = self._get(key)
        if snapshot.kind is Kind.COMMITTED:
            raise FailedPrecondition(f"{key} is committed and has no mounts")
        if snapshot.kind is Kind.VIEW:
            return (Mount("bind", f"{self._root}/{self._get(snapshot.parent or '')[1]}", ("rbind", "ro")),)
        return (Mount("bind", f"{self._root}/{number}", ("rbind", "rw")),)

    @hookimpl
    def storage_commit(self, name: str, key: str) -> Snapshot:
        """Rename in memory."""
        with self._disk.lock:
            snapshot, number = self._get(key)
            if snapshot.kind is not Kind.ACTIVE:
                raise FailedPrecondition(f"commit {key}: it is {snapshot.kind.value}")
            self._free(name)
            committed = Snapshot(name, Kind.COMMITTED, snapshot.parent)
            del self._disk.entries[key]
            self._disk.entries[name] = (committed, number)
            return committed

    @hookimpl
    def storage_remove(self, name: str) -> None:
        """Forget, then delete."""
        with self._disk.lock:
            _, number = self._get(name)
            if any(snapshot.parent == name for snapshot, _ in self._disk.entries.values()):
                raise FailedPrecondition(f"remove {name}: other snapshots stand on it")
            del self._disk.entries[name]
        _run("rm", "-rf", "--", f"{self._root}/{number}")

    @hookimpl
    def storage_stat(self, name: str) -> Snapshot:
        """From memory."""
        return self._get(name)[0]

    @hookimpl
    def storage_walk(self) -> Iterable[Snapshot]:
        """From memory."""
        with self._disk.lock:
            return [snapshot for snapshot, _ in self._disk.entries.values()]

    @hookimpl
    def storage_usage(self, name: str) -> Usage:
        """Count the entry's directory."""
        snapshot, number = self._get(name)
        if snapshot.kind is Kind.VIEW:
            return Usage(0, 0)
        found = {}
        for at, folders, files in os.walk(f"{self._root}/{number}"):
            for each in (at, *(os.path.join(at, name) for name in (*folders, *files))):
                status = os.lstat(each)
                found[status.st_ino] = status.st_blocks * 512
        return Usage(sum(found.values()), len(found))

    @hookimpl
    def storage_layer_target(self, key: str) -> LayerTarget:
        """The directory itself."""
        snapshot, number = self._get(key)
        if snapshot.kind is not Kind.ACTIVE:
            raise FailedPrecondition(f"{key} is {snapshot.kind.value}, not active")
        return LayerTarget(Path(self._root, number), Whiteouts.PLAIN)

    @hookimpl
    def storage_changes(self, name: str) -> Iterable[TreeChange]:
        """Read both trees; where content is at hand, that is no work."""
        snapshot, number = self._get(name)
        if snapshot.kind is Kind.VIEW:
            raise FailedPrecondition(f"{name} is a view and has no changes")
        old: Tree = read_tree(Path(self._root, self._get(snapshot.parent)[1])) if snapshot.parent else {}
        new = read_tree(Path(self._root, number))
        return sorted(difference(old or {b".": new[b"."]}, new), key=lambda change: change.path)

    @hookimpl
    def storage_release(self, key: str) -> None:
        """Nothing is held."""
        self.storage_mounts(key)

    @hookimpl
    def storage_close(self) -> None:
        """Nothing is held."""

    def _make(self, snapshot: Snapshot) -> Sequence[Mount]:
        with self._disk.lock:
            self._free(snapshot.name)
            source = None
            if snapshot.parent is not None:
                parent, source = self._get(snapshot.parent)
                if parent.kind is not Kind.COMMITTED:
                    raise InvalidArgument(f"{snapshot.name}: {parent.name} is not committed and cannot be a parent")
            number = str(next(self._disk.numbers))
            if snapshot.kind is Kind.ACTIVE:
                self._fill(f"{self._root}/{number}", source and f"{self._root}/{source}")
            self._disk.entries[snapshot.name] = (snapshot, number)
            return self.storage_mounts(snapshot.name)

    def _fill(self, path: str, source: str | None) -> None:
        with _translated(f"make {path}"):
            try:
                os.mkdir(path)
                os.chmod(path, 0o755)
                if source is not None:
                    _run("cp", "-aT", "--reflink=auto", "--", source, path)
            except (OSError, PydError):
                _run("rm", "-rf", "--", path)
                raise

    def _free(self, name: str) -> None:
        if _KEY.fullmatch(name) is None:
            raise InvalidArgument(f"{name!r} is no key")
        if name in self._disk.entries:
            raise AlreadyExists(f"{name} is taken")

    def _get(self, name: str) -> tuple[Snapshot, str]:
        with self._disk.lock:
            if name not in self._disk.entries:
                raise NotFound(f"no snapshot {name!r}")
            return self._disk.entries[name]


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise from_oserror(error, doing) from error


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode and os.strerror(errno.ENOSPC) in done.stderr:
        raise ResourceExhausted(f"{' '.join(command)}: {done.stderr.strip()}")
    if done.returncode:
        raise DriverFault(f"{' '.join(command)}: {done.stderr.strip()}")
