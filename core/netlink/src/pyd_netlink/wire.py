"""The bytes of rtnetlink messages: heads and attributes (rtnetlink(7), linux/netlink.h). Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["attr", "attributes", "link_head", "number", "short", "text"]

_ATTR = struct.Struct("HH")


def link_head(index: int = 0, flags: int = 0, change: int = 0, family: int = 0) -> bytes:
    """struct ifinfomsg."""
    return struct.pack("BxHiII", family, 0, index, flags, change)


def attr(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes.

    >>> attr(3, b"lo")
    b'\\x06\\x00\\x03\\x00lo\\x00\\x00'
    """
    return _ATTR.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that is a string with a zero byte at its end."""
    return attr(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute of 32 bits without a sign."""
    return attr(kind, struct.pack("I", value))


def short(kind: int, value: int) -> bytes:
    """An attribute of 16 bits without a sign."""
    return attr(kind, struct.pack("H", value))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each attribute in *data*; flags of the kind are taken off.

    >>> list(attributes(attr(3, b"lo") + number(4, 1500)))
    [(3, b'lo'), (4, b'\\xdc\\x05\\x00\\x00')]
    """
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTR.unpack_from(data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3
