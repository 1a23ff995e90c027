"""The log suite. A driver's author writes::

    class TestCloud(LogContract):
        def make(self, root: Path, run: Path) -> LogDriver:
            return CloudDriver(patience=0.5)

        @pytest.fixture
        def sink(self, tmp_path: Path) -> Iterator[Sink]:
            with CloudServer(tmp_path) as server:   # speaks the sink's side of the protocol, and fails on what breaks it
                yield server

and runs pytest. Clauses are those of `pyd_contracts.log`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from pyd_conformance.clauses import clause, needs
from pyd_contracts.errors import FailedPrecondition, InvalidArgument, Unavailable
from pyd_contracts.log import LogDriver
from pyd_contracts.values import LogRecord, LogSource, Piece

__all__ = ["LogContract", "Message", "Sink"]

_ONE, _TWO = "1f" * 32, "2e" * 32
_NOW = 1_793_000_000_123_456_789
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    """What a sink got: the line, its stream (1 or 2), its time (None: the protocol has none)."""

    line: bytes
    stream: int
    time_ns: int | None = None


class Sink(Protocol):
    """A sink that tests own. `received` are the messages of a container in the order of arrival, all that have arrived since
    the sink was made, whether it was down in between or not."""

    @property
    def options(self) -> Mapping[str, str]:
        """Options with which a container's output goes here."""
        ...

    def received(self, container: str) -> list[Message]:
        """What has arrived of a container."""
        ...

    def down(self) -> None:
        """Vanish: connections break, new ones are refused. What was sent before has been read."""
        ...

    def up(self) -> None:
        """Be there again, at the same address."""
        ...

    def hang(self) -> None:
        """From now on, take connections and read nothing."""
        ...


class _Stage:
    """A driver that can be lost and made again, and the sink it writes to."""

    def __init__(self, suite: LogContract, sink: Sink, place: Path) -> None:
        self._suite = suite
        self.sink = sink
        self.root, self.run, self.place = place / "root", place / "run", place / "containers"
        for each in (self.root, self.run, self.place):
            each.mkdir(mode=0o700)
        self._made: list[LogDriver] = []
        self.driver = self.lose()

    def lose(self) -> LogDriver:
        """Make the driver without closing the one before, as after a crash."""
        self.driver = self._suite.make(self.root, self.run)
        self._made.append(self.driver)
        return self.driver

    def close(self) -> None:
        """Close all that were made, the lost ones too: they were not lost with a process."""
        for each in reversed(self._made):
            each.log_close()

    def source(self, container: str = _ONE, **options: str) -> LogSource:
        """A container with a place of its own."""
        place = self.place / container
        place.mkdir(exist_ok=True)
        return LogSource(
            container=container, name=f"name-{container[:4]}", image="busybox:1", image_id=f"sha256:{'a' * 64}",
            created_ns=_NOW, command=("sh", "-c", "echo hello"), place=place, env=("A=1", "PATH=/bin"),
            labels={"team": "blue"}, options={**self.sink.options, **options},
        )  # fmt: skip

    def begin(self, container: str = _ONE) -> None:
        """Open, again and again."""
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                self.driver.log_open(source=self.source(container))
            except Unavailable:
                assert time.monotonic() < deadline, "the sink is there, and open does not find it"
                time.sleep(0.05)
            else:
                return

    def deliver(self, records: Sequence[LogRecord], container: str = _ONE) -> None:
        """As the engine does: again and again, from where the driver stopped."""
        left = list(records)
        deadline = time.monotonic() + _SECONDS
        while left:
            assert time.monotonic() < deadline, f"{len(left)} records were not taken"
            try:
                del left[: self.driver.log_write(container=container, records=left)]
            except Unavailable:
                self.driver.log_end(container=container)
                self.begin(container)

    def arrived(self, count: int, container: str = _ONE) -> list[Message]:
        """At least *count* messages, once they are there."""
        deadline = time.monotonic() + _SECONDS
        while len(found := self.sink.received(container)) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} messages arrived"
            time.sleep(0.01)
        return found


