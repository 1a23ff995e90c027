"""Sources into a layer: where they come to lie in an image, whose they are, and which directories have to be made for them.

The layer is an archive (OCI image-spec, layer.md). Rules of destinations are those of dockerd's builder. Nothing is written to
the image: it is only looked at, and stays as it is whatever its links say.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import time

from pyd_engine.builds.sources import Source
from pyd_engine.files.paths import Refused, descriptor_path, resolve
from pyd_engine.files.tarwriter import TarWriter
from pyd_engine.files.tree import Archiver, read_xattrs

__all__ = ["Placing", "owner_in"]

_LINKS = 255
_ACCOUNTS = 4 << 20


class Placing:
    """Writes one layer over the image whose files are in *root*.

    owner  of what is copied, None: as it is    mode  of what is copied, None: as it is
    """

    def __init__(self, writer: TarWriter, root: int, owner: tuple[int, int] | None, mode: int | None) -> None:
        self._writer = writer
        self._archiver = Archiver(writer)
        self._root = root
        self._owner = owner
        self._mode = mode
        self._made: dict[str, bool] = {}
        self._now = time.time_ns()

    def directory(self, destination: str) -> None:
        """*destination* with all that it is in, if it is not there."""
        path = _canonical(self._root, destination)
        if not self._is_directory(path):
            self._make(path, (0, 0))

    def put(self, source: Source, destination: str) -> None:
        """One source where a copy puts it."""
        path = _canonical(self._root, destination)
        if source.is_directory:
            self.merge(source, path, self._owner)
            return
        if destination.endswith("/") or self._is_directory(path):
            path = posixpath.join(path, source.name)
        self._make(posixpath.dirname(path), self._owner or (0, 0))
        with self._as(self._owner, self._mode):
            parent, base = source.parent()
            try:
                found = os.stat(base, dir_fd=parent, follow_symlinks=False)
                self._archiver.entry(parent, base, os.fsencode(path.lstrip("/")), found)
            finally:
                os.close(parent)

    def merge(self, source: Source, path: str, owner: tuple[int, int] | None) -> None:
        """What is in a directory into another one, which is made if it is not there: with the usual mode, as dockerd has it."""
        path = _canonical(self._root, path)
        there = self._is_directory(path)
        if not there and self._exists(path):
            raise Refused(
                "invalid-argument", f"failed to copy files: failed to copy directory: mkdir {path}: not a directory"
            )
        self._make(posixpath.dirname(path), (0, 0))
        self._make(path, owner or (0, 0))
        with self._as(owner, self._mode):
            for directory, name in source.children():
                self._archiver.tree(directory, name, os.fsencode(posixpath.join(path, os.fsdecode(name)).lstrip("/")))

    # --- directories -------------------------------------------------------------------------------------------------

    def _make(self, path: str, owner: tuple[int, int]) -> None:
        """A directory and all that it is in: as they are where they are, else new."""
        parts = [part for part in path.split("/") if part]
        for depth in range(1, len(parts) + 1):
            at = "/" + "/".join(parts[:depth])
            if at in self._made:
                continue
            self._made[at] = True
            name = os.fsencode(at[1:] + "/")
            try:
                fd = resolve(self._root, os.fsencode(at), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError as error:
                if error.errno == errno.ENOTDIR:
                    raise Refused("invalid-argument", f"mkdir {at}: not a directory") from error
                if error.errno != errno.ENOENT:
                    raise
                with self._as(owner, None):
                    self._writer.directory(name, self._now)
                continue
            try:
                with self._as(None, None):
                    self._writer.add(name, os.fstat(fd), xattrs=read_xattrs(fd))
            finally:
                os.close(fd)

    def _is_directory(self, path: str) -> bool:
        if path in self._made or path == "/":
            return True
        mode = self._mode_of(path)
        return mode is not None and stat.S_ISDIR(mode)

    def _exists(self, path: str) -> bool:
        return self._mode_of(path) is not None

    def _mode_of(self, path: str) -> int | None:
        try:
            fd = resolve(self._root, os.fsencode(path))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        try:
            return os.fstat(fd).st_mode
        finally:
            os.close(fd)

    def _as(self, owner: tuple[int, int] | None, mode: int | None) -> _Overriding:
        return _Overriding(self._writer, owner, mode)


class _Overriding:
    """Owner and mode of what is written meanwhile."""

    def __init__(self, writer: TarWriter, owner: tuple[int, int] | None, mode: int | None) -> None:
        self._writer = writer
        self._now = owner, mode
        self._before = writer.owner, writer.mode

    def __enter__(self) -> None:
        self._writer.owner, self._writer.mode = self._now

    def __exit__(self, *_reason: object) -> None:
        self._writer.owner, self._writer.mode = self._before


def _canonical(root: int, path: str) -> str:
    """Where *path* leads in *root*: its links followed as far as it exists, the rest as it is written."""
    waiting = [part for part in posixpath.normpath("/" + path.lstrip("/")).split("/") if part]
    at, links = "", 0
    while waiting:
        part = waiting.pop(0)
        if part == "..":
            at = at.rpartition("/")[0]
            continue
        try:
            parent = resolve(root, os.fsencode(at or "/"), os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            at = f"{at}/{part}"
            continue
        try:
            target = os.readlink(os.fsencode(part), dir_fd=parent)
            at = descriptor_path(parent, root).rstrip("/")
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
            at = f"{descriptor_path(parent, root).rstrip('/')}/{part}"
            continue
        finally:
            os.close(parent)
        links += 1
        if links > _LINKS:
            raise Refused("invalid-argument", f"{path}: too many links")
        if target.startswith(b"/"):
            at = ""
        waiting[:0] = [each for each in os.fsdecode(target).split("/") if each not in ("", ".")]
    return at or "/"


# --- owners --------------------------------------------------------------------------------------------------------


def owner_in(root: int, text: str) -> tuple[int, int]:
    """``user``, ``user:group`` or numbers, as the image in *root* has them. Refused in dockerd's words."""
    what = "unable to convert uid/gid chown string to host mapping: "
    user, colon, group = text.partition(":")
    if ":" in group:
        raise Refused("invalid-argument", f"{what}invalid chown string format: {text}")
    group = group if colon else user
    uid = _number(root, "passwd", user)
    if uid is None:
        raise Refused("invalid-argument", f"{what}can't find uid for user {user}: no such user: {user}")
    gid = _number(root, "group", group)
    if gid is None:
        raise Refused("invalid-argument", f"{what}can't find gid for group {group}: no such group: {group}")
    return uid, gid


def _number(root: int, table: str, name: str) -> int | None:
    if name.isascii() and name.isdigit():
        number = int(name)
        return number if number < 1 << 32 else None
    try:
        fd = resolve(root, f"/etc/{table}".encode(), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        text = os.read(fd, _ACCOUNTS) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
    for line in text.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] == name and fields[2].isascii() and fields[2].isdigit():
            return int(fields[2])
    return None
