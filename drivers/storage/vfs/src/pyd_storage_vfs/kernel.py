"""What this driver asks of the kernel: one function per system call or probe."""

from __future__ import annotations

import errno
import fcntl
import os

__all__ = ["clone", "copy_range", "extents"]

_FICLONE = 0x40049409  # linux/fs.h
_NO_CLONE = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.ETXTBSY}
_NO_RANGE = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}


def clone(source: int, target: int) -> bool:
    """ioctl_ficlone(2): share all blocks; False where the file system cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def extents(fd: int, size: int) -> list[tuple[int, int]]:
    """The parts of a file that hold data: start and end (lseek(2), SEEK_DATA and SEEK_HOLE)."""
    found = []
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, min(end, size)))
    return found


def copy_range(source: int, target: int, start: int, end: int) -> None:
    """Copy bytes inside the kernel: copy_file_range(2), else sendfile(2)."""
    at = start
    while at < end:
        try:
            done = os.copy_file_range(source, target, end - at, at, at)
        except OSError as error:
            if error.errno not in _NO_RANGE:
                raise
            os.lseek(target, at, os.SEEK_SET)
            done = os.sendfile(target, source, at, end - at)
        if done == 0:
            raise OSError(errno.EIO, f"a file became shorter while it was copied: {end} bytes expected, {at} found")
        at += done
