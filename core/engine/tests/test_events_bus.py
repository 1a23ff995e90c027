"""The event bus: order, history across restarts, bounds, filters, the API's shape."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from pyd_contracts.errors import ResourceExhausted
from pyd_contracts.values import Event
from pyd_engine.events import EventBus, EventFilter, Subscription, as_json
from pyd_engine.store.database import Database

SECOND = 1_000_000_000


class Clock:
    def __init__(self, now: int = 1_700_000_000 * SECOND) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def publish(bus: EventBus, *actions: str) -> list[Event]:
    return [bus.publish("container", action, "c1", {"name": "web"}) for action in actions]


async def take(subscription: Subscription, count: int) -> list[str]:
    async with asyncio.timeout(5):
        return [(await anext(subscription)).action for _ in range(count)]


async def rest(subscription: Subscription) -> list[str]:
    async with asyncio.timeout(5):
        return [event.action async for event in subscription]


def test_times_increase_strictly_also_when_the_clock_goes_back() -> None:
    clock = Clock()
    bus = EventBus(None, clock)
    first, second = publish(bus, "a", "b")
    clock.now -= 3600 * SECOND
    (third,) = publish(bus, "c")
    assert first.time_ns < second.time_ns < third.time_ns


@pytest.mark.parametrize("kept_in", ["database", "memory"])
def test_since_gives_the_past_and_then_the_present_without_gap(tmp_path: Path, kept_in: str) -> None:
    clock = Clock()
    bus = EventBus(Database(tmp_path / "db") if kept_in == "database" else None, clock)
    publish(bus, "old")
    clock.now += 10 * SECOND
    publish(bus, "a", "b")

    async def scenario() -> None:
        async with bus.subscribe(since=clock.now / SECOND) as listener:
            publish(bus, "c")
            assert await take(listener, 3) == ["a", "b", "c"]
        assert bus.listening == 0

    asyncio.run(scenario())


def test_history_survives_a_restart_and_time_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    database = Database(tmp_path / "db")
    (before,) = publish(EventBus(database, clock), "before")
    database.close()
    clock.now -= SECOND
    bus = EventBus(Database(tmp_path / "db"), clock)
    (after,) = publish(bus, "after")
    assert after.time_ns > before.time_ns

    async def scenario() -> list[str]:
        return await rest(bus.subscribe(since=0, until=after.time_ns / SECOND + 1)) if clock.now else []

    clock.now = after.time_ns + 2 * SECOND
    assert asyncio.run(scenario()) == ["before", "after"]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    bus = EventBus(database, kept=10)
    publish(bus, *map(str, range(600)))
    (count,) = database.rows("SELECT count(*) FROM events")[0]
    assert count < 10 + 256 + 1

    async def scenario() -> list[str]:
        return await rest(bus.subscribe(since=0, until=time.time()))

    assert asyncio.run(scenario()) == [str(n) for n in range(590, 600)]


def test_until_in_the_future_ends_at_that_time() -> None:
    async def scenario() -> list[str]:
        bus = EventBus(None)
        listener = bus.subscribe(until=time.time() + 0.2)
        publish(bus, "in time")
        return await rest(listener)

    assert asyncio.run(scenario()) == ["in time"]


def test_a_slow_listener_is_ended_with_an_error_after_what_was_queued_and_others_are_not() -> None:
    async def scenario() -> None:
        bus = EventBus(None, queue=3)
        slow, picky = bus.subscribe(), bus.subscribe({"event": ["e"]})
        publish(bus, *"abcde")
        assert await take(slow, 3) == ["a", "b", "c"]
        with pytest.raises(ResourceExhausted, match="3 events behind"):
            await take(slow, 1)
        assert await take(picky, 1) == ["e"]
        assert bus.listening == 1

    asyncio.run(scenario())


def test_events_from_threads_reach_every_listener_in_one_order(tmp_path: Path) -> None:
    bus = EventBus(Database(tmp_path / "db"))

    async def scenario() -> list[list[int]]:
        listeners = [bus.subscribe() for _ in range(3)]
        threads = [threading.Thread(target=publish, args=(bus, *["x"] * 50)) for _ in range(4)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(20):
            seen = [[(await anext(listener)).time_ns for _ in range(200)] for listener in listeners]
        for thread in threads:
            thread.join()
        return seen

    first, *others = asyncio.run(scenario())
    assert first == sorted(set(first))
    assert all(other == first for other in others)


def test_publishing_inside_a_transaction_of_another_component_does_not_deadlock(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    bus = EventBus(database)
    with database.transaction():
        publish(bus, "inside")
        thread = threading.Thread(target=publish, args=(bus, "outside"), daemon=True)
        thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert database.rows("SELECT action FROM events ORDER BY time_ns") == [("inside",), ("outside",)]


def test_an_event_that_cannot_be_kept_still_reaches_listeners(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(tmp_path / "db")
    bus = EventBus(database)
    database.close()

    async def scenario() -> list[str]:
        listener = bus.subscribe()
        publish(bus, "a", "b")
        return await take(listener, 2)

    assert asyncio.run(scenario()) == ["a", "b"]
    assert caplog.text.count("cannot be kept") == 1


def test_closing_the_bus_ends_iterations() -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        bus = EventBus(None)
        listener = bus.subscribe()
        reading = asyncio.create_task(rest(listener))
        publish(bus, "a")
        await asyncio.sleep(0)
        bus.close()
        return await reading, await rest(bus.subscribe())

    assert asyncio.run(scenario()) == (["a"], [])


def test_forwarded_events_are_those_that_clients_see() -> None:
    seen: list[Event] = []
    bus = EventBus(None)
    bus.forward(seen.append)
    assert publish(bus, "a", "b") == seen


START = Event("container", "start", "c1aa", {"image": "host:5000/app:1", "name": "web", "tier": "front"}, 1)
HEALTH = Event("container", "health_status: healthy", "c1aa", {"name": "web"}, 2)
PULL = Event("image", "pull", "alpine:3", {"name": "alpine"}, 3)
CONNECT = Event("network", "connect", "n1", {"name": "bridge", "container": "c1aa"}, 4)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "start health pull connect"),
        ({"type": ["image", "network"]}, "pull connect"),
        ({"event": ["start"]}, "start"),
        ({"event": ["health"]}, ""),
        ({"event": ["health_status"]}, "health"),
        ({"action": ["pull"]}, "start health pull connect"),  # no filter: passed over, as dockerd does
        ({"container": ["c1"]}, "start health"),
        ({"container": ["web", "other"]}, "start health"),
        ({"image": ["alpine"]}, "pull"),
        ({"image": ["host:5000/app"]}, "start"),
        ({"image": ["host"]}, ""),
        ({"network": ["bridge"]}, "connect"),
        ({"label": ["tier"]}, "start"),
        ({"label": ["tier=front", "name=web"]}, "start"),
        ({"label": ["tier=front", "name=db"]}, ""),
        ({"scope": ["local"]}, "start health pull connect"),
        ({"scope": ["swarm"]}, ""),
        ({"daemon": ["x"]}, ""),
        ({"type": ["container"], "event": ["start", "pull"]}, "start"),
    ],
)
def test_filters(filters: dict[str, list[str]], expected: str) -> None:
    events = {"start": START, "health": HEALTH, "pull": PULL, "connect": CONNECT}
    chosen = EventFilter(filters)
    assert " ".join(name for name, event in events.items() if chosen.fits(event)) == expected


def test_the_shape_is_the_apis() -> None:
    event = Event("container", "start", "c1", {"image": "alpine", "name": "web"}, 1_700_000_000_123_456_789)
    assert as_json(event) == {
        "status": "start",
        "id": "c1",
        "from": "alpine",
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": "c1", "Attributes": {"image": "alpine", "name": "web"}},
        "scope": "local",
        "time": 1_700_000_000,
        "timeNano": 1_700_000_000_123_456_789,
    }
    assert "status" not in as_json(CONNECT)
    assert "from" not in as_json(PULL)
