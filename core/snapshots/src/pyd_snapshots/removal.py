"""Delete trees that a container's root could shape at will.

Such trees may be deeper than any stack or PATH_MAX, hold names in no encoding, and carry immutable flags. A mount point
inside one would lead the deletion into foreign data, so that whoever calls first asks `mount_below`.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import struct
from collections.abc import Callable
from functools import partial

from pyd_snapshots.trees import DIRECTORY, opened

__all__ = ["FS_IOC_GETFLAGS", "FS_IOC_SETFLAGS", "mount_below", "remove_tree"]

_DEEP = 32  # levels that are walked down with a descriptor each; what lies deeper is moved up first
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602  # ioctl_iflags(2), linux/fs.h
_LOCKS = 0x10 | 0x20  # FS_IMMUTABLE_FL | FS_APPEND_FL


def mount_below(path: str) -> str | None:
    """A mount point at or below *path* in this mount namespace, or None. *path* has no symbolic links in it."""
    wanted = os.fsencode(path)
    with open("/proc/self/mountinfo", "rb") as table:
        content = table.read()
    if re.sub(rb"[ \t\n\\]", lambda found: b"\\%03o" % found[0][0], wanted) not in content:
        return None
    for line in content.splitlines():
        # proc(5): field 5 is the mount point, with blanks, tabs, newlines and backslashes as octal
        point = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), line.split(b" ", 5)[4])
        if point == wanted or point.startswith(wanted + b"/"):
            return os.fsdecode(point)
    return None


def remove_tree(bin_fd: int, name: str) -> None:
    """Remove the directory *name* of the open directory *bin_fd* with all below it. OSError when something stays.

    Deep parts are first renamed into *bin_fd* itself, as ``<name>+<n>``: so neither the stack nor the number of open
    descriptors grows with the depth, and what a crash leaves is still in the bin.
    """
    numbers = itertools.count()
    pending = [name]
    while pending:
        top = pending.pop()
        try:
            fd = os.open(top, DIRECTORY, dir_fd=bin_fd)
        except NotADirectoryError:
            os.unlink(top, dir_fd=bin_fd)
            continue
        except FileNotFoundError:
            continue
        with opened(fd):
            pending += _empty(fd, bin_fd, name, numbers, 0)
        os.rmdir(top, dir_fd=bin_fd)


def _empty(fd: int, bin_fd: int, name: str, numbers: itertools.count[int], depth: int) -> list[str]:
    moved: list[str] = []
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for child, is_directory in found:
        if not is_directory:
            _forced(fd, child, partial(os.unlink, child, dir_fd=fd))
        elif depth == _DEEP:
            moved.append(_move_up(fd, child, bin_fd, name, numbers))
        else:
            with opened(os.open(child, DIRECTORY, dir_fd=fd)) as inner:
                moved += _empty(inner, bin_fd, name, numbers, depth + 1)
            _forced(fd, child, partial(os.rmdir, child, dir_fd=fd))
    return moved


def _move_up(fd: int, child: str, bin_fd: int, name: str, numbers: itertools.count[int]) -> str:
    while True:
        place = f"{name}+{next(numbers)}"
        try:
            _forced(fd, child, partial(os.rename, child, place, src_dir_fd=fd, dst_dir_fd=bin_fd))
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:  # left by a crash, and swept on its own
                continue
            raise
        return place


def _forced(fd: int, child: str, act: Callable[[], None]) -> None:
    """Do it; when it is not permitted, take immutable and append-only flags away and do it again."""
    try:
        act()
    except PermissionError:
        _unlock(fd)
        status = os.stat(child, dir_fd=fd, follow_symlinks=False)
        if status.st_mode & 0o170000 in {0o100000, 0o040000}:  # only files and directories have the flags
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with opened(os.open(child, flags, dir_fd=fd)) as inner:
                _unlock(inner)
        act()


def _unlock(fd: int) -> None:
    try:
        (flags,) = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, b"\0" * 4))
        if flags & _LOCKS:
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", flags & ~_LOCKS))
    except OSError as error:
        if error.errno not in {errno.ENOTTY, errno.EOPNOTSUPP}:  # a file system without flags has none to clear
            raise
