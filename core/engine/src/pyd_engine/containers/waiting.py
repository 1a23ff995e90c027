"""Waiting for containers: who waits is registered before anything can be missed, and told exactly once."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from pyd_contracts.errors import InvalidArgument

__all__ = ["CONDITIONS", "Ending", "Waiter", "Waiters", "ends"]

CONDITIONS = ("not-running", "next-exit", "removed")
Ending = tuple[int, str | None]
"""An exit code and why waiting failed, None if it did not."""


class Waiter:
    """One registered wait."""

    def __init__(self, waiters: Waiters, container: str, condition: str) -> None:
        self._waiters = waiters
        self.container = container
        self.condition = condition
        self.last: Ending = (0, None)
        self.future: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def result(self) -> Ending:
        """Wait. Cancelling this forgets the waiter."""
        try:
            return await self.future
        finally:
            self.cancel()

    def resolve(self, ending: Ending) -> None:
        """Tell it."""
        if not self.future.done():
            self.future.set_result(ending)

    def cancel(self) -> None:
        """Forget it; repeatable."""
        self._waiters.forget(self)


class Waiters:
    """All waits, by container. Lives on the event loop."""

    def __init__(self) -> None:
        self._by_container: dict[str, set[Waiter]] = defaultdict(set)

    def register(self, container: str, condition: str) -> Waiter:
        """A new wait. Raises InvalidArgument for a condition that does not exist."""
        if condition not in CONDITIONS:
            raise InvalidArgument(f'invalid condition: "{condition}"; one of {", ".join(CONDITIONS)}')
        waiter = Waiter(self, container, condition)
        self._by_container[container].add(waiter)
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Drop a wait; twice is once."""
        waiters = self._by_container.get(waiter.container)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._by_container[waiter.container]

    def exited(self, container: str, ending: Ending) -> None:
        """A run has ended: those who wait for the removal remember how."""
        for waiter in tuple(self._by_container.get(container, ())):
            if waiter.condition == "removed":
                waiter.last = ending
            else:
                waiter.resolve(ending)

    def removed(self, container: str, last: Ending) -> None:
        """The container is gone: everybody hears."""
        for waiter in tuple(self._by_container.get(container, ())):
            waiter.resolve(last)


async def ends(waiter: Waiter, seconds: float | None) -> bool:
    """Whether a wait comes to its end in time; the waiter stays registered."""
    try:
        await asyncio.wait_for(asyncio.shield(waiter.future), seconds)
    except TimeoutError:
        return False
    return True
