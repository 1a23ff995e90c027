"""From an asynchronous stream of chunks to a blocking reader in a thread: archives are read by synchronous code."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from pyd_contracts.errors import InvalidArgument
from pyd_engine.layers.streams import StreamError
from pyd_engine.layers.tar import TarError

__all__ = ["Feed", "in_thread"]

_T = TypeVar("_T")
_AHEAD = 4 << 20
"""Bytes that may wait for the thread before the sender has to."""


class Feed:
    """Chunks come in on the event loop while a worker thread takes them out; who is faster waits for the other.

    Made, and filled, on the loop: `in_thread` does that.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._held = 0
        self._room = asyncio.Event()
        self._ended = False
        self._fault: Exception | None = None
        self._rest = memoryview(b"")

    def read(self, count: int) -> bytes:
        """Up to *count* bytes; empty at the end. Raises what the sender's side raised. For threads only."""
        if not self._rest:
            self._rest = memoryview(self._next())
        piece = self._rest[:count]
        self._rest = self._rest[count:]
        return piece.obj if isinstance(piece.obj, bytes) and len(piece.obj) == len(piece) else bytes(piece)

    def _next(self) -> bytes:
        with self._changed:
            while not self._waiting:
                if self._fault is not None:
                    raise self._fault
                if self._ended:
                    return b""
                self._changed.wait()
            chunk = self._waiting.popleft()
            full = self._held >= _AHEAD
            self._held -= len(chunk)
            if full and self._held < _AHEAD:
                self._loop.call_soon_threadsafe(self._room.set)
        return chunk

    async def fill(self) -> None:
        """Take chunks from the sender until its end; a fault of its is the reader's."""
        try:
            async for chunk in self._chunks:
                if not chunk:
                    continue
                with self._changed:
                    self._waiting.append(bytes(chunk))
                    self._held += len(chunk)
                    full = self._held >= _AHEAD
                    if full:
                        self._room.clear()
                    self._changed.notify()
                if full:
                    await self._room.wait()
        except Exception as error:  # noqa: BLE001 # it is raised in the thread
            self._end(error)
        else:
            self._end(None)

    def stop(self) -> None:
        """Nobody fills it any more: a thread that waits for more fails at once."""
        self._end(InvalidArgument("the archive's sender is gone"))

    def _end(self, fault: Exception | None) -> None:
        with self._changed:
            if not self._ended:
                self._fault, self._ended = fault, True
                self._changed.notify()


async def in_thread(feed: Feed, work: Callable[[], _T], what: str) -> _T:
    """Run *work*, which reads *feed*, in a thread to its end even when the caller is cancelled.

    Faults of the bytes become InvalidArgument about *what*.
    """
    filling = asyncio.ensure_future(feed.fill())
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except (TarError, StreamError) as error:
        words = str(error)
        raise InvalidArgument(words if words.startswith(f"{what}: ") else f"{what}: {words}") from error
    finally:
        filling.cancel()
        feed.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await filling
        if not task.done():
            with contextlib.suppress(Exception):
                await task
