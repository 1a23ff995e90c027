"""A bound for what one snapshot may hold: project quotas (ioctl_xfs_fsgetxattr(2), quotactl_fd(2), Linux 5.14).

A project is a number on inodes that new ones inherit from their directory; a file system with project quotas counts and bounds
each. xfs mounted with ``pquota`` holds everybody to it. ext4 lets through who has CAP_SYS_RESOURCE, and overlayfs writes with
the powers of who mounted it: there a bound would bind nobody, and trying it out says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

from pyd_contracts.errors import InvalidArgument

from . import kernel

__all__ = ["LEAST", "bound", "in_project", "project_of", "read_size", "unbound", "works"]

LEAST = 1 << 20
"""Bytes that a snapshot needs to be of use."""

_GETXATTR, _SETXATTR = 0x801C581F, 0x401C5820  # FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR: linux/fs.h
_XATTR = struct.Struct("=5I8x")  # struct fsxattr: flags, extsize, nextents, projid, cowextsize
_INHERIT = 0x200  # FS_XFLAG_PROJINHERIT
_PROJECT, _SETQUOTA = 2, 0x800008  # PRJQUOTA, Q_SETQUOTA: linux/quota.h
_LIMITS = struct.Struct("=8QI4x")  # struct if_dqblk: block limits in KiB, hard first; its last word says what is valid
_BLOCK_LIMITS = 1  # QIF_BLIMITS


def read_size(text: str) -> int:
    """The option ``size``: bytes. InvalidArgument."""
    if not (text.isascii() and text.isdecimal()):
        raise InvalidArgument(f"size {text!r}: a decimal number of bytes is wanted")
    if int(text) < LEAST:
        raise InvalidArgument(f"size {text}: a snapshot needs {LEAST} bytes at least")
    return int(text)


def in_project(directory: str, project: int) -> None:
    """Everything made below *directory* from now on belongs to *project*."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags, extent, count, _, cow = _XATTR.unpack(fcntl.ioctl(fd, _GETXATTR, bytes(_XATTR.size)))
        fcntl.ioctl(fd, _SETXATTR, _XATTR.pack(flags | _INHERIT, extent, count, project, cow))
    finally:
        os.close(fd)


def project_of(directory: str) -> int:
    """The project of a directory; 0 for none."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return int(_XATTR.unpack(fcntl.ioctl(fd, _GETXATTR, bytes(_XATTR.size)))[3])
    finally:
        os.close(fd)


def bound(place: str, project: int, size: int) -> None:
    """*project* holds at most *size* bytes; 0: no bound. *place* is anything on the file system."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        limits = bytearray(_LIMITS.pack(size // 1024, 0, 0, 0, 0, 0, 0, 0, _BLOCK_LIMITS))
        kernel.quotactl_fd(fd, (_SETQUOTA << 8) | _PROJECT, project, limits)
    finally:
        os.close(fd)


def unbound(place: str, project: int) -> None:
    """Forget a project that has nothing left."""
    bound(place, project, 0)


def works(folder: str, project: int) -> bool:
    """Whether a bound holds against us, on the file system of the empty directory *folder*."""
    try:
        in_project(folder, project)
        bound(folder, project, 64 << 10)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.EACCES, errno.EIO, errno.ENOSPC}:
            raise
        return False  # ENOTTY, EOPNOTSUPP, ENOSYS, ESRCH, EINVAL: each layer below has its own word for "not here"
    try:
        with open(f"{folder}/probe", "wb", buffering=0) as file:
            for _ in range(16):
                file.write(bytes(64 << 10))
                os.fsync(file.fileno())
    except OSError as error:
        if error.errno in {errno.EDQUOT, errno.ENOSPC}:
            return True
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/probe")
        unbound(folder, project)
    return False
