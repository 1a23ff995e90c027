"""What an entry has that its parent has not, read from the upper directory.

overlayfs is not asked: layers are merged here by its rules (Documentation/filesystems/overlayfs.rst: "Merging directories",
"whiteouts and opaque directories", "redirect_dir"), so that nothing has to be mounted, and an entry may be in use meanwhile.
Where a directory of the upper layer is merged with those below, only the names it holds itself are looked at; all others are
the same. Containers shape these trees at will, also right now: directories are opened below their layer and no link is
followed (openat2(2)), nothing recurses, and what vanishes is as good as never there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from pyd_contracts.values import ChangeKind, TreeChange

from . import kernel

__all__ = ["tree_changes"]

_PIECE = 1 << 20
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})

Place = tuple[int, bytes]
"""A path (relative, empty: the root) in a layer (its number, topmost first)."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a name stands for: *places* is one place, or for a directory all that are merged, topmost first."""

    status: os.stat_result
    places: tuple[Place, ...]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


def tree_changes(layers: Sequence[str], *, own: int) -> list[TreeChange]:
    """Compare all *layers*, topmost first, with those without the first *own*: parents first. OSError."""
    with ExitStack() as held:
        union = _Union(layers, held)
        return list(_sorted(_compare(union, union.top(0), union.top(own))))


def _sorted(found: dict[bytes, ChangeKind]) -> Iterator[TreeChange]:
    for path in list(found):
        while path:
            path = path.rpartition(b"/")[0]
            if path in found and found[path] is not ChangeKind.DELETED:
                break
            found[path] = ChangeKind.MODIFIED
    for path in sorted(found, key=lambda path: path.split(b"/") if path else []):
        yield TreeChange(found[path], path)


def _compare(union: _Union, new: _Found | None, old: _Found | None) -> dict[bytes, ChangeKind]:
    found: dict[bytes, ChangeKind] = {}
    pending: list[tuple[bytes, _Found | None, _Found | None]] = [(b"", new, old)]
    while pending:
        path, new, old = pending.pop()
        if new is None:
            if old is not None:
                found[path] = ChangeKind.DELETED
            continue
        if old is not None and new.places == old.places:
            continue
        if old is None:
            if path:
                found[path] = ChangeKind.ADDED
        elif union.differ(new, old):
            found[path] = ChangeKind.MODIFIED
        if not new.is_directory:
            continue
        below = old if old is not None and old.is_directory else None
        prefix = path + b"/" if path else b""
        pending.extend(
            (prefix + name, union.child(new, name), union.child(below, name) if below else None)
            for name in union.names(new, below)
        )
    return found


