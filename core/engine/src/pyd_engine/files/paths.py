"""Finding files inside a container's root and nowhere else.

Every look-up goes through openat2(2) with RESOLVE_IN_ROOT: symbolic links and ``..`` lead to places in that root, whatever
the container's processes change meanwhile (CVE-2018-15664, CVE-2019-14271, CVE-2022-23648).
"""

from __future__ import annotations

import functools
import os
import posixpath
import stat
from datetime import UTC, datetime
from typing import Any

from pyd_engine.layers import kernel

__all__ = ["Refused", "cleaned", "descriptor_path", "parent_and_base", "path_stat", "prepare", "resolve"]

_RESOLVE = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
_MODES = (  # Go's os.FileMode
    (stat.S_IFDIR, 1 << 31),
    (stat.S_IFLNK, 1 << 27),
    (stat.S_IFIFO, 1 << 25),
    (stat.S_IFSOCK, 1 << 24),
    (stat.S_IFBLK, 1 << 26),
    (stat.S_IFCHR, (1 << 26) | (1 << 21)),
)


class Refused(Exception):
    """What was asked cannot be done; *kind* is that of a class of `pyd_contracts.errors`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@functools.cache
def _descriptors() -> int:
    """This process's descriptors in its own /proc (proc(5)); in a container's mount namespace another one stands there."""
    return os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def prepare() -> None:
    """What has to be done before a container's mount namespace is entered."""
    _descriptors()


def cleaned(path: str) -> str:
    """An absolute path; a trailing ``/`` or ``/.`` stays, for it says "follow the link" and "what is in it"."""
    absolute = posixpath.normpath("/" + path.lstrip("/"))
    if path.endswith("/.") or path == ".":
        return absolute.rstrip("/") + "/."
    if path.endswith("/") and absolute != "/":
        return absolute + "/"
    return absolute


def resolve(root: int, path: bytes, flags: int = os.O_PATH) -> int:
    """Open *path* below *root*. Raises OSError."""
    return kernel.openat2(root, path or b"/", flags | os.O_CLOEXEC, _RESOLVE)


def parent_and_base(root: int, path: str) -> tuple[int, bytes]:
    """The directory that holds the last part of *path*, opened, and that part: not followed when it is a link.

    For ``/`` and for paths that end in ``/`` or ``/.`` the part is ``.``. Raises OSError.
    """
    directory, _, base = path.rpartition("/")
    flags = os.O_PATH | os.O_DIRECTORY
    if base in ("", "."):
        return resolve(root, os.fsencode(directory or "/"), flags), b"."
    return resolve(root, os.fsencode(directory or "/"), flags), os.fsencode(base)


def descriptor_path(fd: int, root: int) -> str:
    """Where an open file is, seen from *root*."""
    at, top = (os.readlink(str(each), dir_fd=_descriptors()) for each in (fd, root))
    return at if top == "/" else "/" + at.removeprefix(top).lstrip("/")


def path_stat(root: int, path: str) -> tuple[dict[str, Any], os.stat_result]:
    """Docker's ContainerPathStat of *path* (cleaned), the last link not followed. Raises OSError."""
    parent, base = parent_and_base(root, path)
    try:
        found = os.stat(base, dir_fd=parent, follow_symlinks=False)
        target = ""
        if stat.S_ISLNK(found.st_mode):
            target = _link_target(root, path, os.fsdecode(os.readlink(base, dir_fd=parent)))
    finally:
        os.close(parent)
    seconds, fraction = divmod(found.st_mtime_ns, 1_000_000_000)
    moment = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    name = posixpath.basename(path) or posixpath.basename(path.rstrip("/")) or "/"
    answer = {
        "name": name, "size": found.st_size, "mode": _go_mode(found.st_mode), "mtime": f"{moment}{digits}Z",
        "linkTarget": target,
    }  # fmt: skip
    return answer, found


def _link_target(root: int, path: str, target: str) -> str:
    """Where a link leads in the end, as a path in the container; as far as that exists."""
    whole = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    try:
        fd = resolve(root, os.fsencode(whole))
    except OSError:
        return whole
    try:
        return _inside(fd, root, whole)
    finally:
        os.close(fd)


def _inside(fd: int, root: int, fallback: str) -> str:
    try:
        return descriptor_path(fd, root)
    except OSError:
        return fallback


def _go_mode(mode: int) -> int:
    value = mode & 0o777
    kind = stat.S_IFMT(mode)
    value |= next((bits for of, bits in _MODES if of == kind), 0)
    for bit, bits in ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20)):
        if mode & bit:
            value |= bits
    return value
