"""Trees that a container's root could shape at will, walked without trust: of any depth, following no link.

No path is longer than PATH_MAX for these functions, no tree deeper than the stack, and no number of descriptors grows
with the depth.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DIRECTORY", "Descent", "copy_attributes", "descend", "opened", "tree_usage"]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a directory is opened that nobody may have exchanged for a link."""
_PIECE = 4000  # bytes of a path that are opened at once; PATH_MAX is 4096


@contextmanager
def opened(fd: int) -> Iterator[int]:
    """Close *fd* at the end of the block."""
    try:
        yield fd
    finally:
        os.close(fd)


def descend(top: int, path: bytes) -> int:
    """Open a directory below *top* however long its path is, following no links."""
    fd = os.open(b".", DIRECTORY, dir_fd=top)
    while path:
        cut = len(path) if len(path) < _PIECE else path.rindex(b"/", 0, _PIECE)
        try:
            inner = os.open(path[:cut], DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd, path = inner, path[cut + 1 :]
    return fd


class Descent:
    """Opens directories below *top* one after the other; from the last one where that is on the way, so that a chain of
    directories costs one step each and not its whole path.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._path = b""
        self._fd = os.dup(top)

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *_raised: object) -> None:
        os.close(self._fd)

    def open(self, path: bytes) -> int:
        """A descriptor of *path*, good until the next call. OSError; the last one stays good then."""
        if self._path and path.startswith(self._path + b"/"):
            fd = descend(self._fd, path[len(self._path) + 1 :])
        else:
            fd = descend(self._top, path)
        os.close(self._fd)
        self._fd, self._path = fd, path
        return fd


def tree_usage(path: str) -> tuple[int, int]:
    """Bytes allocated and inodes of what is in a tree. What vanishes meanwhile is not counted."""
    with opened(os.open(path, DIRECTORY)) as top:
        seen = {os.fstat(top).st_ino}
        blocks = 0  # the top's own are the driver's: an empty layer holds nothing
        pending = [b""]
        with Descent(top) as descent:
            while pending:
                at = pending.pop()
                try:
                    entries = os.scandir(descent.open(at))
                except FileNotFoundError:  # a container at work
                    continue
                with entries:
                    for entry in entries:
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        if status.st_ino not in seen:
                            seen.add(status.st_ino)
                            blocks += status.st_blocks
                        if entry.is_dir(follow_symlinks=False):
                            name = os.fsencode(entry.name)
                            pending.append(at + b"/" + name if at else name)
    return blocks * 512, len(seen) - 1


def copy_attributes(source: str, target: str, *, but: tuple[str, ...] = ()) -> None:
    """Give a directory the owner, mode, extended attributes and times of another; without attributes whose names begin
    with one of *but*.
    """
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, status.st_mode & 0o7777)
    for name in os.listxattr(source):
        if not name.startswith(but):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
