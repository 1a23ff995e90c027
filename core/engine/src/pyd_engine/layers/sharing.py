"""Long work that several callers want at once is done once: downloads of one blob, unpackings of one layer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from typing import Any, Generic, TypeVar

from pyd_contracts.errors import PydError

__all__ = ["SharedWork", "Tell", "together"]

_K = TypeVar("_K", bound=Hashable)
Tell = Callable[[str, int, int], None]
"""Progress of a piece of work: its state, how much is done, of how much."""


class _Work:
    def __init__(self) -> None:
        self.listeners: list[Tell] = []
        self.waiting = 0
        self.last: tuple[str, int, int] | None = None
        self.task: asyncio.Task[None] | None = None

    def tell(self, state: str, done: int, total: int) -> None:
        self.last = (state, done, total)
        for listener in list(self.listeners):
            listener(state, done, total)


class SharedWork(Generic[_K]):
    """Work by key. The last caller that is cancelled cancels the work and waits until it has cleaned up."""

    def __init__(self) -> None:
        self._works: dict[_K, _Work] = {}

    def busy(self) -> frozenset[_K]:
        """Keys that are being worked on."""
        return frozenset(self._works)

    def waiting(self, key: _K) -> int:
        """How many callers wait for the work *key*."""
        return self._works[key].waiting if key in self._works else 0

    async def join(self, key: _K, start: Callable[[Tell], Awaitable[None]], listener: Tell | None = None) -> None:
        """Wait for the work *key*, started with *start* unless somebody did. Its error is everybody's."""
        while (work := self._works.get(key)) is not None and work.task is not None and work.task.cancelling():
            await asyncio.wait([work.task])
            if self._works.get(key) is work:
                del self._works[key]
        if work is None:
            work = self._works[key] = _Work()

            async def run(work: _Work = work) -> None:
                try:
                    await start(work.tell)
                finally:
                    self._works.pop(key, None)

            work.task = asyncio.create_task(run())
        assert work.task is not None
        if listener:
            work.listeners.append(listener)
            if work.last:
                listener(*work.last)
        work.waiting += 1
        try:
            await asyncio.shield(work.task)
        finally:
            work.waiting -= 1
            if listener:
                work.listeners.remove(listener)
            if not work.waiting and not work.task.done():
                work.task.cancel()
                with contextlib.suppress(asyncio.CancelledError, PydError):
                    await work.task
                if self._works.get(key) is work:  # cancelled before its first step
                    del self._works[key]


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of them at once. The first that fails, or the caller's end, ends the others; they have cleaned up then."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
