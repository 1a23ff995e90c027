"""From spools to log drivers: lines, positions, sinks that are down or slow, crashes, and what is left out."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyd_conformance.fakes import FakeLogs, FakeSink
from pyd_contracts.log import LogDriver
from pyd_contracts.values import LogRecord, LogSource
from pyd_engine.logs.cursor import Cursor, behind, prepare
from pyd_engine.logs.deliveries import Deliveries
from pyd_engine.logs.feed import Feed
from pyd_engine.logs.lines import LINE, Lines
from pyd_engine.logs.orders import Order, read, written
from pyd_shim.segments import Policy
from pyd_shim.spool import Frame, SpoolWriter

ID = "ab" * 32
LOG = logging.getLogger("pyd.test")


# --- lines -------------------------------------------------------------------------------------------------------


def said(records: list[LogRecord]) -> list[tuple[bytes, int]]:
    return [(record.data, record.stream) for record in records]


def test_whole_lines_pass_as_they_are() -> None:
    lines = Lines()
    assert said(lines.feed(Frame(1, 1, b"one\ntwo\n"))) == [(b"one\ntwo\n", 1)]
    assert lines.state() == {}


def test_a_line_is_put_together_each_stream_by_itself() -> None:
    lines = Lines()
    assert lines.feed(Frame(1, 1, b"on")) == []
    assert said(lines.feed(Frame(2, 2, b"error\n"))) == [(b"error\n", 2)]
    assert lines.feed(Frame(3, 1, b"e ")) == []
    first, second = lines.feed(Frame(4, 1, b"line\nnext\nre"))
    assert (first.data, first.time_ns) == (b"one line\n", 1)
    assert (second.data, second.time_ns) == (b"next\n", 4)
    assert said(Lines(lines.state()).end()) == [(b"re", 1)]


def test_long_lines_come_in_pieces() -> None:
    lines = Lines()
    records = lines.feed(Frame(1, 1, b"short\n" + b"x" * (2 * LINE + 5) + b"\nafter\n"))
    assert [record.data for record in records] == [b"short\n", b"x" * LINE, b"x" * LINE, b"x" * 5 + b"\n", b"after\n"]
    pieces = [record.piece for record in records]
    assert [(each.ordinal, each.last) for each in pieces if each] == [(1, False), (2, False), (3, True)]
    assert len({each.id for each in pieces if each}) == 1


def test_a_line_of_just_the_length_is_one() -> None:
    lines = Lines()
    assert said(lines.feed(Frame(1, 1, b"x" * LINE + b"\n"))) == [(b"x" * LINE + b"\n", 1)]
    assert lines.feed(Frame(1, 1, b"x" * LINE)) == []
    assert said(lines.feed(Frame(1, 1, b"\n"))) == [(b"x" * LINE + b"\n", 1)]


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=60)), max_size=30), st.integers(0, 30)
)
def test_nothing_is_lost_or_moved_wherever_it_is_interrupted(frames: list[tuple[int, bytes]], crash: int) -> None:
    lines, records = Lines(), []
    for number, (stream, data) in enumerate(frames):
        if number == crash:
            lines = Lines(lines.state())
        records += lines.feed(Frame(number, stream, data))
    records += lines.end()
    for stream in (1, 2):
        assert b"".join(r.data for r in records if r.stream == stream) == b"".join(d for s, d in frames if s == stream)
    assert all(record.data.endswith(b"\n") for record in records[: -2 or None] if record.piece is None)


# --- feeds -------------------------------------------------------------------------------------------------------


class Place:
    """A container's spool, and what is delivered of it."""

    def __init__(self, path: Path, policy: Policy | None = None) -> None:
        self.path = path / "logs"
        self.path.mkdir(parents=True)
        prepare(str(self.path))
        self.run = 0
        self.writer: SpoolWriter | None = None
        (policy or Policy(1 << 20, 1 << 24, 1 << 24)).write(str(self.path))
        self.begin()

    def begin(self) -> None:
        """One more run."""
        if self.writer is not None:
            self.writer.close()
        self.run += 1
        self.writer = SpoolWriter(f"{self.path}/{self.run}.spool")

    def write(self, text: str, stream: int = 1) -> None:
        assert self.writer is not None
        self.writer.write(time.time_ns(), stream, text.encode())

    @property
    def order(self) -> Order:
        place = self.path.parent
        source = LogSource(ID, "web", "busybox", "sha256:1", 0, ("sh",), place, ("A=1",), {"a": "b"}, {"color": "red"})
        return Order("fake", source, str(self.path))

    def cursor(self) -> Cursor:
        fd = os.open(self.path, os.O_RDONLY)
        try:
            return Cursor.read(fd)
        finally:
            os.close(fd)

    def left(self) -> int:
        fd = os.open(self.path, os.O_RDONLY)
        try:
            return behind(fd, Cursor.read(fd))
        finally:
            os.close(fd)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "one")
    yield place
    assert place.writer is not None
    place.writer.close()


