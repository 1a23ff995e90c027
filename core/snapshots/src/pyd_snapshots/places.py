"""Where on the disk a new snapshot goes: file systems put what is in a directory near it.

ext4 keeps a tree in one group of blocks and inodes, all snapshots in the same if nothing is said. Where it has no journal, it
steps over every inode that was deleted there in the last minutes, for each one that it makes (``recently_deleted`` in
fs/ext4/ialloc.c): a layer of 4,000 files takes seconds where another of that size was removed, a few hundredths elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import struct
import time

from pyd_snapshots.removal import FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
from pyd_snapshots.trees import DIRECTORY, opened

__all__ = ["Places"]

_FS_TOPDIR_FL = 0x20000  # linux/fs.h
_TRIES = 8
_SLOW = 4


class Places:
    """Makes directories in *folder*, each in a place of its own, away from what slows the making of files.

    Snapshots are trees that have nothing to do with one another, as home directories are; there is a flag for such (chattr(1),
    T), by which the name stands for the place. How good that is nobody tells, but making a directory shows it.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._quickest = 1 << 62
        with opened(os.open(folder, DIRECTORY)) as fd:
            try:
                (flags,) = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, b"\0" * 4))
                if not flags & _FS_TOPDIR_FL:
                    fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", flags | _FS_TOPDIR_FL))
            except OSError as error:
                if error.errno not in {errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL}:  # flags, or this one, are unknown
                    raise

    def take(self, head: str) -> str:
        """Make a directory (0700) whose name is *head*, ``+`` and a word of chance; that name."""
        tried: list[tuple[int, str]] = []
        try:
            for _ in range(_TRIES):
                name = f"{head}+{secrets.token_hex(4)}"
                begun = time.thread_time_ns()  # the processor's: waiting for the disk says nothing
                os.mkdir(f"{self._folder}/{name}", 0o700)
                tried.append((time.thread_time_ns() - begun, name))
                self._quickest = min(self._quickest, tried[-1][0])
                if tried[-1][0] <= self._quickest * _SLOW:
                    break
        except OSError:
            if not tried:
                raise
        _, taken = min(tried)
        for _, name in tried:
            if name != taken:
                with contextlib.suppress(OSError):  # swept when the catalog is opened next
                    os.rmdir(f"{self._folder}/{name}")
        return taken
