"""GELF messages (version 1.1): JSON, compressed, and cut into chunks where a datagram cannot hold them."""

from __future__ import annotations

import gzip
import json
import os
import socket
import zlib
from collections.abc import Iterator

from pyd_contracts.log_details import attributes, tag
from pyd_contracts.values import LogSource

__all__ = ["CHUNK", "chunks", "head", "message", "packed"]

CHUNK = 1420
"""Bytes of a datagram, as Docker's library cuts them: fits an Ethernet frame."""
_MOST_CHUNKS = 128  # more are not put together again
_MAGIC = b"\x1e\x0f"
_LEVELS = {1: 6, 2: 3}  # syslog's information and error


def head(source: LogSource) -> dict[str, object]:
    """The fields that all messages of a container have."""
    fields: dict[str, object] = {
        "version": "1.1",
        "host": socket.gethostname(),
        "_container_id": source.container,
        "_container_name": source.name,
        "_image_id": source.image_id,
        "_image_name": source.image,
        "_command": " ".join(source.command),
        "_tag": tag(source),
        "_created": _rfc3339(source.created_ns // 1_000_000_000),
    }
    fields.update({f"_{key}": value for key, value in attributes(source).items()})
    return fields


def message(fields: dict[str, object], stream: int, time_ns: int, line: bytes) -> bytes:
    """One line. Bytes that are no UTF-8 are replaced."""
    document = {
        **fields,
        "short_message": line.decode("utf-8", "replace"),
        "timestamp": time_ns // 1000 / 1_000_000,
        "level": _LEVELS.get(stream, 6),
    }
    return json.dumps(document, ensure_ascii=True).encode()


def packed(data: bytes, compression: str, level: int) -> bytes:
    """*compression* is ``gzip``, ``zlib`` or ``none``."""
    if compression == "gzip":
        return gzip.compress(data, 6 if level < 0 else level, mtime=0)
    return zlib.compress(data, level) if compression == "zlib" else data


def chunks(data: bytes) -> Iterator[bytes]:
    """The datagrams of a message; beyond what can be put together again it is cut off."""
    if len(data) <= CHUNK:
        yield data
        return
    room = CHUNK - 12
    count = min(_MOST_CHUNKS, -(-len(data) // room))
    identity = os.urandom(8)
    for number in range(count):
        yield _MAGIC + identity + bytes((number, count)) + data[number * room : (number + 1) * room]


def _rfc3339(seconds: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
