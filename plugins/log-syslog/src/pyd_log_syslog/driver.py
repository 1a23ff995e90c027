"""The syslog driver: one message a line, to a socket of this host or to a server elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyd_contracts.log_details import attributes, tag
from pyd_contracts.log_driver import SinkDriver, one_by_one
from pyd_contracts.log_sinks import PATIENCE, Stream, connect
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


class SyslogDriver(SinkDriver[_Open]):
    """A connection a container; *patience* seconds is how long a server may take."""

    def __init__(self, patience: float = PATIENCE) -> None:
        super().__init__()
        self._patience = patience

    @hookimpl
    def log_validate(self, options: Mapping[str, str]) -> None:
        """See the contract."""
        read(options)

    def _opened(self, source: LogSource) -> _Open:
        options = read(source.options)
        kind = "tcp" if options.kind == "tcp+tls" else options.kind
        stream = Stream(lambda: connect(kind, options.where, self._patience, options.tls), options.what, self._patience)
        name = "/".join((tag(source), *(f"{key}={value}" for key, value in sorted(attributes(source).items()))))
        made = _Open(options, formatter(options.format, options.facility, name), stream)
        stream.open()
        return made

    def _send(self, entry: _Open, records: Sequence[LogRecord]) -> int:
        options, stream = entry.options, entry.stream
        if options.kind not in ("udp", "unixgram"):
            messages = [message for record in records for message in _messages(entry, record)]
            if options.kind == "tcp+tls" and options.format.startswith("rfc5424"):
                messages = [framed(message) for message in messages]
            stream.send(b"".join(messages))
            return len(records)

        def send(record: LogRecord) -> None:
            connection = stream.open()
            connection.settimeout(self._patience)
            for message in _messages(entry, record):
                try:
                    connection.send(message)
                except OSError as error:
                    if error.errno != _TOO_LONG:
                        raise
                    connection.send(message[:_LONGEST])

        return one_by_one(records, send, options.what, self._patience, stream.close)

    def _let_go(self, entry: _Open) -> None:
        entry.stream.close()


def _messages(entry: _Open, record: LogRecord) -> list[bytes]:
    severity = _SEVERITIES.get(record.stream, 6)
    return [entry.format(severity, record.time_ns, line.replace(b"\0", b" ")) for line in record.lines]
