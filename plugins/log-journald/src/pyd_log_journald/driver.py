"""The journald driver: each line is an entry of the journal, with Docker's field names.

journalctl CONTAINER_NAME=web
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyd_contracts.log_details import DETAILS, attributes, check_details, check_known, tag
from pyd_contracts.log_driver import SinkDriver, one_by_one
from pyd_contracts.log_sinks import PATIENCE
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import LogRecord, LogSource
from pyd_log_journald.kernel import fields, send

__all__ = ["JournaldDriver"]

_PRIORITIES = {1: b"PRIORITY=6\n", 2: b"PRIORITY=3\n"}  # syslog(3): LOG_INFO, LOG_ERR


@dataclass(slots=True)
class _Open:
    """One container: its fields, written once, and a socket."""

    head: bytes
    socket: socket.socket


class JournaldDriver(SinkDriver[_Open]):
    """Datagrams to the socket of a journal at *path*; a journal that is started anew is found again by itself."""

    def __init__(self, path: str = "/run/systemd/journal/socket", patience: float = PATIENCE) -> None:
        super().__init__()
        self._path = path
        self._patience = patience

    @hookimpl
    def log_validate(self, options: Mapping[str, str]) -> None:
        """See the contract; the texts are dockerd's."""
        check_known("journald", options, DETAILS)
        check_details(options)

    def _opened(self, source: LogSource) -> _Open:
        name = tag(source)
        values = {
            "CONTAINER_ID": source.container[:12],
            "CONTAINER_ID_FULL": source.container,
            "CONTAINER_NAME": source.name,
            "CONTAINER_TAG": name,
            "IMAGE_NAME": source.image,
            "SYSLOG_IDENTIFIER": name,
            **{key: value for name, value in attributes(source).items() if (key := _field(name))},
        }
        head = fields({key: value.encode("utf-8", "surrogateescape") for key, value in values.items()})
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.settimeout(self._patience)
        return _Open(head, made)

    def _send(self, entry: _Open, records: Sequence[LogRecord]) -> int:
        def send_lines(record: LogRecord) -> None:
            head = entry.head + _PRIORITIES.get(record.stream, b"PRIORITY=6\n") + _about(record)
            for line in record.lines:
                send(entry.socket, self._path, head + fields({"MESSAGE": line}))

        what = f"the journal at {self._path}"
        return one_by_one(records, send_lines, what, self._patience, lambda: None)  # the next datagram finds its socket

    def _let_go(self, entry: _Open) -> None:
        entry.socket.close()


def _about(record: LogRecord) -> bytes:
    """Fields of a record: when it was written, and which part of a line it is."""
    seconds, fraction = divmod(record.time_ns, 1_000_000_000)
    stamp = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
    text = f"SYSLOG_TIMESTAMP={stamp}\n"
    if record.piece is not None:
        piece = record.piece
        text += f"CONTAINER_PARTIAL_ID={piece.id}\nCONTAINER_PARTIAL_ORDINAL={piece.ordinal}\n"
        text += f"CONTAINER_PARTIAL_LAST={'true' if piece.last else 'false'}\n"
        if not piece.last:
            text += "CONTAINER_PARTIAL_MESSAGE=true\n"
    return text.encode()


def _field(name: str) -> str:
    """A name that the journal takes: upper case, digits, ``_``, not at the beginning (moby, sanitizeKeyMod)."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper()).lstrip("_0123456789")[:64]
