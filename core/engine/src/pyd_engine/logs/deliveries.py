"""All deliveries of a daemon: who has something to do, and the threads that do it.

One thread waits, for output (inotify(7)), for times, for orders; up to a number of threads deliver. A feed that failed is left
alone for its pause, however much its container writes; one that went well, for long enough to find a batch.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import logging
import os
import select
import shutil
import struct
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from pyd_contracts.errors import PydError
from pyd_contracts.log import LogDriver
from pyd_engine.logs.feed import Feed
from pyd_engine.logs.orders import Order

__all__ = ["Deliveries"]

_IN_MODIFY, _IN_CREATE = 0x2, 0x100
_GATHER = 0.02
"""Seconds after a delivery in which output is gathered."""
_THREADS = 64
_HEAD = struct.Struct("iIII")


class _Entry:
    """A feed and what the scheduler knows of it."""

    def __init__(self, feed: Feed, watch: int) -> None:
        self.feed = feed
        self.watch = watch
        self.running = False
        self.queued = False
        self.again = False
        self.gone = False
        self.not_before = 0.0


class Deliveries:
    """*told* is called with (container, turn) when an order with ``ended`` was done to its end."""

    def __init__(
        self, drivers: Mapping[str, LogDriver], log: logging.Logger, told: Callable[[str, int], None] | None = None
    ) -> None:
        self._drivers = drivers
        self._log = log
        self._told = told or (lambda _container, _turn: None)
        self._lock = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._watched: dict[int, _Entry] = {}
        self._due: list[tuple[float, int, _Entry]] = []
        self._count = itertools.count()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="pyd-log")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify < 0:
            raise OSError(ctypes.get_errno(), f"inotify: {os.strerror(ctypes.get_errno())}")
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="pyd-logs", daemon=True)
        self._thread.start()

    # --- orders --------------------------------------------------------------------------------------------------

    def follow(self, order: Order) -> None:
        """Deliver a container's output from now on, or change how that is done."""
        driver = self._drivers.get(order.driver)
        if driver is None:
            self._log.error(
                "log driver %s of container %s is not ready: its output is kept, as far as that goes",
                order.driver, order.source.name,
            )  # fmt: skip
            return
        with self._lock:
            entry = self._entries.get(order.source.container)
            if entry is None or entry.feed.done:
                try:
                    feed = Feed(order, driver, self._log)
                except (OSError, ValueError) as error:
                    self._log.error("deliver the output of container %s: %s", order.source.name, error)
                    return
                entry = self._entries[order.source.container] = _Entry(feed, -1)
                self._watch(entry)
            else:
                entry.feed.order = order
                if order.ended and not entry.feed.failing and not entry.running:
                    self._queue(entry, 0.0)  # its rest is over
            self._wake(entry)

    def forget(self, container: str) -> None:
        """Stop, and let go of everything: returns when nobody has a file of it open. One that is not followed is fine."""
        with self._lock:
            entry = self._entries.pop(container, None)
            if entry is None:
                return
            entry.gone = True
            self._unwatch(entry)
            self._lock.wait_for(lambda: not entry.running)
        entry.feed.close()

    def remove(self, order: Order) -> None:
        """The container goes: what its driver keeps of it too."""
        self.forget(order.source.container)
        driver = self._drivers.get(order.driver)
        if driver is not None:
            try:
                driver.log_remove(source=order.source)
            except PydError as error:
                self._log.error("log driver %s: remove container %s: %s", order.driver, order.source.name, error)

    def close(self, seconds: float = 2.0) -> None:
        """End; deliveries under way get *seconds*, and what they do not do comes again. Twice is once."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            entries = list(self._entries.values())
            for entry in entries:
                entry.gone = True
            os.eventfd_write(self._bell, 1)
            self._lock.wait_for(lambda: not any(entry.running for entry in entries), seconds)
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for entry in entries:
            if not entry.running:
                entry.feed.close()
        os.close(self._inotify)
        os.close(self._bell)

    # --- waiting -------------------------------------------------------------------------------------------------

    def _watch(self, entry: _Entry) -> None:
        path = os.fsencode(f"/proc/self/fd/{entry.feed.directory}")
        entry.watch = self._libc.inotify_add_watch(self._inotify, path, _IN_MODIFY | _IN_CREATE)
        if entry.watch < 0:  # no more watches for this user: looked at now and then
            self._log.warning("%s: inotify: %s", entry.feed, os.strerror(ctypes.get_errno()))
        else:
            self._watched[entry.watch] = entry

    def _unwatch(self, entry: _Entry) -> None:
        if self._watched.get(entry.watch) is entry:
            del self._watched[entry.watch]
            self._libc.inotify_rm_watch(self._inotify, entry.watch)  # the directory may be gone, and the watch with it

    def _wake(self, entry: _Entry) -> None:
        """There may be something to do. Under the lock."""
        if entry.running:
            entry.again = True
        elif not entry.queued and not entry.gone:
            self._queue(entry, entry.not_before)

    def _queue(self, entry: _Entry, when: float) -> None:
        entry.queued = True
        heapq.heappush(self._due, (when, next(self._count), entry))
        if self._due[0][2] is entry:
            os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        poll.register(self._bell, select.POLLIN)
        while True:
            with self._lock:
                if self._closing:
                    return
                now = time.monotonic()
                while self._due and self._due[0][0] <= now:
                    self._begin(heapq.heappop(self._due)[2])
                wait = (self._due[0][0] - now) * 1000 + 1 if self._due else None
            poll.poll(wait)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
            self._look()

    def _look(self) -> None:
        try:
            data = os.read(self._inotify, 65536)
        except BlockingIOError:
            return
        position = 0
        with self._lock:
            while position < len(data):
                watch, _mask, _cookie, length = _HEAD.unpack_from(data, position)
                position += _HEAD.size + length
                if watch < 0:  # the queue ran over: everyone may have missed something
                    for entry in self._entries.values():
                        self._wake(entry)
                elif watch in self._watched:
                    self._wake(self._watched[watch])

    # --- delivering ----------------------------------------------------------------------------------------------

    def _begin(self, entry: _Entry) -> None:
        entry.queued = False
        if not entry.gone and not entry.running:
            entry.running, entry.again = True, False
            self._pool.submit(self._deliver, entry)

    def _deliver(self, entry: _Entry) -> None:
        pause: float | None = 1.0
        order = entry.feed.order
        try:
            pause = entry.feed.step()
        except Exception:  # noqa: BLE001 - a bug in one delivery must not end the others
            self._log.exception("%s", entry.feed)
        with self._lock:
            entry.running = False
            forgotten = entry.gone
            if entry.feed.done:
                entry.gone = (
                    True  # it may stand in the queue a second time: its rest is over, and there was something to do
                )
                self._unwatch(entry)
                if self._entries.get(order.source.container) is entry:
                    del self._entries[order.source.container]
                if entry.feed.order is not order and not forgotten:
                    # Another order came while this one was done to its end. Here, so that whoever forgets it finds it.
                    self.follow(entry.feed.order)
            elif not entry.gone:
                now = time.monotonic()
                entry.not_before = now + (_GATHER if pause is None else pause)
                if entry.watch < 0 and pause is None:
                    pause = 1.0
                if pause is not None or entry.again:
                    self._queue(entry, entry.not_before)
            self._lock.notify_all()
        if entry.feed.done and entry.feed.order is order and not forgotten:
            self._done(order)

    def _done(self, order: Order) -> None:
        if order.discard:
            self.remove(order)
            shutil.rmtree(order.directory, ignore_errors=True)
        self._told(order.source.container, order.turn)
