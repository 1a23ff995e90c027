"""Documents of any length as messages of a socket that keeps messages apart: a container may have thousands of aliases.

What one message may hold depends on the socket's buffer (unix(7)). Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["LAST", "PIECE", "pieces"]

PIECE = 32768
"""Bytes of a message, at most. The first one says whether others follow."""
LAST, _MORE = b".", b"+"


def pieces(document: bytes) -> Iterator[bytes]:
    """The messages that bring *document*.

    >>> [len(each) for each in pieces(b"x" * 40000)], list(pieces(b"{}"))
    ([32768, 7234], [b'.{}'])
    """
    room = PIECE - 1
    for first in range(0, max(1, len(document)), room):
        yield (LAST if first + room >= len(document) else _MORE) + document[first : first + room]
