"""What of a layer only the layers below can tell: left open while it is written, settled when they are there.

It is little: directories that a layer writes into without an entry of their own, which are as they are below, and the root
directory, whose entry is over what the parent's is. So a layer in a directory of its own is written without what it lies
over. Standard library only: the unpack worker runs it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyd_engine.layers import kernel
from pyd_engine.layers.below import DEFAULT_ACL, OVERLAYS_OWN, Below, NeedsLower, is_opaque
from pyd_engine.layers.tar import Member

__all__ = ["LeftOpen", "Unnamed", "settle", "settle_root"]

_PLAIN = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_NO_SYMLINKS
_OPEN = os.O_RDONLY | os.O_DIRECTORY
_MOST = 256 << 10
"""Bytes of names and attributes that are told; a layer that leaves more open is applied to the union."""


@dataclass(frozen=True, slots=True)
class LeftOpen:
    """Directories without an entry of their own, each after the one it is in; and the root directory's entry."""

    directories: Sequence[bytes] = ()
    root: Member | None = None

    def said(self) -> dict[str, Any]:
        """As JSON has it. NeedsLower when it is too much to be told."""
        top = self.root
        attributes = top.xattrs.items() if top else ()
        if sum(map(len, self.directories)) + sum(len(key) + len(value) for key, value in attributes) > _MOST:
            raise NeedsLower(
                f"{len(self.directories)} directories have no entry of their own, or the root has too much in its"
            )
        return {
            "directories": [_text(path) for path in self.directories],
            "root": top and {
                "uid": top.uid, "gid": top.gid, "mode": top.mode, "mtime_ns": top.mtime_ns,
                "xattrs": {_text(key): _text(value) for key, value in top.xattrs.items()},
            },
        }  # fmt: skip


class Unnamed:
    """Directories of the layer in *root* that were made for want of an entry, known by their inodes: paths may lead through
    links, and what has a path may be replaced."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._made: dict[bytes, int] = {}
        self._named: set[int] = set()

    def made(self, path: bytes, fd: int) -> None:
        """One was made."""
        inode = os.fstat(fd).st_ino
        self._made.pop(path, None)  # it comes last: the one it is in may be new, too
        self._made[path] = inode
        self._named.discard(inode)  # the number of one that is gone

    def named(self, fd: int) -> None:
        """A directory has an entry: it may be one of them."""
        self._named.add(os.fstat(fd).st_ino)

    def left(self) -> list[bytes]:
        """Those that are still there and got no entry, each after the one it is in."""
        return [path for path, inode in self._made.items() if inode not in self._named and self._is(path, inode)]

    def _is(self, path: bytes, inode: int) -> bool:
        try:
            fd = kernel.openat2(self._root, path, os.O_PATH | os.O_DIRECTORY, _PLAIN)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        try:
            return os.fstat(fd).st_ino == inode
        finally:
            os.close(fd)


def settle(root: int, below: Below, directories: Sequence[str]) -> int:
    """Make *directories* of the layer in *root* as they are below; how many attributes the file system did not take."""
    hidden: dict[bytes, bool] = {}
    refused = 0
    for path in map(_bytes, directories):
        above = path.rpartition(b"/")[0]
        fd = kernel.openat2(root, path, _OPEN, _PLAIN)
        try:
            found = None if _hides(root, above, hidden) else below.copy(path, fd)
            if found is None:
                hidden[path] = True  # nothing is below, in it neither
                _inherit(root, above, fd)
            else:
                mtime_ns, acl = found
                refused += bool(acl) and not _set(fd, DEFAULT_ACL, acl)
                os.utime(fd, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(fd)
    return refused


def settle_root(root: int, entry: dict[str, Any]) -> int:
    """Give the root directory what its entry says; how many attributes the file system did not take."""
    os.fchown(root, entry["uid"], entry["gid"])
    os.fchmod(root, entry["mode"])
    refused = 0
    for key, value in entry["xattrs"].items():
        if not _bytes(key).startswith(OVERLAYS_OWN):
            refused += not _set(root, _bytes(key), _bytes(value))
    os.utime(root, ns=(entry["mtime_ns"], entry["mtime_ns"]))
    return refused


def _hides(root: int, path: bytes, known: dict[bytes, bool]) -> bool:
    """Whether the layer's directory *path*, or one that it is in, hides what is below."""
    parts = path.split(b"/") if path else []
    answer = False
    for depth in range(len(parts) + 1):
        prefix = b"/".join(parts[:depth])
        if prefix not in known:
            fd = kernel.openat2(root, prefix or b".", _OPEN, _PLAIN)
            try:
                known[prefix] = answer or is_opaque(fd)
            finally:
                os.close(fd)
        answer = known[prefix]
    return answer


def _inherit(root: int, above: bytes, fd: int) -> None:
    """What mkdir(2) gives a directory in one that has its set-group-ID bit: when this one was made, that one had none yet."""
    parent = kernel.openat2(root, above or b".", os.O_PATH | os.O_DIRECTORY, _PLAIN)
    try:
        status = os.fstat(parent)
    finally:
        os.close(parent)
    if status.st_mode & stat.S_ISGID:
        os.fchown(fd, -1, status.st_gid)
        os.fchmod(fd, 0o2755)


def _set(fd: int, key: bytes, value: bytes) -> bool:
    try:
        os.setxattr(fd, key, value)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
        return False
    return True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
