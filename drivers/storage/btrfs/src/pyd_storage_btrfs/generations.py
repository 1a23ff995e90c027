"""What a subvolume holds that its parent does not, read from its tree: every item says which transaction wrote it.

A snapshot remembers the transaction that made it. Parts of the tree that are older are shared with the parent and passed
over by the kernel: the cost goes with what was changed, not with what is there.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Iterator

from pyd_snapshots.trees import opened

from . import kernel

__all__ = ["touched", "usage"]

_INODE, _REF, _EXTREF, _EXTENT = 1, 12, 13, 108  # BTRFS_*_KEY: INODE_ITEM, INODE_REF, INODE_EXTREF, EXTENT_DATA
_INODE_HEAD = struct.Struct("=QQ16x8x4x8xI")  # generation, transid, size, nbytes, block_group, nlink, uid, gid, mode
_EXTENT_HEAD = struct.Struct("=Q8x4xB")  # generation, ram_bytes, compression, encryption, other_encoding, type
_EXTENT_TAIL = struct.Struct("=QQQQ")  # disk_bytenr, disk_num_bytes, offset, num_bytes
_INLINE = 0  # BTRFS_FILE_EXTENT_INLINE
_FIRST = (kernel.FIRST_FREE_OBJECTID, 0, 0)
_LAST = ((1 << 64) - 256, 0xFF, (1 << 64) - 1)  # BTRFS_LAST_FREE_OBJECTID: above are the tree's own


def usage(fd: int, subvolume: kernel.Subvolume) -> tuple[int, int]:
    """Bytes of files and inodes that the subvolume holds by itself; its top is not counted.

    New files are asked, as they may have bytes in memory that are not in the tree yet. Those that were written over files
    of the parent count once they have their place on disk (within 30 seconds, or by fsync(2)).
    """
    total = inodes = 0
    asked = -1  # the inode that was counted by asking it
    for number, kind, _, item in kernel.tree_search(fd, subvolume.id, _FIRST, _LAST, subvolume.since):
        if kind == _INODE and number != kernel.FIRST_FREE_OBJECTID:
            born, _, mode = _INODE_HEAD.unpack_from(item)
            if born > subvolume.since:
                inodes += 1
                if stat.S_ISREG(mode) and (size := _allocated(fd, subvolume.id, number)) is not None:
                    asked = number
                    total += size
        elif kind == _EXTENT and number != asked:
            written, form = _EXTENT_HEAD.unpack_from(item)
            if written <= subvolume.since:
                continue
            if form == _INLINE:
                total += 4096  # as stat(2) has it
            else:
                place, _, _, length = _EXTENT_TAIL.unpack_from(item, 21)
                total += length if place else 0  # 0: a hole
    return total, inodes


def _allocated(fd: int, subvolume: int, inode: int) -> int | None:
    try:
        with opened(kernel.open_inode(fd, subvolume, inode, os.O_PATH)) as file:
            return os.fstat(file).st_blocks * 512
    except FileNotFoundError:
        return None  # a container at work


def touched(fd: int, subvolume: kernel.Subvolume, more: Iterable[int]) -> set[int]:
    """The inodes that were made or changed in any way since the snapshot, and all directories on the way to them.

    *more* inodes are taken as changed. What the kernel still keeps in memory is not seen: call syncfs(2) before.
    """
    found = set(more)
    for number, kind, _, item in kernel.tree_search(fd, subvolume.id, _FIRST, _LAST, subvolume.since):
        if kind == _INODE and _INODE_HEAD.unpack_from(item)[1] > subvolume.since:
            found.add(number)
    pending = list(found)
    while pending:
        for above in _directories(fd, subvolume.id, pending.pop()):
            if above not in found:
                found.add(above)
                pending.append(above)
    return found


def _directories(fd: int, subvolume: int, inode: int) -> Iterator[int]:
    """The directories that have a name for an inode."""
    span = (inode, _REF, 0), (inode, _EXTREF, (1 << 64) - 1)
    for _, kind, offset, item in kernel.tree_search(fd, subvolume, *span, buffer=16 << 10):
        if kind == _REF:
            yield offset
        elif (
            kind == _EXTREF
        ):  # several of one hash: struct btrfs_inode_extref { u64 parent, index; u16 name_len; } name
            place = 0
            while place < len(item):
                above, _index, length = struct.unpack_from("=QQH", item, place)
                yield int(above)
                place += 18 + length
