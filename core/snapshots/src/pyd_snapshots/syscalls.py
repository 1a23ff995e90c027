"""System calls that several drivers need and Python has no name for: one function each, named as its man page names it.

Every function raises OSError, which says what was tried.
"""

from __future__ import annotations

import ctypes
import errno
import os

__all__ = [
    "failed",
    "fsconfig_create",
    "fsconfig_option",
    "fsmount",
    "fsopen",
    "libc",
    "mount_setattr_idmap",
    "open_tree_clone",
    "statfs_type",
    "syncfs",
    "syscall",
    "whiteout",
]

# The same on every architecture but alpha: include/uapi/asm-generic/unistd.h. Linux 5.2 and, for the last, 5.12.
_OPEN_TREE, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 430, 431, 432, 442
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6  # enum fsconfig_command, linux/mount.h
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE = 1
_MOUNT_ATTR_IDMAP = 0x00100000

libc = ctypes.CDLL(None, use_errno=True)
"""The C library, for calls that it has a function for; after a failure `failed` says why."""


def fsopen(kind: str) -> int:
    """fsopen(2) with FSOPEN_CLOEXEC."""
    return syscall(_FSOPEN, f"fsopen {kind}", kind.encode(), 1)


def fsconfig_option(fd: int, option: str) -> None:
    """fsconfig(2): one ``key=value`` or ``flag``. A refusal carries what the kernel wrote about it."""
    key, equals, value = option.partition("=")
    command, raw = (_SET_STRING, os.fsencode(value)) if equals else (_SET_FLAG, None)
    _fsconfig(fd, f"mount option {option}", command, key.encode(), raw)


def fsconfig_create(fd: int, kind: str) -> None:
    """fsconfig(2), FSCONFIG_CMD_CREATE: build the superblock, or take the one of a device that is mounted already."""
    _fsconfig(fd, f"mount {kind}", _CREATE, None, None)


def fsmount(fd: int, kind: str) -> int:
    """fsmount(2) with FSMOUNT_CLOEXEC: the detached mount, as an O_PATH descriptor."""
    return syscall(_FSMOUNT, f"fsmount {kind}", fd, 1, 0)


def open_tree_clone(path: str) -> int:
    """open_tree(2) with OPEN_TREE_CLONE: a detached bind mount of *path*."""
    return syscall(_OPEN_TREE, f"open_tree {path}", _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC)


def mount_setattr_idmap(fd: int, userns: int) -> None:
    """mount_setattr(2) with MOUNT_ATTR_IDMAP: show the ids of a detached mount as the user namespace *userns* maps them."""
    # struct mount_attr { u64 attr_set, attr_clr, propagation, userns_fd }
    wanted = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_IDMAP, 0, 0, userns)
    syscall(_MOUNT_SETATTR, "mount_setattr", fd, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), 32)


def statfs_type(path: str) -> int:
    """statfs(2), f_type: the number of the file system that *path* lies on, as linux/magic.h has it."""
    buffer = (ctypes.c_long * 32)()  # struct statfs is 120 bytes and starts with f_type, a word
    if libc.statfs(os.fsencode(path), buffer):
        raise failed(f"statfs {path}")
    return int(buffer[0]) & 0xFFFFFFFF


def syncfs(fd: int) -> None:
    """syncfs(2): write out the file system that holds *fd*."""
    if libc.syncfs(fd):
        raise failed("syncfs")


def whiteout(path: str) -> None:
    """What removes a lower name: a character device 0:0 (overlayfs.rst, "whiteouts and opaque directories")."""
    os.mknod(path, 0o020000, os.makedev(0, 0))


def syscall(number: int, doing: str, *arguments: object) -> int:
    """syscall(2). *doing* is for the message of the OSError."""
    # The call takes machine words; ctypes would pass a plain int as 32 bits.
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    answer = int(libc.syscall(ctypes.c_long(number), *words))
    if answer < 0:
        raise failed(doing)
    return answer


def failed(doing: str) -> OSError:
    """What the last call that failed in this thread says."""
    number = ctypes.get_errno()
    return OSError(number, f"{doing}: {os.strerror(number)}")


def _fsconfig(fd: int, doing: str, command: int, key: bytes | None, value: bytes | None) -> None:
    try:
        syscall(_FSCONFIG, doing, fd, command, key, value, 0)
    except OSError as error:
        raise OSError(error.errno, f"{doing}: {os.strerror(error.errno or 0)}{_said(fd)}") from error


def _said(fd: int) -> str:
    """What the kernel wrote about its refusal (fsopen(2), "message retrieval")."""
    try:
        return f" ({os.read(fd, 4096).decode(errors='replace').strip()})"
    except OSError as error:
        if error.errno == errno.ENODATA:
            return ""
        raise
