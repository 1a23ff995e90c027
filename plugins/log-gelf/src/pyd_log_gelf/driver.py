"""The gelf driver: one message a line, in datagrams or, with a NUL behind each, over TCP."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyd_contracts.errors import FailedPrecondition, Unavailable
from pyd_contracts.log_sinks import PATIENCE, Stream, connect, reason
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import LogRecord, LogSource
from pyd_log_gelf.messages import chunks, head, message, packed
from pyd_log_gelf.options import Options, read

__all__ = ["GelfDriver"]

_LONGEST = 120_000
"""Bytes of a compressed message that 128 chunks can hold with ease; longer ones are cut before they are packed."""


@dataclass(slots=True)
class _Open:
    """One container."""

    options: Options
    fields: dict[str, object]
    stream: Stream


class GelfDriver:
    """A socket a container; *patience* seconds is how long a server may take."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()

    @hookimpl
    def log_validate(self, options: Mapping[str, str]) -> None:
        """See the contract."""
        read(options)

    @hookimpl
    def log_open(self, source: LogSource) -> None:
        """See the contract."""
        self.log_end(source.container)
        options = read(source.options)
        stream = Stream(lambda: connect(options.kind, options.where, self._patience), options.what, self._patience)
        stream.open()
        with self._lock:
            self._open[source.container] = _Open(options, head(source), stream)

    @hookimpl
    def log_write(self, container: str, records: Sequence[LogRecord]) -> int:
        """See the contract. Empty lines are left out: servers refuse messages without text."""
        with self._lock:
            found = self._open.get(container)
        if found is None:
            raise FailedPrecondition(f"write the log of {container[:12]}: it is not open")
        if found.options.kind == "udp":
            return self._datagrams(found, records)
        messages = [each + b"\0" for record in records for each in _messages(found, record)]
        found.stream.send(b"".join(messages))
        return len(records)

    def _datagrams(self, found: _Open, records: Sequence[LogRecord]) -> int:
        options = found.options
        deadline = time.monotonic() + self._patience
        for number, record in enumerate(records):
            if time.monotonic() > deadline:
                return number
            try:
                connection = found.stream.open()
                connection.settimeout(self._patience)
                for each in _messages(found, record):
                    for datagram in chunks(packed(each, options.compression, options.level)):
                        connection.send(datagram)
            except OSError as error:
                found.stream.close()
                if number:
                    return number
                raise Unavailable(f"send to {options.what}: {reason(error)}") from error
        return len(records)

    @hookimpl
    def log_end(self, container: str) -> None:
        """See the contract."""
        with self._lock:
            found = self._open.pop(container, None)
        if found is not None:
            found.stream.close()

    @hookimpl
    def log_remove(self, source: LogSource) -> None:
        """See the contract; nothing is kept here."""
        self.log_end(source.container)

    @hookimpl
    def log_close(self) -> None:
        """See the contract."""
        for container in list(self._open):
            self.log_end(container)


def _messages(found: _Open, record: LogRecord) -> list[bytes]:
    made = (message(found.fields, record.stream, record.time_ns, line[:_LONGEST]) for line in record.lines if line)
    return list(made)
