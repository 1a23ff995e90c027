"""Subvolumes that hold subvolumes: a program in a container may make them, without any privilege.

A snapshot leaves an empty place where a nested subvolume was, and a subvolume that holds another cannot be destroyed. So
both are done here for all that is nested. What is nested is found in the tree of roots, not by walking; directories are
opened by handle, so that no path is too long and nothing is followed.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass

from pyd_snapshots.trees import DIRECTORY, opened

from . import kernel
from .quota import forget, lift

__all__ = ["Nested", "destroy", "nested", "read_only", "snapshot"]

_SCARCE = 16  # room for less than this part of the whole
_PATIENCE = 10.0  # seconds
_ROOT_REF = 156  # BTRFS_ROOT_REF_KEY


@dataclass(frozen=True, slots=True)
class Nested:
    """A subvolume inside another: *name* in the directory with the inode number *directory* of the subvolume *inside*."""

    id: int
    inside: int
    directory: int
    name: bytes


def nested(fd: int, top: int) -> list[Nested]:
    """All subvolumes inside the subvolume *top*, at any depth; the outer ones first. *fd*: any file of the mount."""
    found: list[Nested] = []
    pending = [top]
    while pending:
        inside = pending.pop()
        span = (inside, _ROOT_REF, 0), (inside, _ROOT_REF, (1 << 64) - 1)
        for _, _, child, item in kernel.tree_search(fd, kernel.ROOT_TREE, *span):
            # struct btrfs_root_ref { u64 dirid, sequence; u16 name_len; } and the name
            directory, _sequence, length = struct.unpack_from("=QQH", item)
            found.append(Nested(child, inside, directory, bytes(item[18 : 18 + length])))
            pending.append(child)
    return found


def snapshot(source: str, directory: int, name: bytes) -> None:
    """Snapshot the subvolume at *source* as *name*, with all that is nested in it; writable. A half is left on OSError."""
    with opened(os.open(source, DIRECTORY)) as old:
        kernel.snapshot_create(old, directory, name)
        top = kernel.subvolume_id(old)
        inner = nested(old, top)
        if not inner:
            return
        with opened(os.open(name, DIRECTORY, dir_fd=directory)) as new:
            copies = {top: kernel.subvolume_id(new)}
            for each in inner:
                copies[each.id] = _again(old, new, copies[each.inside], each)


def _again(old: int, new: int, inside: int, each: Nested) -> int:
    """Put a snapshot of a nested subvolume where the snapshot around it has an empty place. Returns its id."""
    with (
        opened(kernel.open_inode(old, each.id, kernel.FIRST_FREE_OBJECTID, DIRECTORY)) as source,
        opened(kernel.open_inode(new, inside, each.directory, DIRECTORY)) as place,
    ):
        before = os.fstat(place)
        os.rmdir(each.name, dir_fd=place)
        kernel.snapshot_create(source, place, each.name)
        os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
        with opened(os.open(each.name, DIRECTORY, dir_fd=place)) as made:
            return kernel.subvolume_id(made)


def read_only(path: str, wanted: bool) -> None:
    """Make the subvolume at *path*, and all that is nested in it, read-only or writable."""
    with opened(os.open(path, DIRECTORY)) as top:
        for each in nested(top, kernel.subvolume_id(top)):
            with opened(kernel.open_inode(top, each.id, kernel.FIRST_FREE_OBJECTID, DIRECTORY)) as inner:
                kernel.subvolume_read_only(inner, wanted)
        kernel.subvolume_read_only(top, wanted)


def destroy(directory: int, name: str) -> None:
    """Destroy the subvolume *name* of an open directory and all that is nested in it, the innermost first."""
    with opened(os.open(name, DIRECTORY, dir_fd=directory)) as top:
        number = kernel.subvolume_id(top)
        inner = nested(top, number)
        if inner:
            lift(top, number)
        for inside in {each.inside for each in inner}:
            with opened(kernel.open_inode(top, inside, kernel.FIRST_FREE_OBJECTID, DIRECTORY)) as fd:
                kernel.subvolume_read_only(fd, False)
        for each in reversed(inner):
            with opened(kernel.open_inode(top, each.inside, each.directory, DIRECTORY)) as place:
                _destroy(place, each.name)
    _destroy(directory, os.fsencode(name))
    numbers = [number, *(each.id for each in inner)]
    forget(directory, numbers)
    _settle(directory, numbers)


def _settle(fd: int, numbers: list[int]) -> None:
    """Where room is scarce, wait for the blocks of destroyed subvolumes: who removes then wants to write.

    The kernel frees them in the background otherwise, and is let do so after some seconds here, too.
    """
    room = os.statvfs(fd)
    if room.f_bavail * _SCARCE > room.f_blocks:
        return
    kernel.clean(fd)
    deadline = time.monotonic() + _PATIENCE
    while any(kernel.subvolume_exists(fd, number) for number in numbers) and time.monotonic() < deadline:
        time.sleep(0.01)


def _destroy(directory: int, name: bytes) -> None:
    """Destroy one; when it is not permitted, take immutable and append-only flags away and do it again."""
    try:
        kernel.snapshot_destroy(directory, name)
    except PermissionError:
        kernel.flags_clear(directory)
        with opened(os.open(name, DIRECTORY, dir_fd=directory)) as victim:
            if not kernel.subvolume_read_only(victim):
                kernel.flags_clear(victim)
        kernel.snapshot_destroy(directory, name)
