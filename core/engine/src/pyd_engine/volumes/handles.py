"""Mounts that stand for an open file for a moment: a path that nobody can redirect any more.

An isolation backend is told paths. Where the way to a file leads through directories that strangers may change, the file is
opened once, checked, and bound to a place of our own; the container is built from there.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pyd_contracts.errors import from_oserror
from pyd_shim import kernel

__all__ = ["Handles"]

_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


class Handles:
    """Makes them below *run*, a directory that a reboot empties."""

    def __init__(self, run: Path) -> None:
        self._place = run / "subpaths"
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def bound(self, fd: int) -> Iterator[str]:
        """A path of the open file *fd*, as long as the context lasts."""
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                path = tempfile.mkdtemp(dir=self._place)
            else:
                empty, path = tempfile.mkstemp(dir=self._place)
                os.close(empty)
            kernel.mount(f"/proc/self/fd/{fd}", path, None, kernel.MS_BIND)
        except OSError as error:
            raise from_oserror(error, f"bind a part of a volume below {self._place}") from error
        try:
            yield path
        finally:
            self._remove(path)

    def sweep(self) -> None:
        """Remove what a killed daemon left."""
        for entry in os.scandir(self._place):
            self._remove(entry.path)

    @staticmethod
    def _remove(path: str) -> None:
        """The mount, then its place: never what it shows."""
        with contextlib.suppress(OSError):  # EINVAL: nothing is mounted there
            kernel.umount2(path, _MNT_DETACH | _UMOUNT_NOFOLLOW)
        with contextlib.suppress(OSError):
            if os.path.isdir(path):
                os.rmdir(path)
            elif os.stat(path).st_size == 0:
                os.unlink(path)
