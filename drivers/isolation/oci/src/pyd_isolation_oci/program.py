"""Looking at the program before it is run, where the container sees it.

A runtime tells of a program that is not there; that the kernel will not run what is there (no interpreter) shows only after the
runtime has let go, when nobody of it is left to tell. So that is looked for beforehand.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from pyd_shim import kernel as k

__all__ = ["fault", "opener"]

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PT_INTERP = 3


class opener:  # noqa: N801 - it is used as a function
    """Opens paths below a root directory as the container's own processes would find them."""

    def __init__(self, root: str) -> None:
        self.fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __call__(self, path: str, flags: int) -> int:
        return k.openat2(self.fd, path.lstrip("/") or ".", flags, k.RESOLVE_IN_ROOT | k.RESOLVE_NO_MAGICLINKS)


def fault(open_: opener, args: Sequence[str], env: Sequence[str], cwd: str) -> tuple[str, str] | None:
    """Why execve(2) will fail, as (kind, message); None when nothing speaks against it."""
    name = args[0]
    if "/" in name:
        places = [name if name.startswith("/") else os.path.normpath(f"{cwd}/{name}")]
    else:
        search = next((each[5:] for each in env if each.startswith("PATH=")), _DEFAULT_PATH)
        places = [os.path.normpath(f"{directory or cwd}/{name}") for directory in search.split(":")]
    for path in places:
        try:
            interpreter = _interpreter(open_, path)
        except OSError:
            continue  # the runtime says what is wrong with it, or finds another
        if interpreter and not _there(open_, interpreter):
            return "not-found", f"exec {path}: no such file or directory (its interpreter {interpreter} is not there)"
        return None
    return None


def _there(open_: opener, path: str) -> bool:
    try:
        os.close(open_(path, os.O_PATH))
    except OSError:
        return False
    return True


def _interpreter(open_: opener, path: str) -> str:
    """What the kernel starts for the file at *path*: of a script (execve(2) "Interpreter scripts"), or of an ELF executable
    (elf(5) PT_INTERP); empty for none. Raises OSError."""
    fd = open_(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        head = os.read(fd, 256)
        if head.startswith(b"#!"):
            words = head[2:].partition(b"\n")[0].split()
            return os.fsdecode(words[0]) if words else ""
        if not head.startswith(b"\x7fELF\x02\x01") or len(head) < 64:
            return ""
        offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        for index in range(min(count, 64)):
            entry = os.pread(fd, 56, offset + index * size)
            if len(entry) == 56 and struct.unpack_from("<I", entry)[0] == _PT_INTERP:
                start, length = struct.unpack_from("<Q", entry, 8)[0], struct.unpack_from("<Q", entry, 32)[0]
                return os.fsdecode(os.pread(fd, min(length, 4096), start).rstrip(b"\0"))
        return ""
    finally:
        os.close(fd)
