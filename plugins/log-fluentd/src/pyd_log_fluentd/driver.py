"""The fluentd driver: batches in the forward protocol (version 1), confirmed by the server where that is asked for."""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyd_contracts.errors import Unavailable
from pyd_contracts.log_details import attributes, tag
from pyd_contracts.log_driver import SinkDriver
from pyd_contracts.log_sinks import PATIENCE, Stream, connect
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import LogRecord, LogSource
from pyd_log_fluentd.msgpack import array, event_time, integer, mapping, read_map, text
from pyd_log_fluentd.options import Options, read

__all__ = ["FluentdDriver"]

_STREAMS = {1: b"stdout", 2: b"stderr"}


@dataclass(slots=True)
class _Open:
    """One container: its tag and the fields that all its events have, written once."""

    options: Options
    tag: bytes
    fields: bytes
    count: int
    stream: Stream


class FluentdDriver(SinkDriver[_Open]):
    """A connection a container; *patience* seconds is how long a server may take, *tls* whom ``tls://`` trusts."""

    def __init__(self, patience: float = PATIENCE, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._patience = patience
        self._tls = tls

    @hookimpl
    def log_validate(self, options: Mapping[str, str]) -> None:
        """See the contract."""
        read(options)

    def _opened(self, source: LogSource) -> _Open:
        options = read(source.options)
        fields = {"container_id": source.container, "container_name": f"/{source.name}", **attributes(source)}
        written = b"".join(_string(key) + _string(value) for key, value in fields.items())
        tls = (self._tls or ssl.create_default_context()) if options.kind == "tls" else None
        kind = "unix" if options.kind == "unix" else "tcp"
        stream = Stream(lambda: connect(kind, options.where, self._patience, tls), options.what, self._patience)
        stream.open()
        return _Open(options, _string(tag(source)), written, len(fields), stream)

    def _send(self, entry: _Open, records: Sequence[LogRecord]) -> int:
        events = [event for record in records for event in _events(entry, record)]
        if not events:
            return len(records)
        chunk = base64.b64encode(os.urandom(16)) if entry.options.acknowledged else b""
        options = text(b"size") + integer(len(events)) + (text(b"chunk") + text(chunk) if chunk else b"")
        head = array(3) + entry.tag + array(len(events))
        connection = entry.stream.send(head + b"".join(events) + mapping(2 if chunk else 1) + options)
        if chunk:
            answer, data = None, b""
            while answer is None:
                data += entry.stream.receive(connection)
                try:
                    answer = read_map(data)
                except ValueError as error:
                    entry.stream.close()
                    raise Unavailable(f"the answer of {entry.options.what}: {error}") from error
            if answer.get("ack") != chunk.decode():
                entry.stream.close()
                raise Unavailable(f"{entry.options.what} confirms {answer}, which was not sent")
        return len(records)

    def _let_go(self, entry: _Open) -> None:
        entry.stream.close()


def _string(value: str) -> bytes:
    return text(value.encode("utf-8", "surrogateescape"))


def _events(found: _Open, record: LogRecord) -> list[bytes]:
    """One event a line: [time, {"container_id", "container_name", "source", "log", …}]."""
    seconds = record.time_ns // 1_000_000_000
    when = event_time(record.time_ns) if found.options.exact else integer(seconds)
    more, extra = 2, b""
    if record.piece is not None:
        piece = record.piece
        about = {
            "partial_message": "true", "partial_id": piece.id, "partial_ordinal": str(piece.ordinal),
            "partial_last": "true" if piece.last else "false",
        }  # fmt: skip
        more, extra = 6, b"".join(_string(key) + _string(value) for key, value in about.items())
    source = text(b"source") + text(_STREAMS.get(record.stream, b"stdout"))
    head = array(2) + when + mapping(found.count + more) + found.fields + extra + source + text(b"log")
    return [head + text(_utf8(line)) for line in record.lines]


def _utf8(line: bytes) -> bytes:
    """As it is, or with what is no UTF-8 replaced."""
    if line.isascii():
        return line
    return line.decode("utf-8", "replace").encode()
