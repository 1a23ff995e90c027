"""What differs between a subvolume and the one it is a snapshot of.

Inode numbers stay the same in a snapshot, and `generations.touched` knows which inodes have changed, with the directories
above them. So two names of the same inode that was not touched are the same with all below, and are passed over; only
directories in which something happened are read. Everything is opened by inode number: a container at work can neither
lead us astray nor make a path too long.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from itertools import zip_longest

from pyd_contracts.values import ChangeKind, TreeChange
from pyd_snapshots.syscalls import syncfs
from pyd_snapshots.trees import DIRECTORY, opened

from . import kernel
from .generations import touched
from .subvolumes import nested

__all__ = ["changes"]

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20

_Place = tuple[int, int]
"""An inode: the subvolume's id and the inode's number."""


def changes(new: str, old: str | None) -> list[TreeChange]:
    """Compare the subvolumes at two paths; directories come before what is in them. OSError."""
    with opened(os.open(new, DIRECTORY)) as fd:
        syncfs(fd)  # an inode that is written to tells the tree when its content is written out
        comparison = _Comparison(fd)
        top = kernel.subvolume_id(fd)
        comparison.add(top)
        if old is None:
            comparison.compare(top, None)
        else:
            with opened(os.open(old, DIRECTORY)) as other:
                below = kernel.subvolume_id(other)
            comparison.add(below)
            comparison.compare(top, below)
    return [TreeChange(kind, path) for path, kind in sorted(comparison.found.items())]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A directory to be read, and the one that was at its path."""

    path: bytes
    new: _Place
    old: _Place | None


class _Node:
    """A name in an open directory, good while that is open; without a name the directory itself."""

    def __init__(self, directory: int, name: bytes = b".") -> None:
        self.status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        self._directory = directory
        self._name = name

    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def attributes(self) -> dict[str, bytes]:
        # There is no call for attributes below a descriptor before Linux 6.13; the magic link names the directory.
        path = b"/proc/self/fd/%d/%b" % (self._directory, self._name)
        names = os.listxattr(path, follow_symlinks=False)
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}

    def content(self) -> Iterator[bytes]:
        if stat.S_ISLNK(self.status.st_mode):
            yield os.readlink(self._name, dir_fd=self._directory)
        elif stat.S_ISREG(self.status.st_mode):
            with opened(os.open(self._name, _FILE, dir_fd=self._directory)) as fd:
                while data := os.read(fd, _CHUNK):
                    yield data


def _alike(one: _Node, other: _Node) -> bool:
    """Whether two names show the same; of a directory, its own mode, owner and attributes.

    Content is read only when everything else is the same: a file that got another name, or was replaced by its like.
    """
    new, old = one.status, other.status
    if (new.st_mode, new.st_uid, new.st_gid, new.st_rdev) != (old.st_mode, old.st_uid, old.st_gid, old.st_rdev):
        return False
    if not one.is_directory() and (new.st_size, new.st_mtime_ns) != (old.st_size, old.st_mtime_ns):
        return False
    if one.attributes() != other.attributes():
        return False
    return all(a == b for a, b in zip_longest(one.content(), other.content()))


class _Comparison:
    """One run over two subvolumes and what is nested in them. *fd*: any file of the mount."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._nested: dict[tuple[int, int, bytes], int] = {}
        self._subvolumes: dict[int, kernel.Subvolume] = {}
        self._touched: dict[int, set[int]] = {}
        self._pending: list[_Pair] = []
        self.found: dict[bytes, ChangeKind] = {}

    def add(self, top: int) -> None:
        """Make a subvolume and all that is nested in it known."""
        self._nested.update({(each.inside, each.directory, each.name): each.id for each in nested(self._fd, top)})

    def compare(self, new: int, old: int | None) -> None:
        """Fill *found*."""
        top = (new, kernel.FIRST_FREE_OBJECTID)
        below = None if old is None else (old, kernel.FIRST_FREE_OBJECTID)
        if below is not None:
            if self._same(top, below):
                return
            with self._open(top) as one, self._open(below) as other:
                if not _alike(_Node(one), _Node(other)):
                    self.found[b""] = ChangeKind.MODIFIED
        self._pending.append(_Pair(b"", top, below))
        while self._pending:
            pair = self._pending.pop()
            with suppress(FileNotFoundError):  # a container at work
                self._directory(pair)
        for path in list(self.found):
            above = path
            while above:
                above = above.rpartition(b"/")[0]
                if above in self.found:
                    break
                self.found[above] = ChangeKind.MODIFIED

    def _directory(self, pair: _Pair) -> None:
        before: dict[bytes, _Place] = {}
        with ExitStack() as held:
            new = held.enter_context(self._open(pair.new))
            names = self._names(new, pair.new)
            old = -1
            if pair.old is not None:
                old = held.enter_context(self._open(pair.old))
                before = self._names(old, pair.old)
            for name, place in names.items():
                earlier = before.get(name)
                if earlier is None or not self._same(place, earlier):
                    with suppress(FileNotFoundError):  # a container at work
                        node = _Node(new, name)
                        self._name(_joined(pair.path, name), node, place, earlier and _Node(old, name), earlier)
        for name in before.keys() - names.keys():
            self.found[_joined(pair.path, name)] = ChangeKind.DELETED

    def _name(self, path: bytes, new: _Node, place: _Place, old: _Node | None, earlier: _Place | None) -> None:
        """A name that is new, or that may have changed."""
        if old is None:
            self.found[path] = ChangeKind.ADDED
        elif not _alike(new, old):
            self.found[path] = ChangeKind.MODIFIED
        if new.is_directory():
            self._pending.append(_Pair(path, place, earlier if old is not None and old.is_directory() else None))

    def _names(self, fd: int, place: _Place) -> dict[bytes, _Place]:
        subvolume, directory = place
        found: dict[bytes, _Place] = {}
        with os.scandir(fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                inner = self._nested.get((subvolume, directory, name))
                found[name] = (subvolume, entry.inode()) if inner is None else (inner, kernel.FIRST_FREE_OBJECTID)
        return found

    def _same(self, new: _Place, old: _Place) -> bool:
        """Whether two inodes are one, before and after a snapshot, and nothing happened to it or below it."""
        if new[1] != old[1]:
            return False
        one = self._subvolume(new[0])
        if one.origin != self._subvolume(old[0]).uuid:
            return False
        if one.id not in self._touched:
            holders = {directory for inside, directory, _ in self._nested if inside == one.id}
            self._touched[one.id] = touched(self._fd, one, holders)
        return new[1] not in self._touched[one.id]

    def _subvolume(self, number: int) -> kernel.Subvolume:
        if number not in self._subvolumes:
            with self._open((number, kernel.FIRST_FREE_OBJECTID)) as fd:
                self._subvolumes[number] = kernel.subvolume_info(fd)
        return self._subvolumes[number]

    def _open(self, place: _Place) -> AbstractContextManager[int]:
        return opened(kernel.open_inode(self._fd, *place, DIRECTORY))


def _joined(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name
