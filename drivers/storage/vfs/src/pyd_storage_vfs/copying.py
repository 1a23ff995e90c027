"""Copy a tree so that nobody can tell the copy: hard links, holes, devices, attributes, modes and nanoseconds.

Directories are worked off one at a time, each relative to its own descriptor: so depth costs neither stack nor
descriptors, and nothing is followed. All entries of a directory, subdirectories included, are made while it is worked
on; its own time is set then, and what happens inside the subdirectories later does not change it.
"""

from __future__ import annotations

import errno
import os
import stat

from pyd_snapshots.trees import DIRECTORY, Descent, descend, opened

from . import kernel

__all__ = ["copy_tree"]

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source: str, target: str) -> None:
    """Copy the directory *source* onto the existing empty directory *target*. OSError; the caller discards a half."""
    with (
        opened(os.open(source, DIRECTORY)) as top,
        opened(os.open(target, DIRECTORY)) as made,
    ):
        _Copy(top, made).run()


class _Copy:
    """One run: the descriptors of both tops, and what was learnt on the way."""

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target
        self._pending = [b""]
        self._links: dict[tuple[int, int], tuple[bytes, bytes]] = {}  # inode to (directory, name) of its first copy
        self._clones = True  # until the file system says no

    def run(self) -> None:
        with Descent(self._source) as old, Descent(self._target) as new:
            while self._pending:
                at = self._pending.pop()
                here, there = old.open(at), new.open(at)
                with os.scandir(here) as entries:
                    names = [os.fsencode(entry.name) for entry in entries]
                for name in names:
                    self._entry(at, here, there, name)
                _dress(here, there, os.fstat(here))

    def _entry(self, at: bytes, here: int, there: int, name: bytes) -> None:
        status = os.stat(name, dir_fd=here, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=there)
            self._pending.append(at + b"/" + name if at else name)
            return
        if status.st_nlink > 1:
            inode = (status.st_dev, status.st_ino)
            if (first := self._links.get(inode)) is not None:
                with opened(descend(self._target, first[0])) as folder:
                    os.link(first[1], name, src_dir_fd=folder, dst_dir_fd=there, follow_symlinks=False)
                return
            self._links[inode] = (at, name)
        if kind == stat.S_IFREG:
            with (
                opened(os.open(name, _READ, dir_fd=here)) as old,
                opened(os.open(name, _MAKE, 0o600, dir_fd=there)) as new,
            ):
                self._data(old, new, status)
                _dress(old, new, status)
            return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
        else:
            os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=there)
        _dress_unopened(here, there, name, status)

    def _data(self, old: int, new: int, status: os.stat_result) -> None:
        if status.st_size == 0:
            return
        if self._clones:
            self._clones = kernel.clone(old, new)
            if self._clones:
                return
        if status.st_blocks * 512 < status.st_size:
            os.ftruncate(new, status.st_size)
            for start, end in kernel.extents(old, status.st_size):
                kernel.copy_range(old, new, start, end)
        else:
            kernel.copy_range(old, new, 0, status.st_size)


def _dress(old: int, new: int, status: os.stat_result) -> None:
    """Owner, mode, attributes, times; in this order: chown(2) clears setuid bits and file capabilities."""
    if status.st_uid or status.st_gid:
        os.fchown(new, status.st_uid, status.st_gid)
    os.fchmod(new, status.st_mode & 0o7777)
    for name in _names(old):
        os.setxattr(new, name, os.getxattr(old, name))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))


def _dress_unopened(here: int, there: int, name: bytes, status: os.stat_result) -> None:
    """The same for what is not opened: links, devices, pipes, sockets."""
    if status.st_uid or status.st_gid:
        os.chown(name, status.st_uid, status.st_gid, dir_fd=there, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, status.st_mode & 0o7777, dir_fd=there)
    # There is no call for attributes below a descriptor before Linux 6.13; the magic link names the directory.
    old, new = (b"/proc/self/fd/%d/%b" % (folder, name) for folder in (here, there))
    for attribute in _names(old):
        os.setxattr(new, attribute, os.getxattr(old, attribute, follow_symlinks=False), follow_symlinks=False)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=there, follow_symlinks=False)


def _names(file: int | bytes) -> list[str]:
    try:
        return os.listxattr(file) if isinstance(file, int) else os.listxattr(file, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # a file system without attributes has none to copy
            return []
        raise
