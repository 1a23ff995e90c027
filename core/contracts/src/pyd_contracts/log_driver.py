"""What log drivers that send to a sink have in common: one entry a container, from open to end."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pyd_contracts.errors import FailedPrecondition, Unavailable
from pyd_contracts.log_sinks import reason
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import LogRecord, LogSource

__all__ = ["SinkDriver", "one_by_one"]

E = TypeVar("E")


class SinkDriver(ABC, Generic[E]):
    """The hooks of `pyd_contracts.log.LogDriver` but for log_validate, over entries of a type of the driver's own. It keeps
    nothing of a container that has ended."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._open: dict[str, E] = {}
        self._lock = threading.Lock()

    @abstractmethod
    def _opened(self, source: LogSource) -> E:
        """An entry for a container, its sink reached. Raises as log_open does."""

    @abstractmethod
    def _send(self, entry: E, records: Sequence[LogRecord]) -> int:
        """How many records, from the first on, have arrived. Raises as log_write does."""

    @abstractmethod
    def _let_go(self, entry: E) -> None:
        """Close what an entry holds."""

    @hookimpl
    def log_open(self, source: LogSource) -> None:
        """What an earlier open of that container made is let go first."""
        self.log_end(source.container)
        entry = self._opened(source)
        with self._lock:
            self._open[source.container] = entry

    @hookimpl
    def log_write(self, container: str, records: Sequence[LogRecord]) -> int:
        """To the entry of that container."""
        with self._lock:
            entry = self._open.get(container)
        if entry is None:
            raise FailedPrecondition(f"write the log of {container[:12]}: it is not open")
        return self._send(entry, records)

    @hookimpl
    def log_end(self, container: str) -> None:
        """Twice is once."""
        with self._lock:
            entry = self._open.pop(container, None)
        if entry is not None:
            self._let_go(entry)

    @hookimpl
    def log_remove(self, source: LogSource) -> None:
        """What has arrived is the sink's."""
        self.log_end(source.container)

    @hookimpl
    def log_close(self) -> None:
        """Ends all that is open."""
        for container in list(self._open):
            self.log_end(container)


def one_by_one(
    records: Sequence[LogRecord],
    send: Callable[[LogRecord], None],
    what: str,
    patience: float,
    broken: Callable[[], None],
) -> int:
    """Give each record to *send*, which sends datagrams; returns how many it took in *patience* seconds.

    An OSError ends that: *broken* is called, and Unavailable says that *what* did not take even the first.
    """
    deadline = time.monotonic() + patience
    for number, record in enumerate(records):
        if time.monotonic() > deadline:
            return number
        try:
            send(record)
        except OSError as error:
            broken()
            if number:
                return number
            raise Unavailable(f"send to {what}: {reason(error)}") from error
    return len(records)
