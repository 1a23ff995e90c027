"""Syslog servers that read the four formats to the letter."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pyd_conformance.log import Message
from pyd_conformance.log_servers import DatagramServer, StreamServer

_STAMP = rb"(?P<when>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)"
_TAIL = rb"(?P<tag>\S+)\[(?P<pid>\d+)\]: (?P<line>.*)"
FORMS = {
    "": re.compile(rb"<(?P<pri>\d+)>" + _STAMP + rb" " + _TAIL, re.DOTALL),
    "rfc3164": re.compile(rb"<(?P<pri>\d+)>" + _STAMP + rb" (?P<host>\S+) " + _TAIL, re.DOTALL),
    "rfc5424": re.compile(
        rb"<(?P<pri>\d+)>1 (?P<when>\S+Z) (?P<host>\S+) (?P<tag>\S+) (?P<pid>\d+) (?P<id>\S+) - (?P<line>.*)", re.DOTALL
    ),
}
FORMS["rfc5424micro"] = FORMS["rfc5424"]


def read(form: str, data: bytes, facility: int = 3) -> tuple[str, Message]:
    """The container (its tag) and the message of one line."""
    match = FORMS[form].fullmatch(data)
    assert match is not None, data
    assert int(match["pri"]) >> 3 == facility, data
    stream = {6: 1, 3: 2}[int(match["pri"]) & 7]
    text = match["when"].decode()
    if form.startswith("rfc5424"):
        assert match["id"] == match["tag"]
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
        nanoseconds = int(when.timestamp()) * 10**9 + when.microsecond * 1000
    else:
        year = datetime.fromtimestamp(1_793_000_000).year  # noqa: DTZ006 - local time is what the format has
        nanoseconds = int(time.mktime(time.strptime(f"{year} {text}", "%Y %b %d %H:%M:%S"))) * 10**9
    return match["tag"].decode(), Message(match["line"], stream, nanoseconds)


class SyslogStream(StreamServer):
    """``tcp``, ``unix``, and with *options* of TLS ``tcp+tls``."""

    def __init__(self, form: str, path: Path | None = None, tls: object = None, **options: str) -> None:
        self._form = form
        self._framed = tls is not None and form.startswith("rfc5424")
        super().__init__(self._read, str(path or ""), tls)  # type: ignore[arg-type]
        scheme = f"unix://{path}" if path else f"tcp{'+tls' if tls else ''}://localhost:{self.port}"
        self.options: Mapping[str, str] = {
            "syslog-address": scheme.replace("localhost", "localhost" if tls else "127.0.0.1"), "syslog-format": form,
            "tag": "{{.FullID}}", **options,
        }  # fmt: skip

    def _read(self, data: bytes) -> tuple[list[tuple[str, Message]], int, bytes]:
        found, position = [], 0
        while True:
            if self._framed:
                head = re.compile(rb"([1-9]\d*) ").match(data, position)
                if head is None or len(data) < head.end() + int(head[1]):
                    return found, position, b""
                text = data[head.end() : head.end() + int(head[1])]
                position = head.end() + int(head[1])
            else:
                end = data.find(b"\n", position)
                if end < 0:
                    return found, position, b""
                text = data[position : end + 1]
                position = end + 1
            assert text.endswith(b"\n")
            found.append(read(self._form, text[:-1]))


class SyslogDatagrams(DatagramServer):
    """``udp`` and ``unixgram``."""

    def __init__(self, form: str, path: Path | None = None) -> None:
        self._form = form
        super().__init__(self._read, str(path or ""))
        address = f"unixgram://{path}" if path else f"udp://127.0.0.1:{self.port}"
        self.options: Mapping[str, str] = {"syslog-address": address, "syslog-format": form, "tag": "{{.FullID}}"}

    def _read(self, data: bytes, _fds: list[int]) -> list[tuple[str, Message]]:
        assert data.endswith(b"\n")
        return [read(self._form, data[:-1])]