def drained(feed: Feed) -> None:
    """Step until there is no more to do."""
    for _ in range(1000):
        if feed.step() is None:
            return
    raise AssertionError("it does not come to an end")


def lost_driver(sink: FakeSink) -> LogDriver:
    driver: LogDriver = FakeLogs(sink)
    return driver


def test_orders_go_through_json(place: Place) -> None:
    import json

    order = replace(place.order, most=5, turn=7)
    assert read(json.loads(json.dumps(written(order)))) == order


def test_a_feed_delivers_and_says_how_far(place: Place) -> None:
    sink = FakeSink()
    feed = Feed(place.order, lost_driver(sink), LOG)
    place.write("one\ntw")
    drained(feed)
    assert sink.lines(ID) == [b"one"]
    assert place.left() == 1  # what is held counts as one
    place.write("o\n", 1)
    drained(feed)
    feed.close()
    assert sink.lines(ID) == [b"one", b"two"]
    assert place.left() == 0


def test_a_feed_made_anew_goes_on_there(place: Place) -> None:
    sink = FakeSink()
    for number in range(5):
        place.write(f"line {number}\nbegun {number}")
        feed = Feed(place.order, lost_driver(sink), LOG)
        drained(feed)
        feed.close()
        place.write(" ended\n")
    feed = Feed(replace(place.order, ended=True), lost_driver(sink), LOG)
    drained(feed)
    assert feed.done
    assert sink.lines(ID) == [text for n in range(5) for text in (b"line %d" % n, b"begun %d ended" % n)]


def test_runs_and_segments_follow_one_another(tmp_path: Path) -> None:
    place, sink = Place(tmp_path / "x", Policy(4096, 8192, 1 << 20)), FakeSink()
    feed = Feed(place.order, lost_driver(sink), LOG)
    for number in range(1000):
        if number in (300, 301, 700):
            place.write("no end")
            place.begin()
        place.write(f"line {number}\n")
        if number % 97 == 0:
            drained(feed)
    feed.order = replace(place.order, ended=True)
    drained(feed)
    found = sink.lines(ID)
    assert [line for line in found if line != b"no end"] == [b"line %d" % number for number in range(1000)]
    assert found.count(b"no end") == 3
    assert found[300] == b"no end"
    left = sum(each.stat().st_size for each in place.path.glob("*.spool*"))
    assert left <= 8192 + 4096, "what is delivered is kept as long as everything else"
    assert place.writer is not None
    place.writer.close()


def test_a_sink_that_is_down_gets_everything_later(place: Place) -> None:
    sink = FakeSink(up=False)
    feed = Feed(place.order, lost_driver(sink), LOG)
    pauses = []
    for number in range(12):
        place.write(f"line {number}\n")
        pauses.append(feed.step())
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == 30.0
    assert place.cursor().error == "the sink is down"
    sink.up = True
    drained(feed)
    feed.close()
    assert sink.lines(ID) == [b"line %d" % number for number in range(12)]
    assert place.cursor().error == ""


def test_a_slow_sink_gets_everything_in_order(place: Place) -> None:
    sink = FakeSink(most=3)
    feed = Feed(place.order, lost_driver(sink), LOG)
    for number in range(100):
        place.write(f"line {number}\n")
    drained(feed)
    feed.close()
    assert sink.lines(ID) == [b"line %d" % number for number in range(100)]


