"""The spool: everything a container wrote, in frames, appended by its shim and read by whoever wants logs.

A frame is a head of 16 bytes (big-endian: time in nanoseconds since the epoch, 64 bit; stream, 8 bit, 1 stdout or
2 stderr; three zero bytes; length, 32 bit), the bytes, and the length once more (32 bit), so that a reader can walk
backwards for ``--tail``. A frame is one write(2) of the container as the shim saw it: it may hold many lines, or part of
one. Each run of a container writes files of its own, its segments (`pyd_shim.segments`), so a frame torn by a crash can
only be a file's last.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pyd_shim.segments import Policy, trim, waiting

__all__ = ["Frame", "SpoolReader", "SpoolWriter"]

_HEAD = struct.Struct(">QBxxxI")
_TAIL = struct.Struct(">I")
OVERHEAD = _HEAD.size + _TAIL.size


class SpoolWriter:
    """Appends frames; one writev(2) each. Never raises for a full disk: what does not fit is dropped and counted.

    Begins further segments as the policy beside the file says. They are reached through a descriptor of the directory: its
    path may mean something else in the place where the writer runs, and the directory may have been moved.
    """

    def __init__(self, path: str) -> None:
        directory, self._name = os.path.split(path)
        self._directory = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._policy = Policy.read(self._directory)
            self._fd = self._open(self._name)
        except BaseException:
            os.close(self._directory)
            raise
        self._length = os.fstat(self._fd).st_size
        self._number = 0
        self.lost = 0
        self.full = False
        """No more is to be written until `look` says otherwise: the policy has the container wait for who reads."""

    def _open(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(name, flags, 0o640, dir_fd=self._directory)

    def write(self, time_ns: int, stream: int, data: bytes) -> None:
        """Append *data* of *stream* (1 or 2)."""
        length = len(data)
        segment = self._policy.segment
        if segment and self._length + length + OVERHEAD > segment:
            if self._length:
                self._turn()
            room = max(1, segment - OVERHEAD)
            if length > room:
                for start in range(0, length, room):
                    self.write(time_ns, stream, data[start : start + room])
                return
        try:
            written = os.writev(self._fd, (_HEAD.pack(time_ns, stream, length), data, _TAIL.pack(length)))
        except OSError:
            self.lost += length
            return
        if written == length + OVERHEAD:
            self._length += written
            return
        # A full disk can cut a write short: take the torn frame back, the reader must not stumble over it.
        self.lost += length
        os.ftruncate(self._fd, self._length)

    def _turn(self) -> None:
        """Begin the next segment and let the oldest go; where that cannot be done, go on with this one."""
        try:
            fd = self._open(f"{self._name}.{self._number + 1}")
        except OSError:
            return
        os.close(self._fd)
        self._fd, self._length = fd, 0
        self._number += 1
        try:
            trim(self._directory, self._policy)
        except (OSError, ValueError):
            pass  # next time
        self.look()

    def look(self) -> bool:
        """Whether there is room again; sets `full`."""
        try:
            self.full = waiting(self._directory, self._policy)
        except (OSError, ValueError):
            self.full = False  # who cannot be asked is not waited for
        return not self.full

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
        os.close(self._directory)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: when (nanoseconds since the epoch), which stream, what."""

    time_ns: int
    stream: int
    data: bytes


class SpoolReader:
    """Reads one spool file forwards from any frame boundary; a file that grows can be read on."""

    _CHUNK = 1 << 20

    def __init__(self, path: str, offset: int = 0) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._buffer = bytearray()
        self.offset = offset
        """Where the next frame begins, in bytes from the start of the file."""

    def frames(self) -> Iterator[Frame]:
        """All whole frames there are now; call again when the file has grown, or to go on where the last call was left."""
        position = 0
        buffer = self._buffer
        try:
            while True:
                if len(buffer) - position >= _HEAD.size:
                    time_ns, stream, length = _HEAD.unpack_from(buffer, position)
                    end = position + _HEAD.size + length
                    if len(buffer) >= end + _TAIL.size:
                        data = bytes(memoryview(buffer)[position + _HEAD.size : end])
                        position = end + _TAIL.size
                        self.offset += length + OVERHEAD
                        yield Frame(time_ns, stream, data)
                        continue
                del buffer[:position]
                position = 0
                more = os.pread(self._fd, self._CHUNK, self.offset + len(buffer))
                if not more:
                    return
                buffer += more
        finally:
            del buffer[:position]

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def tail_offset(path: str, lines: int, *, ended: bool = True) -> tuple[int, int, int]:
    """Where to begin so as to see the last *lines* lines: (offset of a frame, lines of it to skip, lines found).

    Walks the file backwards. A last line without a newline counts as a line, unless it goes on in the next segment
    (*ended* is false). With offset and skip 0 the beginning of the first line found may be in an earlier file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = _whole_length(fd)
        found, first = 0, ended
        while end > 0:
            (length,) = _TAIL.unpack(os.pread(fd, _TAIL.size, end - _TAIL.size))
            start = end - length - OVERHEAD
            data = os.pread(fd, length, start + _HEAD.size)
            count = data.count(b"\n")
            if first and length:
                first = False
                found += not data.endswith(b"\n")
            if found + count > lines:
                return start, found + count - lines, lines
            found += count
            end = start
        return 0, 0, found
    finally:
        os.close(fd)


def _whole_length(fd: int) -> int:
    """The length of the file up to the end of its last whole frame."""
    size = os.fstat(fd).st_size
    if size == 0:
        return 0
    # Nearly always the last frame is whole: its tail length leads to a head that says the same.
    if size >= OVERHEAD:
        (length,) = _TAIL.unpack(os.pread(fd, _TAIL.size, size - _TAIL.size))
        start = size - length - OVERHEAD
        if start >= 0:
            _, stream, head_length = _HEAD.unpack(os.pread(fd, _HEAD.size, start))
            if head_length == length and stream in (1, 2):
                return size
    position = 0
    while position + OVERHEAD <= size:
        _, _, length = _HEAD.unpack(os.pread(fd, _HEAD.size, position))
        if position + length + OVERHEAD > size:
            break
        position += length + OVERHEAD
    return position
