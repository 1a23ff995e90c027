"""What a step copies, found below its origin and nowhere else, and the digest by which the cache knows it.

An origin is a context that somebody sent or an image's files: every look-up stays inside of it, whatever links say. Standard
library and our own modules that need no more: the worker runs it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyd_engine.builds.patterns import PatternError, has_wildcards, matcher
from pyd_engine.files.paths import Refused, descriptor_path, resolve
from pyd_engine.files.tarwriter import BLOCK, TarWriter
from pyd_engine.files.tree import Archiver

__all__ = ["Source", "digest", "find", "whole"]

_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class Source:
    """One file or directory.

    root  the origin, opened           path  where it is in there, without links
    name  the last part of what was asked for; empty: the origin itself
    given the engine has put it there: a download, or what a recipe holds
    """

    root: int
    path: str
    name: str
    is_directory: bool
    given: bool = False

    def parent(self) -> tuple[int, bytes]:
        """The directory that it is in, opened, and its name there."""
        directory, _, base = self.path.rpartition("/")
        return resolve(self.root, os.fsencode(directory or "/"), os.O_RDONLY | os.O_DIRECTORY), os.fsencode(base or ".")

    def children(self) -> Iterator[tuple[int, bytes]]:
        """The directory itself, opened, and each name in it, sorted."""
        top = resolve(self.root, os.fsencode(self.path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in sorted(map(os.fsencode, os.listdir(top))):
                yield top, name
        finally:
            os.close(top)


def find(root: int, asked: Sequence[str], *, context: bool, wildcards: bool) -> list[Source]:
    """All that is asked for, in order. Refused in dockerd's words when something is not there."""
    found = []
    for word in asked:
        path = posixpath.normpath(word.lstrip("/") or ".")
        if path == ".." or path.startswith("../"):
            if context:
                raise Refused("invalid-argument", f"forbidden path outside the build context: {word} ()")
            path = posixpath.normpath("/" + path).lstrip("/") or "."
        if wildcards and has_wildcards(path):
            found += [_one(root, each, context) for each in _matching(root, path)]
        else:
            found.append(_one(root, path, context))
    return found


def whole(root: int) -> Source:
    """All that is in *root*."""
    return Source(root, "/", "", True)


def _one(root: int, path: str, context: bool) -> Source:
    try:
        fd = resolve(root, b"/" + os.fsencode(path))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise
        where = "file not found in build context or excluded by .dockerignore: " if context else ""
        raise Refused("not-found", f"{where}stat {path}: file does not exist") from error
    try:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        return Source(root, descriptor_path(fd, root), posixpath.basename(path.rstrip("/.")), is_directory)
    finally:
        os.close(fd)


def _matching(root: int, pattern: str) -> list[str]:
    """Paths that fit, in the order of a walk. A part of a pattern matches a part of a path: neither has a slash."""
    paths = [""]
    for part in pattern.split("/"):
        if not has_wildcards(part):
            plain = part.replace("\\", "")
            paths = [f"{path}/{plain}" for path in paths if _there(root, f"{path}/{plain}")]
            continue
        try:
            fits = matcher(part)
        except PatternError as error:
            raise Refused("invalid-argument", str(error)) from error
        paths = [f"{path}/{name}" for path in paths for name in _names(root, path) if fits.fullmatch(name)]
    return [path.removeprefix("/") for path in paths]


def _there(root: int, path: str) -> bool:
    try:
        os.close(resolve(root, os.fsencode(path)))
    except OSError:
        return False
    return True


def _names(root: int, path: str) -> list[str]:
    try:
        fd = resolve(root, os.fsencode(path or "/"), os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


# --- the digest ----------------------------------------------------------------------------------------------------


class _Hashing(TarWriter):
    """An archive that nobody reads: its bytes go into a digest. Times are left out, for a checkout changes them."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.digest = hashlib.sha256()

    def flush(self) -> None:
        self.digest.update(self._buffer)
        self._buffer.clear()

    def _time(self, found: os.stat_result) -> int:
        return 0

    def _body(self, fd: int, size: int) -> None:
        self.flush()
        left = size
        while left and (piece := os.read(fd, min(left, _PIECE))):
            self.digest.update(piece)
            left -= len(piece)
        self.digest.update(bytes(left + -size % BLOCK))


def digest(sources: Sequence[Source]) -> str:
    """Of names, kinds, modes, owners, attributes and contents; ``file:…``, ``dir:…`` or ``multi:…`` as in a history."""
    writer = _Hashing()
    archiver = Archiver(writer)
    for index, source in enumerate(sources):
        label = f"{index}/{source.name}".encode("utf-8", "surrogateescape")
        parent, base = source.parent()
        try:
            if source.is_directory:
                archiver.tree(parent, base, label)
            else:
                archiver.entry(parent, base, label, os.stat(base, dir_fd=parent, follow_symlinks=False))
        finally:
            os.close(parent)
    writer.finish()
    kind = "multi" if len(sources) != 1 else "dir" if sources[0].is_directory else "file"
    return f"{kind}:{writer.digest.hexdigest()}"
