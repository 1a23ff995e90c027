"""How a line becomes a syslog message: the four formats of dockerd, with the line's own time."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime

__all__ = ["Formatter", "formatter", "framed"]

Formatter = Callable[[int, int, bytes], bytes]
"""Severity (3 error, 6 information), nanoseconds since the epoch, line: the message, with a line end."""


def formatter(form: str, facility: int, tag: str) -> Formatter:
    """*form* as the option ``syslog-format`` has it; empty: as syslog(3) writes to a local socket."""
    host, pid = socket.gethostname(), os.getpid()
    name = tag.encode("utf-8", "surrogateescape")

    def local(severity: int, when: int, line: bytes) -> bytes:
        return b"<%d>%s %s[%d]: %s\n" % (facility << 3 | severity, _stamp(when), name, pid, line)

    def rfc3164(severity: int, when: int, line: bytes) -> bytes:
        priority = facility << 3 | severity
        return b"<%d>%s %s %s[%d]: %s\n" % (priority, _stamp(when), host.encode(), name, pid, line)

    def rfc5424(severity: int, when: int, line: bytes) -> bytes:
        head = b"<%d>1 %s %s %s %d %s - " % (
            facility << 3 | severity, _iso(when, form == "rfc5424micro"), host.encode(), name, pid, name,
        )  # fmt: skip
        return b"%s%s\n" % (head, line)

    return {"": local, "rfc3164": rfc3164}.get(form, rfc5424)


def framed(message: bytes) -> bytes:
    """With its length before it, as on TLS (RFC 5425, 4.3)."""
    return b"%d %s" % (len(message), message)


def _stamp(when: int) -> bytes:
    """``Jan  2 15:04:05``, local time (RFC 3164, 4.1.2)."""
    local = time.localtime(when // 1_000_000_000)
    return f"{time.strftime('%b', local)} {local.tm_mday:2d} {time.strftime('%H:%M:%S', local)}".encode()


def _iso(when: int, micro: bool) -> bytes:
    seconds, fraction = divmod(when, 1_000_000_000)
    stamp = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    return f"{stamp}.{fraction // 1000:06d}Z".encode() if micro else f"{stamp}Z".encode()
