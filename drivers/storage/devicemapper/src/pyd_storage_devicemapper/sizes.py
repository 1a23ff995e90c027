"""Sizes as people write them."""

from __future__ import annotations

import re

from pyd_contracts.errors import InvalidArgument

__all__ = ["SECTOR", "said", "size_of"]

SECTOR = 512
_SIZE = re.compile(r"([0-9]{1,18})\s*([kmgtp]?)(?:i?b)?", re.ASCII | re.IGNORECASE)


def size_of(text: str, what: str) -> int:
    """Bytes of ``10G``, ``512m``, ``1048576``; units are powers of 1024. *what* is for the message of InvalidArgument.

    >>> size_of("10G", "base-size"), size_of("64 MiB", "size")
    (10737418240, 67108864)
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise InvalidArgument(f"{what}: {text!r} is no size; write a number of bytes, or one with k, M, G or T: 10G")
    return int(found[1]) << (10 * (" kmgtp".index(found[2].lower() or " ")))


def said(size: int) -> str:
    """A size for messages.

    >>> said(10 << 30), said(1536 << 20), said(100)
    ('10.0 GiB', '1.5 GiB', '100 bytes')
    """
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.1f} {unit}"
    return f"{size} bytes"
