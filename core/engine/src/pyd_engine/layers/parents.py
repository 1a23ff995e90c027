"""Descriptors of the directories that a layer writes into, resolved inside the root by the kernel. Standard library only."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Callable

from pyd_engine.layers import kernel
from pyd_engine.layers.below import NeedsLower
from pyd_engine.layers.tar import shown

__all__ = ["RESOLVE", "Parents"]

RESOLVE = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
_PATH = os.O_PATH | os.O_DIRECTORY
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST = 128


class Parents:
    """A small cache. A descriptor it gives is good until the next call.

    root   an open directory; borrowed
    made   is told the place of every directory that `make` makes
    """

    def __init__(self, root: int, made: Callable[[bytes], None]) -> None:
        self._root = root
        self._made = made
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._places: dict[int, bytes] = {}

    def get(self, path: bytes) -> int:
        """The directory *path* (components joined by slashes). Raises OSError when it is none, or not there."""
        fd = self._open.get(path)
        if fd is None:
            return self._keep(path, kernel.openat2(self._root, path or b".", _PATH, RESOLVE))
        self._open.move_to_end(path)
        return fd

    def make(self, path: bytes) -> int:
        """The directory *path*; what is missing of it is made with mode 0755. FileExistsError: a link to nothing."""
        parts = path.split(b"/")
        fd = os.dup(self._root)
        try:
            for depth in range(1, len(parts) + 1):
                prefix = b"/".join(parts[:depth])
                try:
                    below = kernel.openat2(self._root, prefix, _PATH, RESOLVE)
                except FileNotFoundError:
                    os.mkdir(parts[depth - 1], 0o755, dir_fd=fd)
                    below = kernel.openat2(self._root, prefix, _PATH, RESOLVE)
                    self._made(_place(below))
                os.close(fd)
                fd = below
        except OSError:
            os.close(fd)
            raise
        return self._keep(path, fd)

    def make_over(self, path: bytes, made: Callable[[bytes, int], None]) -> int:
        """The directory *path* of a layer that lies over others: what is missing of it is made with mode 0755. *made* is told
        the path and a descriptor of each. NeedsLower where only the union can tell."""
        parts = path.split(b"/")
        fd = os.open(b".", _READ, dir_fd=self._root)
        try:
            for depth, name in enumerate(parts, 1):
                try:
                    os.mkdir(name, 0o755, dir_fd=fd)
                    new = True
                except FileExistsError:
                    new = False
                try:
                    under = os.open(name, _READ, dir_fd=fd)
                except OSError as error:
                    if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                        raise
                    raise NeedsLower(f"a symbolic link or a file is on the way to {shown(path)}") from error
                os.close(fd)
                fd = under
                if new:
                    made(b"/".join(parts[:depth]), fd)
        except BaseException:
            os.close(fd)
            raise
        return self._keep(path, fd)

    def place(self, fd: int) -> bytes:
        """Where a directory of the cache really is: one word for all paths that lead to it."""
        found = self._places.get(fd)
        if found is None:
            found = self._places[fd] = _place(fd)
        return found

    def forget(self, but: int = -1) -> None:
        """Close all but one: something that paths may have led through is gone."""
        for path in [path for path, fd in self._open.items() if fd != but]:
            self._close(path)

    def _keep(self, path: bytes, fd: int) -> int:
        if len(self._open) >= _MOST:
            self._close(next(iter(self._open)))
        self._open[path] = fd
        return fd

    def _close(self, path: bytes) -> None:
        fd = self._open.pop(path)
        self._places.pop(fd, None)
        os.close(fd)


def _place(fd: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % fd)
