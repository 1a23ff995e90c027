"""A log driver whose sink is a list in memory, for tests of what stands on one: it can be taken down, and be slow."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyd_contracts.errors import FailedPrecondition, InvalidArgument, Unavailable
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import LogRecord, LogSource

__all__ = ["FakeLogs", "FakeSink"]


@dataclass(slots=True)
class FakeSink:
    """What arrived, by container: (stream, nanoseconds, line). With *most* it takes so many records at once."""

    up: bool = True
    most: int = 0
    arrived: dict[str, list[tuple[int, int, bytes]]] = field(default_factory=dict)

    def lines(self, container: str) -> list[bytes]:
        """The lines of a container."""
        return [line for _, _, line in self.arrived.get(container, [])]


class FakeLogs:
    """The log contract over a `FakeSink`. Takes the option ``color``."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, sink: FakeSink) -> None:
        self._sink = sink
        self._open: set[str] = set()
        self._lock = threading.Lock()

    @hookimpl
    def log_validate(self, options: Mapping[str, str]) -> None:
        """One option is known."""
        for key in set(options) - {"color"}:
            raise InvalidArgument(f"unknown log opt '{key}' for fake log driver")

    @hookimpl
    def log_open(self, source: LogSource) -> None:
        """Works while the sink is up."""
        if not self._sink.up:
            raise Unavailable("the sink is down")
        with self._lock:
            self._open.add(source.container)

    @hookimpl
    def log_write(self, container: str, records: Sequence[LogRecord]) -> int:
        """Into the list."""
        if container not in self._open:
            raise FailedPrecondition(f"write the log of {container[:12]}: it is not open")
        if not self._sink.up:
            raise Unavailable("the sink is down")
        taken = records[: self._sink.most] if self._sink.most else records
        with self._lock:
            place = self._sink.arrived.setdefault(container, [])
            place += [(record.stream, record.time_ns, line) for record in taken for line in record.lines]
        return len(taken)

    @hookimpl
    def log_end(self, container: str) -> None:
        """Forget that it is open."""
        with self._lock:
            self._open.discard(container)

    @hookimpl
    def log_remove(self, source: LogSource) -> None:
        """What arrived is the sink's."""
        self.log_end(source.container)

    @hookimpl
    def log_close(self) -> None:
        """Nothing is open any more."""
        self._open.clear()
