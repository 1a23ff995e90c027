"""Turns for work that fills a processor."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

__all__ = ["Slots"]


class Slots:
    """As many at once as there are slots; the others wait in the order they came, short work before all."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def one(self, *, short: bool = False) -> AsyncIterator[None]:
        """A slot for the time of the block. *short*: ahead of all that wait."""
        if self._free:
            self._free -= 1
        else:
            await self._turn(short)
        try:
            yield
        finally:
            self._pass_on()

    async def _turn(self, short: bool) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if short else self._waiting.append)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(turn)
            else:  # it came in the same moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1
