"""The files of one container: written to at the end, turned when full, compressed in the background.

``<id>-json.log`` is the one that is written, ``<id>-json.log.1`` the one before it, and so on.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import threading
from pathlib import Path

from pyd_contracts.errors import from_oserror

__all__ = ["Files", "named"]

_BLOCK = 65536
_TURN_SECONDS = 5.0


def named(place: Path, container: str) -> Path:
    """The file that is written."""
    return place / f"{container}-json.log"


class Files:
    """At most *count* files of at most *size* bytes (0: no bound), the older ones compressed or not."""

    def __init__(self, path: Path, size: int, count: int, compress: bool) -> None:
        """Raises an error of the family. A line that a crash has torn is taken back: it comes again."""
        self._path = path
        self._most = size
        self._count = count
        self._compress = compress
        self._turning = threading.Lock()
        try:
            self._fd = self._open()
            self._size = _whole_lines(self._fd)
        except OSError as error:
            raise from_oserror(error, f"open {path}") from error
        if compress:
            self._compress_later()

    def append(self, lines: bytes) -> None:
        """Write whole lines. What raises (a full disk) leaves the file as it was."""
        while lines:
            if not self._most or self._size + len(lines) <= self._most:
                self._write(lines)
                return
            cut = lines.rfind(b"\n", 0, max(0, self._most - self._size)) + 1
            if not cut and not self._size:
                cut = lines.index(b"\n") + 1  # one line that is longer than a file
            if cut:
                self._write(lines[:cut])
                lines = lines[cut:]
            if not self._turn():
                self._write(lines)
                return

    def close(self) -> None:
        """Close the file; what is being compressed is completed."""
        with self._turning:
            os.close(self._fd)

    def _open(self) -> int:
        return os.open(
            self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640
        )  # fmt: skip

    def _write(self, lines: bytes) -> None:
        view = memoryview(lines)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise from_oserror(error, f"write {self._path}") from error
        self._size += len(lines)

    def _turn(self) -> bool:
        """Begin a new file; not while the last one is still being compressed."""
        if not self._turning.acquire(timeout=_TURN_SECONDS):
            return False
        try:
            if self._count == 1:
                os.ftruncate(self._fd, 0)
            else:
                for number in range(self._count - 1, 0, -1):
                    for suffix in ("", ".gz"):
                        older = f"{self._path}.{number - 1}" if number > 1 else os.fspath(self._path)
                        with contextlib.suppress(FileNotFoundError):
                            os.rename(f"{older}{suffix}", f"{self._path}.{number}{suffix}")
                fresh = self._open()
                os.close(self._fd)
                self._fd = fresh
            self._size = 0
        except OSError as error:
            raise from_oserror(error, f"turn {self._path}") from error
        finally:
            self._turning.release()
        if self._compress:
            self._compress_later()
        return True

    def _compress_later(self) -> None:
        names = [f"{self._path}.{number}" for number in range(1, self._count)]
        if plain := [name for name in names if os.path.exists(name)]:
            threading.Thread(target=self._compress_now, args=(plain,), name="pyd-log-gzip", daemon=True).start()

    def _compress_now(self, names: list[str]) -> None:
        with self._turning:
            for name in names:
                # gone meanwhile, or no space: it stays as it is
                with contextlib.suppress(OSError):
                    with open(name, "rb") as plain, gzip.open(f"{name}.new", "wb", 6) as packed:
                        shutil.copyfileobj(plain, packed, 1 << 18)
                    os.rename(f"{name}.new", f"{name}.gz")
                    os.unlink(name)


def _whole_lines(fd: int) -> int:
    """Cut off what stands behind the last line; the length then."""
    size = end = os.fstat(fd).st_size
    while end:
        begin = max(0, end - _BLOCK)
        found = os.pread(fd, end - begin, begin).rfind(b"\n") + 1
        if found:
            end = begin + found
            break
        end = begin
    if end < size:
        os.ftruncate(fd, end)
    return end
