"""What this driver asks of the kernel beyond what all storage drivers do: one function per system call."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence

from pyd_snapshots.syscalls import failed, libc, syscall

__all__ = ["OVERLAYFS", "mount_private", "move_mount", "open_below", "private_mounts", "quotactl_fd"]

OVERLAYFS = 0x794C7630
"""OVERLAYFS_SUPER_MAGIC, linux/magic.h"""

# The same on every architecture but alpha: include/uapi/asm-generic/unistd.h. Linux 5.2, 5.6 and 5.14.
_MOVE_MOUNT, _OPENAT2, _QUOTACTL_FD = 429, 437, 443
_RESOLVE_BENEATH, _RESOLVE_NO_SYMLINKS = 0x08, 0x04
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


@contextlib.contextmanager
def private_mounts() -> Iterator[None]:
    """A mount namespace of the calling thread's own for the block, out of which nothing propagates (unshare(2), setns(2)): only
    in a thread that ends soon after. It is gone with the block; with the thread it would be some time later.
    """
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNS):
            raise failed("unshare mounts")
        try:
            if libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None):
                raise failed("make mounts private")
            yield
        finally:
            if libc.setns(before, _CLONE_NEWNS):
                raise failed("go back to the host's mounts")
    finally:
        os.close(before)


def mount_private(target: str, options: Sequence[str]) -> None:
    """mount(2) of an overlay at *target*; commas in values are escaped as overlayfs unescapes them."""
    data = ",".join(option.replace(",", "\\,") for option in options)
    if libc.mount(b"overlay", os.fsencode(target), b"overlay", ctypes.c_ulong(0), os.fsencode(data)):
        raise failed(f"mount an overlay with {data}")


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_below(top: int, path: bytes, flags: int) -> int:
    """openat2(2): *path* below *top* without leaving it and without following links (ELOOP), however long it is."""
    pieces = [path or b"."]
    while len(pieces[-1]) >= 4000:
        cut = pieces[-1].rindex(b"/", 0, 4000)
        pieces[-1:] = [pieces[-1][:cut], pieces[-1][cut + 1 :]]
    fd = top
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        wanted = flags if last else os.O_PATH | os.O_DIRECTORY
        how = _OpenHow(wanted | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS)
        try:
            inner = syscall(_OPENAT2, "openat2", fd, piece, ctypes.byref(how), ctypes.sizeof(how))
        finally:
            if fd != top:
                os.close(fd)
        fd = inner
    return fd


def move_mount(fd: int, target: str) -> None:
    """move_mount(2): the detached mount *fd* stands at *target* from now on, over what is there."""
    syscall(_MOVE_MOUNT, "move_mount", fd, b"", -100, os.fsencode(target), 4)  # AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH


def quotactl_fd(fd: int, command: int, subject: int, argument: bytearray) -> None:
    """quotactl_fd(2) (Linux 5.14): quotactl(2) of the file system that holds *fd*; *argument* is changed in place."""
    block = (ctypes.c_char * len(argument)).from_buffer(argument)
    syscall(_QUOTACTL_FD, "quotactl_fd", fd, command, subject, ctypes.byref(block))
