"""The event bus: every event gets its time, is kept in the metadata database, and reaches every subscriber in order.

Publishers are threads and coroutines and never wait for a subscriber: each subscriber has a bounded queue, and one that
does not keep up is ended with an error (it may come back and ask for what it missed with ``since``). The newest 10,000
events are kept, so that ``since`` works across restarts.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pyd_contracts.errors import PydError, ResourceExhausted
from pyd_contracts.values import Event
from pyd_engine.events.filters import EventFilter

if TYPE_CHECKING:
    from types import TracebackType

    from pyd_engine.store.database import Database

__all__ = ["EventBus", "Subscription"]

KEPT = 10_000
QUEUE = 4_096
_PRUNE_EVERY = 256
_log = logging.getLogger("pyd.events")

_SCHEMA = [
    """CREATE TABLE events (
        time_ns INTEGER PRIMARY KEY, type TEXT NOT NULL, action TEXT NOT NULL,
        actor TEXT NOT NULL, attributes TEXT NOT NULL
    ) STRICT"""
]


class EventBus:
    """Where events are published and subscribed to.

    *database* keeps them; None keeps them in memory. *clock* gives nanoseconds since the epoch.
    Lock order: the database's lock, then the bus's; so publishing inside of a transaction is allowed.
    """

    def __init__(
        self,
        database: Database | None,
        clock: Callable[[], int] = time.time_ns,
        *,
        kept: int = KEPT,
        queue: int = QUEUE,
    ) -> None:
        self._database = database
        self._clock = clock
        self._kept = kept
        self._queue = queue
        self._lock = threading.Lock()
        self._memory: collections.deque[Event] = collections.deque(maxlen=kept)
        self._subscriptions: set[Subscription] = set()
        self._forward: list[Callable[[Event], None]] = []
        self._last = 0
        self._until_prune = 0
        self._closed = False
        self._lost = False
        if database is not None:
            database.migrate("events", _SCHEMA)
            self._last = database.rows("SELECT coalesce(max(time_ns), 0) FROM events")[0][0]

    # --- publishing ------------------------------------------------------------------------------------------------

    def publish(self, type: str, action: str, actor: str, attributes: Mapping[str, str]) -> Event:  # noqa: A002 - the API's word
        """Say that something happened; from any thread, at any time.

        The event's time is later than that of every event before, also when the clock was set back. It never fails: an
        event that cannot be kept (disk full) still reaches the subscribers, and the log says so once.
        """
        event: Event | None = None
        try:
            with self._writing() as sql:
                event = self._deliver(type, action, actor, attributes)
                if sql is not None:
                    self._keep(sql, event)
            self._lost = False
        except (PydError, sqlite3.Error) as error:
            event = event or self._deliver(type, action, actor, attributes)
            if not self._lost:
                _log.error("events cannot be kept, /events?since= will miss some: %s", error)
            self._lost = True
        return event

    def forward(self, listener: Callable[[Event], None]) -> None:
        """Call *listener* with every event from now on, under the bus's lock: it must only take note."""
        with self._lock:
            self._forward.append(listener)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection | None]:
        if self._database is None:
            yield None
        else:
            with self._database.transaction() as sql:
                yield sql

    def _deliver(self, type: str, action: str, actor: str, attributes: Mapping[str, str]) -> Event:  # noqa: A002
        with self._lock:
            self._last = max(self._clock(), self._last + 1)
            event = Event(type, action, actor, dict(attributes), self._last)
            if self._database is None:
                self._memory.append(event)
            for listener in self._forward:
                listener(event)
            woken: dict[asyncio.AbstractEventLoop, list[Subscription]] = {}
            for subscription in self._subscriptions:
                if subscription._offer(event):
                    woken.setdefault(subscription._loop, []).append(subscription)
        for loop, sleeping in woken.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed, and its subscribers are gone with it
                loop.call_soon_threadsafe(_wake, sleeping)
        return event

    def _keep(self, sql: sqlite3.Connection, event: Event) -> None:
        row = (event.time_ns, event.type, event.action, event.actor, json.dumps(event.attributes))
        sql.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)
        self._until_prune -= 1
        if self._until_prune <= 0:
            self._until_prune = _PRUNE_EVERY
            sql.execute(
                "DELETE FROM events WHERE time_ns < "
                "(SELECT time_ns FROM events ORDER BY time_ns DESC LIMIT 1 OFFSET ?)",
                (self._kept - 1,),
            )

    # --- subscribing -----------------------------------------------------------------------------------------------

    @property
    def listening(self) -> int:
        """How many subscribers there are."""
        return len(self._subscriptions)

    def subscribe(
        self,
        filters: Mapping[str, Sequence[str]] | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Subscription:
        """Listen from now on: nothing that happens after this call is missed.

        *since* and *until* are seconds since the epoch. With either of them, events that were kept come first; with
        *until* the iteration ends at that time, at once when it has passed. Called in an event loop; to be closed.
        """
        subscription = Subscription(self, EventFilter(filters), until, self._queue)
        with self._lock:
            if self._closed:
                subscription._finish(None)
            else:
                self._subscriptions.add(subscription)
            last = self._last
        try:
            if since is not None or until is not None:
                subscription._history = self._past(since, until, last)
        except BaseException:
            self._forget(subscription)
            raise
        return subscription

    def close(self) -> None:
        """End all subscriptions: their iterators stop. Events can still be published."""
        with self._lock:
            self._closed = True
            ended = list(self._subscriptions)
            self._subscriptions.clear()
        for subscription in ended:
            with contextlib.suppress(RuntimeError):
                subscription._loop.call_soon_threadsafe(subscription._finish, None)

    def _forget(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)

    def _past(self, since: float | None, until: float | None, last: int) -> collections.deque[Event]:
        first = 0 if since is None else int(since * 1_000_000_000)
        final = last if until is None else min(last, int(until * 1_000_000_000))
        if self._database is None:
            with self._lock:
                return collections.deque(event for event in self._memory if first <= event.time_ns <= final)
        rows = self._database.rows(
            "SELECT type, action, actor, attributes, time_ns FROM events "
            "WHERE time_ns BETWEEN ? AND ? ORDER BY time_ns DESC LIMIT ?",
            (first, final, self._kept),
        )
        rows.reverse()
        return collections.deque(Event(row[0], row[1], row[2], json.loads(row[3]), row[4]) for row in rows)


class Subscription(AsyncIterator[Event]):
    """One listener: an asynchronous iterator and context manager.

    Iterating raises ResourceExhausted when it did not keep up: what was queued before has been delivered then.
    """

    def __init__(self, bus: EventBus, wanted: EventFilter, until: float | None, bound: int) -> None:
        self._bus = bus
        self._wanted = wanted
        self._until = until
        self._bound = bound
        self._loop = asyncio.get_running_loop()
        self._history: collections.deque[Event] = collections.deque()
        self._waiting: collections.deque[Event] = collections.deque()
        self._ended = False
        self._error: PydError | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __anext__(self) -> Event:
        while self._history:
            event = self._history.popleft()
            if self._wanted.fits(event):
                return event
        while True:
            if self._waiting:
                event = self._waiting.popleft()
                if self._until is not None and event.time_ns > self._until * 1e9:
                    await self.aclose()
                    raise StopAsyncIteration
                return event
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._changed.clear()
            if self._waiting:  # offered by a thread between the look and the clearing
                continue
            try:
                async with asyncio.timeout(self._left()):
                    await self._changed.wait()
            except TimeoutError:
                if not self._waiting:
                    await self.aclose()

    async def aclose(self) -> None:
        """Stop listening. Twice is once."""
        self._bus._forget(self)
        self._finish(None)

    def _left(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - self._bus._clock() / 1e9)

    def _offer(self, event: Event) -> bool:
        """Take an event if it is wanted; under the bus's lock. The answer: whether the loop is to be told."""
        if self._error is not None or not self._wanted.fits(event):
            return False
        if len(self._waiting) >= self._bound:
            self._error = ResourceExhausted(
                f"this listener is {self._bound} events behind and was ended; read faster, or ask again with since"
            )
            return True
        self._waiting.append(event)
        return True

    def _finish(self, error: PydError | None) -> None:
        self._ended = True
        self._error = self._error or error
        self._changed.set()


def _wake(subscriptions: list[Subscription]) -> None:
    for subscription in subscriptions:
        if subscription._error is not None:
            subscription._bus._forget(subscription)
            subscription._ended = True
        subscription._changed.set()