def test_the_oldest_is_left_out_where_that_was_asked_for(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    sink = FakeSink(up=False)
    feed = Feed(replace(place.order, most=3000), lost_driver(sink), LOG)
    place.write("first\n")
    feed.step()
    for number in range(1000):
        place.write(f"line {number:04d}\n")
    feed.step()
    sink.up = True
    drained(feed)
    feed.close()
    found = sink.lines(ID)
    assert found[0] == b"first"
    assert found[1:] == [b"line %04d" % number for number in range(1001 - len(found), 1000)]
    assert 90 < len(found) < 110
    assert place.cursor().dropped == (1001 - len(found)) * 30
    assert "is dropped" in caplog.text


def test_what_fell_out_of_the_spool_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place, sink = Place(tmp_path / "x", Policy(4096, 4096, 8192)), FakeSink(up=False)
    feed = Feed(place.order, lost_driver(sink), LOG)
    place.write("first\n")
    feed.step()
    for number in range(1000):
        place.write(f"line {number:04d}\n")
    sink.up = True
    drained(feed)
    feed.close()
    assert sink.lines(ID)[-1] == b"line 0999"
    assert "were never delivered" in caplog.text
    assert place.writer is not None
    place.writer.close()


# --- all of them -------------------------------------------------------------------------------------------------


def until(fact: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 30
    while not fact():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.fixture
def told() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def deliveries(sink: FakeSink, told: list[tuple[str, int]]) -> Iterator[Deliveries]:
    made = Deliveries({"fake": lost_driver(sink)}, LOG, lambda container, turn: told.append((container, turn)))
    yield made
    made.close()


def test_output_is_delivered_when_it_is_written(deliveries: Deliveries, sink: FakeSink, place: Place) -> None:
    deliveries.follow(place.order)
    for number in range(20):
        place.write(f"line {number}\n")
        until(lambda: len(sink.lines(ID)) > number, f"line {number} arrives")  # noqa: B023 - called at once


def test_the_end_is_told_once_all_is_there(
    deliveries: Deliveries, sink: FakeSink, place: Place, told: list[tuple[str, int]]
) -> None:
    deliveries.follow(replace(place.order, turn=1))
    place.write("one\nno end")
    deliveries.follow(replace(place.order, ended=True, turn=2))
    until(lambda: told, "it is told")
    assert told == [(ID, 2)]
    assert sink.lines(ID) == [b"one", b"no end"]


def test_a_container_that_begins_again_is_followed_on(
    deliveries: Deliveries, sink: FakeSink, place: Place, told: list[tuple[str, int]]
) -> None:
    for turn in range(1, 60, 2):
        deliveries.follow(replace(place.order, turn=turn))
        place.write(f"run {turn}\n")
        deliveries.follow(replace(place.order, ended=True, turn=turn + 1))
        place.begin()
    until(lambda: (ID, 60) in told, "the last order is done")
    assert sink.lines(ID) == [b"run %d" % turn for turn in range(1, 60, 2)]


def test_nothing_of_a_forgotten_one_is_open(deliveries: Deliveries, sink: FakeSink, place: Place) -> None:
    deliveries.follow(place.order)
    place.write("one\n")
    until(lambda: sink.lines(ID), "it arrives")
    deliveries.forget(ID)
    deliveries.forget(ID)
    open_now = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_link(fd)]
    assert open_now.count(str(place.path)) == 1  # the writer's
    place.write("two\n")
    deliveries.follow(place.order)
    until(lambda: len(sink.lines(ID)) == 2, "it is followed again")


def test_who_is_forgotten_while_it_ends_is_not_followed_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory goes then: whoever opens it once more writes into it what was delivered long ago."""
    ending, go_on = threading.Event(), threading.Event()

    class Slow(FakeLogs):
        def log_end(self, container: str) -> None:
            ending.set()
            assert go_on.wait(20)
            super().log_end(container)

    deliveries, followed = Deliveries({"fake": Slow(FakeSink())}, LOG), list[int]()
    place.write("one\n")
    deliveries.follow(replace(place.order, ended=True, turn=1))
    assert ending.wait(20)
    deliveries.follow(replace(place.order, ended=True, turn=2))
    monkeypatch.setattr(deliveries, "follow", lambda order: followed.append(order.turn))
    forgetting = threading.Thread(target=deliveries.forget, args=(ID,))
    forgetting.start()
    until(lambda: ID not in deliveries._entries, "it is being forgotten")
    go_on.set()
    forgetting.join()
    deliveries._pool.shutdown(wait=True)
    assert followed == []
    deliveries.close()


def _is_link(fd: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{fd}")


def test_a_spool_that_is_moved_is_delivered_and_discarded(
    deliveries: Deliveries, sink: FakeSink, place: Place, tmp_path: Path, told: list[tuple[str, int]]
) -> None:
    sink.up = False
    deliveries.follow(place.order)
    place.write("last words\n")
    elsewhere = tmp_path / "elsewhere"
    place.path.rename(elsewhere)
    deliveries.follow(replace(place.order, directory=str(elsewhere), ended=True, discard=True, turn=3))
    sink.up = True
    until(lambda: told, "it is told")
    assert sink.lines(ID) == [b"last words"]
    assert not elsewhere.exists()


def test_one_that_fails_does_not_hold_up_another(tmp_path: Path) -> None:
    class Torn(FakeLogs):
        def log_write(self, container: str, records: Any) -> int:
            if container == ID:
                raise RuntimeError("a bug")
            return super().log_write(container, records)

    sink, good = FakeSink(), "cd" * 32
    deliveries = Deliveries({"fake": Torn(sink)}, LOG)
    bad, fine = Place(tmp_path / "bad"), Place(tmp_path / "fine")
    deliveries.follow(bad.order)
    deliveries.follow(replace(fine.order, source=replace(fine.order.source, container=good)))
    for place in (bad, fine):
        place.write("one\n")
    until(lambda: sink.lines(good) == [b"one"], "the other is delivered")
    deliveries.close()
    deliveries.close()
    assert bad.left() > 0
    for place in (bad, fine):
        assert place.writer is not None
        place.writer.close()


def test_an_unknown_driver_is_an_error_in_the_log(
    deliveries: Deliveries, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    deliveries.follow(replace(place.order, driver="nope"))
    assert "log driver nope of container web is not ready" in caplog.text
