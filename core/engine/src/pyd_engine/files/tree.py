"""Trees into archives: walked by descriptors, sorted, iteratively (a container may nest as deep as it likes)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from pyd_engine.files.tarwriter import TarWriter

__all__ = ["Archiver", "read_xattrs"]

_Key = tuple[int, int]


class Archiver:
    """Adds files and trees to an archive; hard links among them stay hard links, sockets are left out."""

    def __init__(self, writer: TarWriter) -> None:
        self._writer = writer
        self._seen: dict[_Key, bytes] = {}

    def tree(self, parent: int, base: bytes, name: bytes) -> None:
        """*base* in the directory *parent*, and all below it, under *name*. Raises OSError."""
        found = os.stat(base, dir_fd=parent, follow_symlinks=False)
        self.entry(parent, base, name, found)
        if not stat.S_ISDIR(found.st_mode):
            return
        waiting: list[tuple[int, bytes, Iterator[bytes]]] = []
        try:
            waiting.append(_opened(parent, base, name))
            while waiting:
                fd, path, entries = waiting[-1]
                entry = next(entries, None)
                if entry is None:
                    os.close(fd)
                    waiting.pop()
                    continue
                try:
                    found = os.stat(entry, dir_fd=fd, follow_symlinks=False)
                    below = _joined(path, entry)
                    self.entry(fd, entry, below, found)
                    if stat.S_ISDIR(found.st_mode):
                        waiting.append(_opened(fd, entry, below))
                except FileNotFoundError:
                    continue  # it went meanwhile
        finally:
            for fd, _, _ in waiting:
                os.close(fd)

    def entry(self, parent: int, base: bytes, name: bytes, found: os.stat_result) -> None:
        """One file, without what is below it."""
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFSOCK:
            return
        if kind == stat.S_IFDIR:
            self._directory(parent, base, name, found)
            return
        if found.st_nlink > 1:
            known = self._seen.setdefault((found.st_dev, found.st_ino), name)
            if known != name:
                self._writer.add(name, found, link=known, hard=True)
                return
        if kind == stat.S_IFLNK:
            self._writer.add(name, found, link=os.readlink(base, dir_fd=parent))
        elif kind == stat.S_IFREG:
            self._file(parent, base, name)
        else:
            self._writer.add(name, found)

    def _directory(self, parent: int, base: bytes, name: bytes, found: os.stat_result) -> None:
        fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._writer.add(name if name.endswith(b"/") else name + b"/", found, xattrs=read_xattrs(fd))
        finally:
            os.close(fd)

    def _file(self, parent: int, base: bytes, name: bytes) -> None:
        """Opened without waiting: what was a file a moment ago may be a pipe now."""
        fd = os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode):
                self._writer.add(name, found, body=fd, xattrs=read_xattrs(fd))
        finally:
            os.close(fd)


def _opened(parent: int, base: bytes, name: bytes) -> tuple[int, bytes, Iterator[bytes]]:
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    return fd, name, iter(sorted(map(os.fsencode, os.listdir(fd))))


def _joined(path: bytes, entry: bytes) -> bytes:
    return path + entry if path.endswith(b"/") or not path else path + b"/" + entry


def read_xattrs(fd: int) -> dict[bytes, bytes]:
    """File capabilities and the user's attributes; others are the host's."""
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM):
            return {}
        raise
    found = {}
    for name in names:
        if name == "security.capability" or name.startswith("user."):
            try:
                found[os.fsencode(name)] = os.getxattr(fd, name)
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise
    return found
