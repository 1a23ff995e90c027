"""The syslog driver: one message a line, to a socket of this host or to a server elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pyd_contracts.errors import FailedPrecondition, Unavailable
from pyd_contracts.log_details import attributes, tag
from pyd_contracts.log_sinks import PATIENCE, Stream, connect, reason
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import LogRecord, LogSource
from pyd_log_syslog.formats import Formatter, formatter, framed
from pyd_log_syslog.options import Options, read

__all__ = ["SyslogDriver"]

_SEVERITIES = {1: 6, 2: 3}
_TOO_LONG = 90  # EMSGSIZE
_LONGEST = 8192  # of a datagram that was too long: RFC 5425 has no bound, and RFC 5426 says 8192 should be taken


@dataclass(slots=True)
class _Open:
    """One container."""

    options: Options
    format: Formatter
    stream: Stream


class SyslogDriver:
    """A connection a container; *patience* seconds is how long a server may take."""

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
        kind = "tcp" if options.kind == "tcp+tls" else options.kind
        stream = Stream(lambda: connect(kind, options.where, self._patience, options.tls), options.what, self._patience)
        name = "/".join((tag(source), *(f"{key}={value}" for key, value in sorted(attributes(source).items()))))
        made = _Open(options, formatter(options.format, options.facility, name), stream)
        stream.open()
        with self._lock:
            self._open[source.container] = made

    @hookimpl
    def log_write(self, container: str, records: Sequence[LogRecord]) -> int:
        """See the contract."""
        with self._lock:
            found = self._open.get(container)
        if found is None:
            raise FailedPrecondition(f"write the log of {container[:12]}: it is not open")
        if found.options.kind in ("udp", "unixgram"):
            return self._datagrams(found, records)
        messages = [message for record in records for message in self._messages(found, record)]
        if found.options.kind == "tcp+tls" and found.options.format.startswith("rfc5424"):
            messages = [framed(message) for message in messages]
        found.stream.send(b"".join(messages))
        return len(records)

    def _messages(self, found: _Open, record: LogRecord) -> list[bytes]:
        severity = _SEVERITIES.get(record.stream, 6)
        return [found.format(severity, record.time_ns, line.replace(b"\0", b" ")) for line in record.lines]

    def _datagrams(self, found: _Open, records: Sequence[LogRecord]) -> int:
        deadline = time.monotonic() + self._patience
        for number, record in enumerate(records):
            if time.monotonic() > deadline:
                return number
            try:
                connection = found.stream.open()
                connection.settimeout(self._patience)
                for message in self._messages(found, record):
                    try:
                        connection.send(message)
                    except OSError as error:
                        if error.errno != _TOO_LONG:
                            raise
                        connection.send(message[:_LONGEST])
            except OSError as error:
                found.stream.close()
                if number:
                    return number
                raise Unavailable(f"send to {found.options.what}: {reason(error)}") from error
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
            with suppress(OSError):
                self.log_end(container)
