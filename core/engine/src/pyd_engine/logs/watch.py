"""Telling followers that a directory's files grew: one inotify(7) instance for all of them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections import defaultdict

__all__ = ["SpoolWatch"]

_IN_MODIFY, _IN_CREATE = 0x2, 0x100


class SpoolWatch:
    """Tells followers that a container has written: an instance made at first use, on the event loop."""

    def __init__(self) -> None:
        self._fd = -1
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watches: dict[str, int] = {}
        self._events: dict[int, set[asyncio.Event]] = defaultdict(set)

    def add(self, path: str, event: asyncio.Event) -> None:
        """Set *event* whenever a file in the directory *path* is written or made."""
        if self._fd < 0:
            self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                number = ctypes.get_errno()
                raise OSError(number, f"inotify: {os.strerror(number)}")
            asyncio.get_running_loop().add_reader(self._fd, self._on_events)
        watch = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY | _IN_CREATE)
        if watch < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify: {os.strerror(number)}", path)
        self._watches[path] = watch
        self._events[watch].add(event)

    def remove(self, path: str, event: asyncio.Event) -> None:
        """Stop; the last follower of a directory takes the watch away."""
        watch = self._watches.get(path)
        if watch is None:
            return
        self._events[watch].discard(event)
        if not self._events[watch]:
            del self._events[watch], self._watches[path]
            self._libc.inotify_rm_watch(self._fd, watch)  # the directory may be gone, and the watch with it

    def _on_events(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        position = 0
        while position < len(data):
            watch, _mask, _cookie, length = struct.unpack_from("iIII", data, position)
            position += 16 + length
            for event in self._events.get(watch, ()):
                event.set()

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
