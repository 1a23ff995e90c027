"""What every container's root file system must have, whatever its image brings: dockerd's init layer.

It is a layer of its own between an image and its containers, made once an image and driver. So containers have nothing in
their own layers that they did not write, and compare as empty. Standard library only: the unpack worker runs it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

__all__ = ["furnish"]

_DIRECTORIES = (b"dev", b"dev/pts", b"dev/shm", b"proc", b"sys", b"etc")
_FILES = (b".dockerenv", b"etc/resolv.conf", b"etc/hosts", b"etc/hostname", b"dev/console")
_LINKS = ((b"etc/mtab", b"/proc/mounts"),)
_OPEN = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def furnish(root: int) -> None:
    """Make what is missing below *root*, an open directory, owned by its root.

    Files and links give way, also such as are directories of the name or on the way to it: what is mounted there must not land
    elsewhere (as dockerd does it; CVE-2019-19921 for the reason). Nothing is followed, so nothing outside is reached.
    """
    for path in _DIRECTORIES:
        os.close(_directory(root, path))
    for path in _FILES:
        _renewed(root, path, lambda name, above: os.close(_new_file(name, above)))
    for path, target in _LINKS:
        _renewed(root, path, lambda name, above, target=target: os.symlink(target, name, dir_fd=above))  # type: ignore[misc]


def _directory(root: int, path: bytes) -> int:
    """A descriptor of the directory *path*; made, as are those above, where there is none."""
    found = os.dup(root)
    for name in path.split(b"/"):
        above = found
        try:
            found = _below(above, name)
        finally:
            os.close(above)
    return found


def _below(above: int, name: bytes) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=above)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        if error.errno != errno.ENOENT:
            os.unlink(name, dir_fd=above)
    os.mkdir(name, 0o755, dir_fd=above)
    return os.open(name, _OPEN, dir_fd=above)


def _renewed(root: int, path: bytes, make: Callable[[bytes, int], None]) -> None:
    """A new one in place of what is there. A directory stays: a whole tree is not thrown away for a mount point's sake."""
    parent, _, name = path.rpartition(b"/")
    above = _directory(root, parent) if parent else os.dup(root)
    try:
        try:
            os.unlink(name, dir_fd=above)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno in (errno.EISDIR, errno.EPERM):
                return
            raise
        make(name, above)
    finally:
        os.close(above)


def _new_file(name: bytes, above: int) -> int:
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o755, dir_fd=above)
