"""Waiting for many descriptors at once: epoll(7), level-triggered. Standard library only."""

from __future__ import annotations

import select
from collections.abc import Callable

__all__ = ["ERROR", "IN", "OUT", "Dispatcher"]

IN, OUT, ERROR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR
_BATCH = 256


class Dispatcher:
    """Calls a descriptor's function with the events it waits for, and with errors (EPOLLERR, EPOLLHUP).

    Nothing is polled: without events it sleeps until the next deadline that anybody has.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, fd: int, events: int, call: Callable[[int], None]) -> None:
        """Wait for *events* of *fd* from now on, in place of what was waited for; for none: for errors only."""
        known = self._watched.get(fd)
        if known is None:
            self._epoll.register(fd, events)
            self._watched[fd] = events, call
        elif known[0] != events:
            self._epoll.modify(fd, events)
            self._watched[fd] = events, call

    def forget(self, fd: int) -> None:
        """Wait for nothing of *fd*; call it before the descriptor is closed."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, timeout: float | None) -> None:
        """Wait for events, at most *timeout* seconds (None: for ever), and call whom they are for."""
        for fd, events in self._epoll.poll(timeout, _BATCH):
            watched = self._watched.get(fd)
            if watched is not None:  # another one's function may have closed it
                watched[1](events)

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()
