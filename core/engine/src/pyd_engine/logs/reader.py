"""What a container wrote, read back from its spool: tail, since, until, timestamps, details, follow.

The daemon is not on the way from a container to its spool, so reading is all there is to do here. Segments may be added
and removed meanwhile: one that is open is read to its end, one that is gone is passed over.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyd_engine.logs.watch import SpoolWatch
from pyd_shim.segments import Position, segments
from pyd_shim.spool import Frame, SpoolReader, tail_offset

__all__ = ["LogQuery", "LogReader", "rfc3339nano"]

_BATCH = 1 << 18
"""Bytes that are put together before they are sent."""
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What to show. since and until are nanoseconds since the epoch, 0 for no bound; tail None shows all lines.

    *details* stands before each line, after its time; None: not asked for.
    """

    follow: bool = False
    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0
    timestamps: bool = False
    tail: int | None = None
    details: str | None = None


class _Shaper:
    """Turns frames into what the client sees: lines begin with a time when asked, output is framed when asked.

    Without timestamps and details bytes pass as they are. With them each line needs its beginning found, whatever frames
    it spans.
    """

    def __init__(self, query: LogQuery, framed: bool, skip_lines: int) -> None:
        self._query = query
        self._framed = framed
        self._skip = skip_lines
        self._at_start = {1: True, 2: True}
        self._details = b"" if query.details is None else f"{query.details} ".encode()

    def shape(self, frame: Frame) -> bytes:
        """The bytes for one frame; empty when it is not wanted."""
        query, data = self._query, frame.data
        if self._skip:
            data = self._skip_lines(data)
        if not data or not (query.stdout if frame.stream == 1 else query.stderr):
            return b""
        if frame.time_ns < query.since_ns or (query.until_ns and frame.time_ns > query.until_ns):
            return b""
        if query.timestamps or self._details:
            stamp = rfc3339nano(frame.time_ns).encode() + b" " if query.timestamps else b""
            data = self._begun(frame.stream, data, stamp + self._details)
        if not self._framed:
            return data
        return struct.pack(">BxxxI", frame.stream, len(data)) + data

    def _skip_lines(self, data: bytes) -> bytes:
        position = 0
        while self._skip:
            end = data.find(b"\n", position)
            if end < 0:
                return b""
            position = end + 1
            self._skip -= 1
        return data[position:]

    def _begun(self, stream: int, data: bytes, beginning: bytes) -> bytes:
        # keepends by "\n" only: bytes.splitlines would also split at a carriage return
        lines = data.split(b"\n")
        whole, rest = lines[:-1], lines[-1]
        out = []
        start = self._at_start[stream]
        for line in whole:
            out.append((beginning if start else b"") + line + b"\n")
            start = True
        if rest:
            out.append((beginning if start else b"") + rest)
            start = False
        self._at_start[stream] = start
        return b"".join(out)


def rfc3339nano(time_ns: int) -> str:
    """``2026-01-02T03:04:05.000000006Z``."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


class LogReader:
    """One reading of a container's output; an async iterator of bytes. *framed* is the Docker API's stream format."""

    def __init__(
        self, directory: Path, query: LogQuery, watch: SpoolWatch, *, framed: bool, running: Callable[[], bool],
        stopped: asyncio.Event,
    ) -> None:  # fmt: skip
        self.framed = framed
        self._directory = str(directory)
        self._query = query
        self._watch = watch
        self._running = running
        self._stopped = stopped
        self._reached = 0
        self._iterator: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._iterator = self._read()
        return self._iterator

    async def aclose(self) -> None:
        """Stop reading."""
        if self._iterator is not None:
            await self._iterator.aclose()  # type: ignore[attr-defined]

    def everything(self) -> Iterator[bytes]:
        """What there is now, without following; blocks on the disk only."""
        at, offset, shaper = self._begin()
        while at is not None:
            reader = self._open(at, offset)
            offset = 0
            if reader is not None:
                try:
                    yield from self._batches(reader, shaper)
                finally:
                    reader.close()
            at = self._after(at)

    def _path(self, at: Position) -> str:
        return f"{self._directory}/{at.name}"

    def _open(self, at: Position, offset: int) -> SpoolReader | None:
        try:
            return SpoolReader(self._path(at), offset)
        except FileNotFoundError:
            return None  # retention was faster

    def _after(self, at: Position) -> Position | None:
        return next((each for each in segments(self._directory) if each > at), None)

    def _begin(self) -> tuple[Position | None, int, _Shaper]:
        """Where ``tail`` says to begin: the segment, the offset into it, and the shaper that skips lines of it."""
        every = segments(self._directory)
        first = every[0] if every else None
        if self._query.tail is None or first is None:
            return first, 0, _Shaper(self._query, self.framed, 0)
        if self._query.tail <= 0:
            return every[-1], os.path.getsize(self._path(every[-1])), _Shaper(self._query, self.framed, 0)
        missing, run = self._query.tail, -1
        for at in reversed(every):
            try:
                offset, skip, found = tail_offset(self._path(at), missing, ended=at.run != run)
            except FileNotFoundError:
                break
            if offset or skip:
                return at, offset, _Shaper(self._query, self.framed, skip)
            first, run, missing = at, at.run, missing - found
        return first, 0, _Shaper(self._query, self.framed, 0)

    @staticmethod
    def _batches(reader: SpoolReader, shaper: _Shaper) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for frame in reader.frames():
            shaped = shaper.shape(frame)
            if shaped:
                parts.append(shaped)
                size += len(shaped)
            if size >= _BATCH:
                yield b"".join(parts)
                parts, size = [], 0
        if parts:
            yield b"".join(parts)

    async def _read(self) -> AsyncIterator[bytes]:
        event = asyncio.Event()
        if self._query.follow:
            self._watch.add(self._directory, event)
        try:
            at, offset, shaper = self._begin()
            while True:
                running = self._running()  # asked before looking: what is written until the end is then seen below
                event.clear()
                if at is None:
                    at = next(iter(segments(self._directory)), None)
                if at is not None:
                    async for batch in self._through(at, offset, shaper, event):
                        yield batch
                    offset = self._reached
                    following = self._after(at)
                    if following is not None:
                        at, offset = following, 0
                        continue
                if not self._query.follow or not running or self._past_until():
                    return
                # It ended and began again, and has not written yet; or it is about to write for the first time.
                await self._wait(event)
        finally:
            if self._query.follow:
                self._watch.remove(self._directory, event)

    async def _through(self, at: Position, offset: int, shaper: _Shaper, event: asyncio.Event) -> AsyncIterator[bytes]:
        """All of one segment; of the last one also what is added to it, as long as it is followed."""
        reader = self._open(at, offset)
        if reader is None:
            return
        try:
            while True:
                event.clear()
                running = self._running()
                last = self._after(at) is None  # asked before reading: nobody writes to a segment that has a successor
                for batch in self._batches(reader, shaper):
                    yield batch
                    await asyncio.sleep(0)  # others may have their turn between batches
                if not last or not self._query.follow or not running or self._past_until():
                    return
                await self._wait(event)
        finally:
            self._reached = reader.offset
            reader.close()

    def _past_until(self) -> bool:
        return bool(self._query.until_ns) and time.time_ns() > self._query.until_ns

    async def _wait(self, event: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._stopped.wait())]
        timeout = None
        if self._query.until_ns:
            timeout = max(0.0, (self._query.until_ns - time.time_ns()) / 1e9)
        if self._stopped.is_set():  # the run that was followed has ended, and another one begins: its end is looked for
            waits.pop().cancel()
            timeout = min(_LOOK_SECONDS, timeout or _LOOK_SECONDS)
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