class _Union:
    """Layers, topmost first, and what they show together."""

    def __init__(self, layers: Sequence[str], held: ExitStack) -> None:
        self._roots = []
        for layer in layers:
            self._roots.append(os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            held.callback(os.close, self._roots[-1])
        self._kept: dict[Place, int] = {}
        held.callback(self._forget)

    def top(self, first: int) -> _Found | None:
        """The root of the layers from *first* on; None for none."""
        places = tuple((number, b"") for number in range(first, len(self._roots)))
        return _Found(os.stat(self._roots[first]), places) if places else None

    def names(self, new: _Found, old: _Found | None) -> list[bytes]:
        """Names that may differ: those of the upper layer where it lies over the same directories, else all of both."""
        if old is not None and new.places[1:] == old.places:
            return self._listing(new.places[0])
        places = dict.fromkeys((*new.places, *(old.places if old else ())))
        return list(dict.fromkeys(name for place in places for name in self._listing(place)))

    def child(self, directory: _Found, name: bytes) -> _Found | None:
        """What *name* stands for in a merged directory (ovl_lookup in fs/overlayfs/namei.c)."""
        top: os.stat_result | None = None
        places: list[Place] = []
        pending = [(number, path + b"/" + name if path else name) for number, path in directory.places]
        while pending:
            place = pending.pop(0)
            status = self._status(place)
            if status is None:
                continue
            if _is_whiteout(status) and (len(self._roots) > 1):
                break
            if not stat.S_ISDIR(status.st_mode):
                if top is None:
                    return _Found(status, (place,))
                break
            top = top or status
            places.append(place)
            marks = self._marks(place)
            if marks.get("trusted.overlay.opaque") == b"y":
                break
            if redirect := marks.get("trusted.overlay.redirect"):
                pending = self._redirected(pending, place, redirect)
        return _Found(top, tuple(places)) if top is not None else None

    def _redirected(self, pending: list[Place], place: Place, redirect: bytes) -> list[Place]:
        """Where the layers below have what was renamed: an absolute path, or another name beside the old one."""
        if redirect.startswith(b"/"):
            return [(number, redirect.strip(b"/")) for number in range(place[0] + 1, len(self._roots))]
        return [(number, _beside(path, redirect)) for number, path in pending]

    def differ(self, one: _Found, other: _Found) -> bool:
        """Whether a name stands for something else now. Times of directories do not count."""
        new, old = one.status, other.status
        if (new.st_mode, new.st_uid, new.st_gid) != (old.st_mode, old.st_uid, old.st_gid):
            return True
        places = one.places[0], other.places[0]
        if not stat.S_ISDIR(new.st_mode):
            if (new.st_rdev, new.st_size, new.st_mtime_ns) != (old.st_rdev, old.st_size, old.st_mtime_ns):
                return True
            if stat.S_ISLNK(new.st_mode) and self._link(places[0]) != self._link(places[1]):
                return True
        if self._attributes(places[0]) != self._attributes(places[1]):
            return True
        # Rare: the same size and time to the nanosecond, as touch(1) and cp(1) leave it.
        return stat.S_ISREG(new.st_mode) and not self._same_bytes(*places)

    # --- one layer -----------------------------------------------------------------------------------------------

    def _open(self, place: Place) -> int | None:
        """A descriptor (O_PATH) of a directory, good until the next call; None when there is none (any more)."""
        fd = self._kept.get(place)
        if fd is None:
            try:
                fd = kernel.open_below(self._roots[place[0]], place[1], os.O_PATH | os.O_DIRECTORY)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                return None
            if len(self._kept) >= 64:
                os.close(self._kept.pop(next(iter(self._kept))))
            self._kept[place] = fd
        return fd

    def _forget(self) -> None:
        while self._kept:
            os.close(self._kept.popitem()[1])

    def _parent(self, place: Place) -> tuple[int, bytes] | None:
        above, _, base = place[1].rpartition(b"/")
        fd = self._open((place[0], above))
        return None if fd is None else (fd, base)

    def _listing(self, place: Place) -> list[bytes]:
        fd = self._open(place)
        if fd is None:
            return []
        return [os.fsencode(name) for name in os.listdir(f"/proc/self/fd/{fd}")]

    def _status(self, place: Place) -> os.stat_result | None:
        found = self._parent(place)
        if found is not None:
            with contextlib.suppress(FileNotFoundError):
                return os.stat(found[1], dir_fd=found[0], follow_symlinks=False)
        return None

    def _path(self, place: Place) -> bytes | None:
        """A path for calls that take no descriptor of a directory; it goes through one."""
        if not place[1]:
            return b"/proc/self/fd/%d/." % self._roots[place[0]]
        found = self._parent(place)
        return None if found is None else b"/proc/self/fd/%d/%s" % found

    def _link(self, place: Place) -> bytes:
        path = self._path(place)
        try:
            return os.readlink(path) if path is not None else b""
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                raise
            return b""

    def _all(self, place: Place) -> dict[str, bytes]:
        path = self._path(place)
        found = {}
        if path is not None:
            try:
                for name in os.listxattr(path, follow_symlinks=False):
                    found[name] = os.getxattr(path, name, follow_symlinks=False)
            except OSError as error:
                if error.errno not in {*_GONE, errno.ENODATA, errno.EOPNOTSUPP}:
                    raise
        return found

    def _marks(self, place: Place) -> dict[str, bytes]:
        return {name: value for name, value in self._all(place).items() if name.startswith("trusted.overlay.")}

    def _attributes(self, place: Place) -> dict[str, bytes]:
        return {name: value for name, value in self._all(place).items() if not name.startswith("trusted.overlay.")}

    def _same_bytes(self, one: Place, other: Place) -> bool:
        if "trusted.overlay.metacopy" in self._marks(one):
            return True  # it has no data of its own
        with ExitStack() as held:
            pair = []
            for place in (one, other):
                try:
                    fd = kernel.open_below(self._roots[place[0]], place[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
                    return False
                held.callback(os.close, fd)
                pair.append(fd)
            offset = 0
            while (piece := os.pread(pair[0], _PIECE, offset)) == os.pread(pair[1], _PIECE, offset):
                if not piece:
                    return True
                offset += len(piece)
            return False


def _beside(path: bytes, name: bytes) -> bytes:
    above = path.rpartition(b"/")[0]
    return above + b"/" + name if above else name


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
