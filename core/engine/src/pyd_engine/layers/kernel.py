"""The system calls the unpack worker needs and Python does not offer, one function per call, named as in section 2.

Numbers of calls made since 2019 are the same on every architecture Linux runs on (asm-generic/unistd.h).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from pyd_shim import fuse
from pyd_shim.overlay import mount_overlay

__all__ = [
    "RESOLVE_IN_ROOT",
    "RESOLVE_NO_MAGICLINKS",
    "RESOLVE_NO_SYMLINKS",
    "mount_all",
    "openat2",
    "prctl",
    "private_mounts",
]

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 428, 429, 430, 431, 432
_SYS_OPENAT2, _SYS_MOUNT_SETATTR = 437, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_ATTRIBUTES = {
    "ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "noatime": 0x10, "nodiratime": 0x80,
}  # fmt: skip
_NEUTRAL = frozenset({"rw", "bind", "rbind", "relatime", "suid", "dev", "exec", "defaults", "private", "rprivate"})

_outside: int | None = None  # the mount namespace that `private_mounts` left

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_how = _OpenHow()
_how_pointer = ctypes.byref(_how)
_how_size = ctypes.c_size_t(ctypes.sizeof(_how))


def _check(result: int, path: bytes | str = b"") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def openat2(dir_fd: int, path: bytes, flags: int, resolve: int) -> int:
    """Open *path* below *dir_fd* under the *resolve* rules (openat2(2)). One thread only: the argument block is shared."""
    _how.flags, _how.resolve = flags | os.O_CLOEXEC, resolve
    while True:
        result: int = _syscall(_SYS_OPENAT2, dir_fd, path, _how_pointer, _how_size)
        if result >= 0:
            return result
        number = ctypes.get_errno()
        # EAGAIN: a rename elsewhere raced with "..", the manual says repeat.
        if number not in (4, 11):
            raise OSError(number, os.strerror(number), path)


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def private_mounts() -> None:
    """Enter a new mount namespace that neither sends nor receives mounts (mount_namespaces(7))."""
    global _outside  # noqa: PLW0603  # a process leaves it once
    if _outside is None:
        _outside = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    _check(_libc.unshare(_CLONE_NEWNS))
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), b"/")


def mount_all(mounts: Sequence[tuple[str, str, Sequence[str]]], target: bytes) -> None:
    """Mount (type, source, options) triples over *target*, first to last, with the new mount API (fsopen(2)...).

    It passes every option on its own: values may hold commas and colons, and there is no page-size limit. What has a process
    (``fuse.PROGRAM``) has it outside of this namespace.
    """
    for kind, source, options in mounts:
        attributes = 0
        for option in options:
            attributes |= _ATTRIBUTES.get(option, 0)
        if kind == "bind":
            flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if "rbind" in options else 0)
            tree = _check(_syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags), source)
            if attributes:
                attr = _MountAttr(attr_set=attributes)
                _check(_syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attr),
                                ctypes.c_size_t(ctypes.sizeof(attr))), source)  # fmt: skip
        elif kind == "overlay":
            data = [option for option in options if option not in _ATTRIBUTES and option not in _NEUTRAL]
            if (tree := mount_overlay(source, target, data, attributes)) < 0:
                continue
        elif kind.startswith(fuse.TYPE):
            tree = fuse.mount(kind, source, options, _outside)
        else:
            tree = _new_filesystem(kind, source, options, attributes)
        try:
            _check(_syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, target, _MOVE_MOUNT_F_EMPTY_PATH), target)
        finally:
            os.close(tree)


def _new_filesystem(kind: str, source: str, options: Sequence[str], attributes: int) -> int:
    context = _check(_syscall(_SYS_FSOPEN, os.fsencode(kind), 1), kind)
    try:
        _fsconfig(context, _FSCONFIG_SET_STRING, "source", source)
        for option in options:
            key, equals, value = option.partition("=")
            if equals:
                _fsconfig(context, _FSCONFIG_SET_STRING, key, value)
            elif option == "ro" or (option not in _ATTRIBUTES and option not in _NEUTRAL):
                _fsconfig(context, _FSCONFIG_SET_FLAG, key, None)
        _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None)
        return _check(_syscall(_SYS_FSMOUNT, context, 1, attributes), source)
    finally:
        os.close(context)


def _fsconfig(context: int, command: int, key: str | None, value: str | None) -> None:
    raw_key = os.fsencode(key) if key is not None else None
    raw_value = os.fsencode(value) if value is not None else None
    if _syscall(_SYS_FSCONFIG, context, command, raw_key, raw_value, 0) < 0:
        number = ctypes.get_errno()
        reason = _log_of(context) or os.strerror(number)
        raise OSError(number, f"fsconfig {key or 'create'}: {reason}", value or "")


def _log_of(context: int) -> str:
    """What the kernel wrote into the context about the last failure (fsopen(2), "message retrieval")."""
    lines = []
    while True:
        try:
            lines.append(os.read(context, 4096).decode(errors="replace").strip())
        except OSError:
            return "; ".join(lines)
