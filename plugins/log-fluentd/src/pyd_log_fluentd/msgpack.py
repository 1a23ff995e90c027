"""As much of MessagePack as the forward protocol needs: writing what a driver sends, reading what a server answers."""

from __future__ import annotations

import struct

__all__ = ["array", "event_time", "integer", "mapping", "read_map", "text"]


def integer(value: int) -> bytes:
    """A number from 0 on."""
    if value < 0x80:
        return bytes((value,))
    if value < 1 << 16:
        return struct.pack(">BH", 0xCD, value)
    return struct.pack(">BI", 0xCE, value) if value < 1 << 32 else struct.pack(">BQ", 0xCF, value)


def text(value: bytes) -> bytes:
    """A string: bytes that are meant to be UTF-8."""
    length = len(value)
    if length < 32:
        return bytes((0xA0 | length,)) + value
    if length < 1 << 8:
        return struct.pack(">BB", 0xD9, length) + value
    return (struct.pack(">BH", 0xDA, length) if length < 1 << 16 else struct.pack(">BI", 0xDB, length)) + value


def array(length: int) -> bytes:
    """The head of an array; its items follow."""
    if length < 16:
        return bytes((0x90 | length,))
    return struct.pack(">BH", 0xDC, length) if length < 1 << 16 else struct.pack(">BI", 0xDD, length)


def mapping(length: int) -> bytes:
    """The head of a map; its keys and values follow in turn."""
    return bytes((0x80 | length,)) if length < 16 else struct.pack(">BH", 0xDE, length)


def event_time(time_ns: int) -> bytes:
    """Fluentd's time with nanoseconds: extension type 0, seconds and nanoseconds (forward protocol v1, EventTime)."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    return struct.pack(">BBII", 0xD7, 0x00, seconds & 0xFFFFFFFF, fraction)


def read_map(data: bytes) -> dict[str, str] | None:
    """A map of strings, as an answer is; None: there is more to come. Raises ValueError when it is something else."""
    if not data:
        return None
    if data[0] & 0xF0 != 0x80:
        raise ValueError(f"no map of MessagePack: {data[:16]!r}")
    found: list[str] = []
    position = 1
    while len(found) < 2 * (data[0] & 0x0F):
        if position >= len(data):
            return None
        kind = data[position]
        if kind & 0xE0 == 0xA0:
            length, position = kind & 0x1F, position + 1
        elif kind in (0xD9, 0xDA, 0xC4):
            size = 2 if kind == 0xDA else 1
            if position + 1 + size > len(data):
                return None
            length = int.from_bytes(data[position + 1 : position + 1 + size], "big")
            position += 1 + size
        else:
            raise ValueError(f"no string of MessagePack: {data[position : position + 16]!r}")
        if position + length > len(data):
            return None
        found.append(data[position : position + length].decode("utf-8", "replace"))
        position += length
    return dict(zip(found[::2], found[1::2], strict=True))
