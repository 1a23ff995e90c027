"""What a container's root file system has that its image's has not: for ``docker diff`` and for the layer of a commit, where
the storage driver does not know it by itself (`pyd_contracts.storage.DiffSource`).

Two trees are walked together: the image's (*old*) and the container's (*new*). Two files are the same when mode, owner,
device, size and modification time are (as dockerd's naive differ has it).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["ADDED", "DELETED", "MODIFIED", "Change", "changes"]

MODIFIED, ADDED, DELETED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Change:
    """One path (absolute in the container) and what became of it."""

    kind: int
    path: bytes


def changes(new: int, old: int | None) -> list[Change]:
    """All changes, parents before what is in them. *new* and *old* are open directories; None: there was nothing."""
    return list(_walk(new, old, b""))


def _walk(new: int, old: int | None, path: bytes) -> Iterator[Change]:
    names = sorted(map(os.fsencode, os.listdir(new)))
    before = set(map(os.fsencode, os.listdir(old))) if old is not None else set()
    for name in names:
        found = os.stat(name, dir_fd=new, follow_symlinks=False)
        here = path + b"/" + name
        known = os.stat(name, dir_fd=old, follow_symlinks=False) if old is not None and name in before else None
        if stat.S_ISDIR(found.st_mode):
            yield from _directory(new, old, name, here, found, known)
        elif known is None:
            yield Change(ADDED, here)
        elif _differ(found, known):
            yield Change(MODIFIED, here)
    yield from (Change(DELETED, path + b"/" + name) for name in sorted(before.difference(names)))


def _directory(
    new: int, old: int | None, name: bytes, here: bytes, found: os.stat_result, known: os.stat_result | None
) -> Iterator[Change]:  # fmt: skip
    """A directory is a change when it is one itself, or when something in it is."""
    inner = _open(name, new)
    outer = _open(name, old) if old is not None and known is not None and stat.S_ISDIR(known.st_mode) else None
    try:
        below = list(_walk(inner, outer, here))
        if known is None:
            yield Change(ADDED, here)
        elif below or _differ(found, known):
            yield Change(MODIFIED, here)
        yield from below
    finally:
        os.close(inner)
        if outer is not None:
            os.close(outer)


def _open(name: bytes, parent: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _differ(one: os.stat_result, other: os.stat_result) -> bool:
    if (one.st_mode, one.st_uid, one.st_gid) != (other.st_mode, other.st_uid, other.st_gid):
        return True
    if stat.S_ISDIR(one.st_mode):
        return False
    return (one.st_rdev, one.st_size, one.st_mtime_ns) != (other.st_rdev, other.st_size, other.st_mtime_ns)
