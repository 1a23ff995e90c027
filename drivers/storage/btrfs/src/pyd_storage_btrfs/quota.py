"""Limits of size: a quota group for each snapshot that has one.

Where the kernel has simple quotas (Linux 6.7), a snapshot that is limited becomes the member of a group of our own, and
so does by itself every subvolume that is made inside it: there is no way round the limit. Full quotas, the older kind,
count what only this subvolume refers to, and know nothing of nested ones. Both limit what a snapshot holds by itself; its
parents do not count.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress

from pyd_contracts.errors import InvalidArgument, Unsupported

from . import kernel

__all__ = ["MODES", "forget", "lift", "limit", "parse_size", "ready", "state", "sweep"]

MODES = ("auto", "simple", "full", "off")
_QUOTA_TREE = 8  # BTRFS_QUOTA_TREE_OBJECTID
_STATUS, _INFO, _RELATION = 240, 242, 246  # BTRFS_QGROUP_*_KEY
_SIMPLE = 1 << 3  # BTRFS_QGROUP_STATUS_FLAG_SIMPLE_MODE
_ON = 1 << 0  # BTRFS_QGROUP_STATUS_FLAG_ON
_LEVEL = 0x7079  # of our groups, out of 16 bits: 28793, "py"
_GONE = {errno.ENOENT, errno.ENOTCONN, errno.EINVAL}
_LEAST = 1 << 20  # bytes; the tree of an empty subvolume takes some of it


def parse_size(text: str) -> int:
    """Bytes, as decimal digits. InvalidArgument.

    >>> parse_size("67108864")
    67108864
    """
    if not (text.isascii() and text.isdecimal()):
        raise InvalidArgument(f"size {text!r} is no number of bytes")
    if not _LEAST <= int(text) < 1 << 63:
        raise InvalidArgument(f"size {text} is out of range: a subvolume takes {_LEAST} bytes at least")
    return int(text)


def ready(fd: int, mode: str) -> None:
    """See that quotas are on, in a way that *mode* allows. Unsupported with the reason when they are not."""
    if state(fd) is not None:
        return
    for simple in {"auto": (True, False), "simple": (True,), "full": (False,)}[mode]:
        try:
            kernel.quota_enable(fd, simple=simple)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            continue
        return
    raise Unsupported(
        'size: this kernel has no simple quotas (Linux 6.7 has); quota = "auto" or "full" takes the others'
    )


def limit(fd: int, size: int) -> None:
    """Bound what the subvolume of the open directory *fd* may hold by itself. `ready` was called before it was made."""
    number = kernel.subvolume_id(fd)
    group = number
    if state(fd):
        group = _LEVEL << 48 | number
        kernel.qgroup_create(fd, group, create=True)
        kernel.qgroup_assign(fd, number, group, assign=True)
    kernel.qgroup_limit(fd, group, size)


def lift(fd: int, number: int) -> None:
    """Take the limit off: a subvolume that is full has no room for the change that removes what is nested in it."""
    simple = state(fd)
    if simple is None:
        return
    with suppress(FileNotFoundError):  # it never had one
        kernel.qgroup_limit(fd, _LEVEL << 48 | number if simple else number, None)


def forget(fd: int, subvolumes: Iterable[int]) -> None:
    """Remove the groups of subvolumes that are destroyed. What the kernel still counts it removes itself, or `sweep` does."""
    simple = state(fd)
    if simple is None:
        return
    for number in subvolumes:
        _remove(fd, _LEVEL << 48 | number)
        if not simple:
            _remove(fd, number)


def sweep(fd: int) -> None:
    """Remove groups of ours whose subvolume is gone."""
    if state(fd) is None:
        return
    span = (0, _INFO, _LEVEL << 48), (0, _INFO, (_LEVEL + 1 << 48) - 1)
    groups = [offset for _, kind, offset, _ in kernel.tree_search(fd, _QUOTA_TREE, *span) if kind == _INFO]
    for group in groups:
        if not kernel.subvolume_exists(fd, group & (1 << 48) - 1, named=True):
            _remove(fd, group)


def _remove(fd: int, group: int) -> None:
    for member in list(_members(fd, group)):
        with suppress(FileNotFoundError):
            kernel.qgroup_assign(fd, member, group, assign=False)
    try:
        kernel.qgroup_create(fd, group, create=False)
    except OSError as error:
        if error.errno not in _GONE | {errno.EBUSY}:
            raise


def _members(fd: int, group: int) -> Iterator[int]:
    span = (group, _RELATION, 0), (group, _RELATION, (1 << 64) - 1)
    for _, _, other, _ in kernel.tree_search(fd, _QUOTA_TREE, *span):
        if other < group:  # each relation is there twice, from either side
            yield other


def state(fd: int) -> bool | None:
    """None: quotas are off; else whether they are simple ones."""
    try:
        for _, kind, _, item in kernel.tree_search(fd, _QUOTA_TREE, (0, _STATUS, 0), (0, _STATUS, 0)):
            if kind == _STATUS:
                (flags,) = struct.unpack_from("=16xQ", item)  # { u64 version, generation, flags, rescan; }
                return bool(flags & _SIMPLE) if flags & _ON else None
    except FileNotFoundError:
        pass
    return None
