"""The gelf driver: one message a line, in datagrams or, with a NUL behind each, over TCP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyd_contracts.log_driver import SinkDriver, one_by_one
from pyd_contracts.log_sinks import PATIENCE, Stream, connect
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


class GelfDriver(SinkDriver[_Open]):
    """A socket a container; *patience* seconds is how long a server may take."""

    def __init__(self, patience: float = PATIENCE) -> None:
        super().__init__()
        self._patience = patience

    @hookimpl
    def log_validate(self, options: Mapping[str, str]) -> None:
        """See the contract."""
        read(options)

    def _opened(self, source: LogSource) -> _Open:
        options = read(source.options)
        stream = Stream(lambda: connect(options.kind, options.where, self._patience), options.what, self._patience)
        stream.open()
        return _Open(options, head(source), stream)

    def _send(self, entry: _Open, records: Sequence[LogRecord]) -> int:
        """Empty lines are left out: servers refuse messages without text."""
        options, stream = entry.options, entry.stream
        if options.kind != "udp":
            stream.send(b"".join(each + b"\0" for record in records for each in _messages(entry, record)))
            return len(records)

        def send(record: LogRecord) -> None:
            connection = stream.open()
            connection.settimeout(self._patience)
            for each in _messages(entry, record):
                for datagram in chunks(packed(each, options.compression, options.level)):
                    connection.send(datagram)

        return one_by_one(records, send, options.what, self._patience, stream.close)

    def _let_go(self, entry: _Open) -> None:
        entry.stream.close()


def _messages(found: _Open, record: LogRecord) -> list[bytes]:
    made = (message(found.fields, record.stream, record.time_ns, line[:_LONGEST]) for line in record.lines if line)
    return list(made)
