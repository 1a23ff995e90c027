"""mount(2) and umount2(2) with the option words of mount(8); no helper program is asked."""

from __future__ import annotations

import ctypes
import os
import socket

__all__ = ["is_mounted", "mount", "unmount"]

_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_BIND, _REC = 0x1000, 0x4000
# sys/mount.h; a word with a second number clears that flag instead
_SET = {
    "ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "sync": 0x10, "remount": 0x20, "mand": 0x40, "dirsync": 0x80,
    "noatime": 0x400, "nodiratime": 0x800, "bind": _BIND, "rbind": _BIND | _REC, "silent": 0x8000,
    "unbindable": 1 << 17, "runbindable": (1 << 17) | _REC, "private": 1 << 18, "rprivate": (1 << 18) | _REC,
    "slave": 1 << 19, "rslave": (1 << 19) | _REC, "shared": 1 << 20, "rshared": (1 << 20) | _REC, "relatime": 1 << 21,
    "iversion": 1 << 23, "strictatime": 1 << 24, "lazytime": 1 << 25,
}  # fmt: skip
_CLEAR = {
    "rw": 0x1, "suid": 0x2, "dev": 0x4, "exec": 0x8, "async": 0x10, "nomand": 0x40, "atime": 0x400, "diratime": 0x800,
    "norelatime": 1 << 21, "noiversion": 1 << 23, "nostrictatime": 1 << 24, "nolazytime": 1 << 25, "loud": 0x8000,
    "defaults": 0,
}  # fmt: skip
_libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, source: str, target: str, options: str) -> None:
    """Mount *source* on *target*; *options* are words separated by commas.

    Host names in ``addr=`` are resolved for nfs and cifs: the kernel takes addresses only. Raises OSError; for a name that
    does not resolve, with the resolver's words.
    """
    flags, data = _parse(options)
    if kind in ("nfs", "nfs4", "cifs"):
        data = [f"addr={_resolved(word[5:])}" if word.startswith("addr=") else word for word in data]
    if _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), ",".join(data).encode()
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number).lower(), describe(source, target, flags, data))


def describe(source: str, target: str, flags: int, data: list[str]) -> str:
    """A mount in the words of dockerd's messages."""
    words = [f"mount {source}:{target}"]
    words += [f"flags: {flags:#x}"] if flags else []
    words += [f"data: {','.join(data)}"] if data else []
    return ", ".join(words)


def unmount(target: str) -> None:
    """Take the mount off *target*, later when it is busy; none is fine."""
    while is_mounted(target):
        if _libc.umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number).lower(), target)


def is_mounted(target: str) -> bool:
    """Whether *target* is a mount point, that of a bind of its own file system too (proc(5), mountinfo)."""
    wanted = os.path.realpath(target)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return any(_unescaped(line.split(" ", 5)[4]) == wanted for line in lines)


def _unescaped(path: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path


def _parse(options: str) -> tuple[int, list[str]]:
    flags, data = 0, []
    for word in filter(None, options.split(",")):
        if word in _SET:
            flags |= _SET[word]
        elif word in _CLEAR:
            flags &= ~_CLEAR[word]
        else:
            data.append(word)
    return flags, data


def _resolved(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)[0][4][0])
    except OSError as error:
        raise OSError(
            error.errno or 0, f"error resolving passed in network volume address: {error.strerror}", name
        ) from error