def _record(text: str | bytes, stream: int = 1, after: int = 0, piece: Piece | None = None) -> LogRecord:
    data = text.encode() if isinstance(text, str) else text
    return LogRecord(_NOW + after, stream, data, piece)


class LogContract:
    """Base of a driver's test class; ``subject`` names the driver in the report (default: the class's name).

    ``bad_options`` cannot work, each set for itself. ``precision`` is what times are rounded down to, in nanoseconds (0: the
    protocol has no time). ``loses`` is said of protocols in which nobody can know what arrived (UDP). ``empty_lines`` are
    messages of the protocol. ``replaced`` makes of a line what the protocol can carry.
    """

    capabilities: frozenset[str] = frozenset()
    bad_options: ClassVar[Sequence[Mapping[str, str]]] = ()
    precision: int = 1
    loses: bool = False
    hangs: bool = True
    empty_lines: bool = True

    def make(self, root: Path, run: Path) -> LogDriver:
        """Make the driver under test on these directories."""
        raise TypeError(f"{type(self).__name__} must override make(root, run)")

    def replaced(self, line: bytes) -> bytes:
        """What arrives of a line."""
        return line

    @pytest.fixture
    def sink(self, tmp_path: Path) -> Sink:
        """The sink's side; drivers that deliver nothing need none."""
        if not self._silent():
            raise TypeError(f"{type(self).__name__} must override the fixture sink")
        return _NoSink()

    @pytest.fixture
    def stage(self, sink: Sink, tmp_path: Path) -> Iterator[_Stage]:
        """The driver, and nothing open."""
        place = tmp_path / "stage"
        place.mkdir()
        stage = _Stage(self, sink, place)
        yield stage
        stage.close()

    def _silent(self) -> bool:
        return bool(self.capabilities & {"spool", "nothing"})

    def _delivers(self) -> None:
        if self._silent():
            pytest.skip("the driver delivers nothing")

    def _seen(self, records: Sequence[LogRecord]) -> list[tuple[bytes, int]]:
        """What must arrive of records: lines and streams."""
        lines = [(self.replaced(line), record.stream) for record in records for line in record.lines]
        return [each for each in lines if each[0] or self.empty_lines]

    # --- options -------------------------------------------------------------------------------------------------

    @clause("LOG-10", "an option nobody knows is refused, by its name")
    def test_unknown_option(self, stage: _Stage) -> None:
        if "nothing" in self.capabilities:
            pytest.skip("options of a driver that does nothing mean nothing")
        with pytest.raises(InvalidArgument, match=r"unknown log opt ['\"]no-such-option['\"]"):
            stage.driver.log_validate(options={**stage.sink.options, "no-such-option": "x"})

    @clause("LOG-10", "values that cannot work are refused")
    def test_bad_values(self, stage: _Stage) -> None:
        for options in self.bad_options:
            with pytest.raises(InvalidArgument):
                stage.driver.log_validate(options={**stage.sink.options, **options})

    @clause("LOG-11", "a sink that is down is no fault, and nothing is made")
    def test_validate_asks_nobody(self, stage: _Stage) -> None:
        stage.driver.log_validate(options=stage.sink.options)
        if not self._silent():
            stage.sink.down()
            if not any("unix" in value for value in stage.sink.options.values()):  # Docker wants those to be there
                stage.driver.log_validate(options=stage.sink.options)
        assert [each for top in (stage.root, stage.run, stage.place) for each in top.rglob("*")] == []

    # --- writing -------------------------------------------------------------------------------------------------

    @clause("LOG-22", "content, stream and time arrive, each line for itself")
    def test_lines_arrive(self, stage: _Stage) -> None:
        self._delivers()
        records = [
            _record("one\ntwo\n"), _record("broken\n", 2, 5), _record("  three  \n", 1, 2_000_000_001), _record("no end"),
        ]  # fmt: skip
        stage.driver.log_open(source=stage.source())
        stage.deliver(records)
        found = stage.arrived(5)
        assert [(each.line, each.stream) for each in found] == self._seen(records)
        if self.precision:
            times = [record.time_ns // self.precision * self.precision for record in records for _ in record.lines]
            assert [each.time_ns for each in found] == times

    @clause("LOG-4", "any bytes are taken, and what follows them arrives")
    @clause("LOG-20", "what is taken is counted, and the rest may come again")
    def test_any_bytes(self, stage: _Stage) -> None:
        self._delivers()
        identity = "e" * 64
        records = [
            _record(b"\xff\xfe caf\xc3\xa9 \xe2\x80\xa8 \xf0\x9f\x90\xb3\n"),
            _record(b"a\0b\x1b[31m\r\n"),
            _record(b'"quoted" \\back <tag> & more\n'),
            _record(b"\n\n", 2),
            _record(b"\0\n"),
            _record(b"x" * 16384, piece=Piece(identity, 1, last=False)),
            _record(b"y" * 16384 + b"\n", piece=Piece(identity, 2, last=True)),
            _record(os.urandom(3000).replace(b"\n", b"") + b"\n"),
            _record("the end\n"),
        ]
        stage.driver.log_open(source=stage.source())
        stage.deliver(records)
        wanted = self._seen(records)
        assert [(each.line, each.stream) for each in stage.arrived(len(wanted))] == wanted

    @clause("LOG-23", "what is not open cannot be written to")
    def test_write_unopened(self, stage: _Stage) -> None:
        with pytest.raises(FailedPrecondition):
            stage.driver.log_write(container=_ONE, records=[_record("one\n")])

    @clause("LOG-16", "open may be repeated")
    @clause("LOG-25", "end of nothing is nothing, and twice is once")
    @clause("LOG-35", "close twice is close once")
    def test_open_and_end_again(self, stage: _Stage) -> None:
        stage.driver.log_end(container=_ONE)
        stage.driver.log_open(source=stage.source())
        stage.driver.log_open(source=stage.source())
        if not self._silent():
            stage.deliver([_record("one\n")])
            assert [each.line for each in stage.arrived(1)] == [b"one"]
        stage.driver.log_end(container=_ONE)
        stage.driver.log_end(container=_ONE)
        with pytest.raises(FailedPrecondition):
            stage.driver.log_write(container=_ONE, records=[_record("two\n")])
        stage.driver.log_close()
        stage.driver.log_close()

    @clause("LOG-3", "a driver made anew goes on; records repeated are records at least once")
    @clause("LOG-16", "open after a crash is as good as the first")
    def test_crash(self, stage: _Stage) -> None:
        self._delivers()
        records = [_record(f"line {number}\n", 1 + number % 2, number) for number in range(100)]
        stage.driver.log_open(source=stage.source())
        stage.deliver(records[:60])
        stage.arrived(60)
        stage.lose().log_open(source=stage.source())
        stage.deliver(records[50:])
        wanted = [record.lines[0] for record in (*records[:60], *records[50:])]
        assert [each.line for each in stage.arrived(len(wanted))] == wanted

    # --- sinks that are down or slow -----------------------------------------------------------------------------

    @clause("LOG-21", "with the sink down nothing is taken")
    @clause("LOG-15", "and open says so, or need not ask")
    @clause("LOG-3", "everything is there at least once and in order when the sink is there again")
    def test_sink_goes_and_comes(self, stage: _Stage) -> None:
        self._delivers()
        if self.loses:
            pytest.skip("nobody knows what arrives in this protocol")
        records = [_record(f"line {number}\n", after=number) for number in range(50)]
        stage.driver.log_open(source=stage.source())
        stage.deliver(records[:20])
        stage.arrived(20)
        stage.sink.down()
        with pytest.raises(Unavailable):
            stage.driver.log_write(container=_ONE, records=records[20:])
        stage.driver.log_end(container=_ONE)
        try:
            stage.driver.log_open(source=stage.source())
        except Unavailable:
            pass
        else:
            with pytest.raises(Unavailable):
                stage.driver.log_write(container=_ONE, records=records[20:])
        stage.sink.up()
        stage.begin()
        stage.deliver(records[20:])
        found = [each.line for each in stage.arrived(50)]
        assert list(dict.fromkeys(found)) == [record.lines[0] for record in records]

    @clause("LOG-1", "a sink that says nothing holds no hook for ever")
    @clause("LOG-2", "and no other container")
    def test_sink_hangs(self, stage: _Stage) -> None:
        self._delivers()
        if not self.hangs or self.loses:
            pytest.skip("this sink cannot keep anyone waiting")
        stage.driver.log_open(source=stage.source(_ONE))
        stage.driver.log_open(source=stage.source(_TWO))
        stage.sink.hang()
        ended = [self._fill(stage, container) for container in (_ONE, _TWO)]
        for each in ended:
            assert each.wait(_SECONDS), "a hook does not end"
        stage.driver.log_end(container=_ONE)

    @staticmethod
    def _fill(stage: _Stage, container: str) -> threading.Event:
        """Write until the driver takes no more."""
        ended = threading.Event()
        big = [_record("x" * 16000 + "\n") for _ in range(64)]

        def work() -> None:
            try:
                for _ in range(40):
                    if stage.driver.log_write(container=container, records=big) < len(big):
                        break
            except Unavailable:
                pass  # that is how it says so
            finally:
                ended.set()

        threading.Thread(target=work, daemon=True).start()
        return ended

    @clause("LOG-2", "containers at once do not disturb each other")
    def test_at_once(self, stage: _Stage) -> None:
        self._delivers()
        containers = [f"{number:02x}" * 32 for number in range(8)]

        def life(container: str) -> None:
            stage.driver.log_open(source=stage.source(container))
            for number in range(20):
                stage.deliver([_record(f"{container[:4]} {number}\n")], container)
            stage.driver.log_end(container=container)

        _all_at_once(life, containers)
        for container in containers:
            found = [each.line for each in stage.arrived(20, container)]
            assert found == [f"{container[:4]} {number}".encode() for number in range(20)]

    # --- end -----------------------------------------------------------------------------------------------------

    @clause("LOG-30", "nothing of it is left, and twice is once")
    def test_remove(self, stage: _Stage) -> None:
        source, other = stage.source(_ONE), stage.source(_TWO)
        for each in (source, other):
            stage.driver.log_open(source=each)
            if not self._silent():
                stage.deliver([_record("one\n")], each.container)
        stage.lose()
        stage.driver.log_remove(source=source)
        stage.driver.log_remove(source=source)
        assert list(source.place.iterdir()) == []
        assert [each for each in stage.root.rglob("*") if _ONE[:12] in each.name] == []
        if "files" in self.capabilities:
            assert list(other.place.iterdir()) != []

    @clause("LOG-40", "the file that is named holds what was written")
    @needs("files")
    def test_files(self, stage: _Stage) -> None:
        driver: Any = stage.driver
        source = stage.source()
        stage.driver.log_open(source=source)
        path = driver.log_path(source=source)
        assert path.parent == source.place
        assert path.exists()
        stage.deliver([_record("something unusual\n")])
        assert b"something unusual" in path.read_bytes()


class _NoSink:
    """Of drivers that deliver nothing."""

    options: Mapping[str, str] = {}

    def received(self, container: str) -> list[Message]:
        """Nothing."""
        return []

    def down(self) -> None:
        """Nothing is there."""

    def up(self) -> None:
        """Nothing is there."""

    def hang(self) -> None:
        """Nothing is there."""


def _all_at_once(work: Callable[[str], None], subjects: Sequence[str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(subjects)) as pool:
        list(pool.map(work, subjects))
