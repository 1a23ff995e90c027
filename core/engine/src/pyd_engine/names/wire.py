"""DNS messages, as far as the resolver makes or reads them (RFC 1035 section 4, RFC 6891). Standard library only."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

__all__ = [
    "AAAA",
    "ANY",
    "NXDOMAIN",
    "PTR",
    "SERVFAIL",
    "A",
    "Malformed",
    "Query",
    "Record",
    "failure",
    "parse",
    "response",
    "truncated",
]  # fmt: skip

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP = 0, 1, 2, 3, 4
_IN, _ANY_CLASS = 1, 255
_HEADER = struct.Struct("!HHHHHH")
_RESPONSE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0200, 0x0100, 0x0080
_TTL = 600
"""Seconds, as dockerd says; containers that come and go are new addresses under the same names all the same."""
_PLAIN = 512
"""Bytes of a datagram without EDNS."""
_OURS = 1232
"""The datagram size we offer: what every path carries unfragmented (DNS flag day 2020)."""

Record = IPv4Address | IPv6Address | str
"""The data of an A, an AAAA or a PTR record."""


class Malformed(ValueError):
    """Not a query that can be read. *answer*: what says so to who asked; empty: it asked nothing."""

    def __init__(self, why: str, answer: bytes = b"") -> None:
        super().__init__(why)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Query:
    """One question. *name*: lower case, without the last dot. *size*: bytes of a datagram that the asker takes."""

    identity: int
    flags: int
    question: bytes
    name: str
    kind: int
    edns: bool
    size: int


def parse(message: bytes) -> Query:
    """A query with one question of class IN. Raises Malformed."""
    try:
        identity, flags, questions, answers, authorities, additional = _HEADER.unpack_from(message)
        if flags & _RESPONSE:
            raise Malformed("not a query")
        if flags & 0x7800:
            raise Malformed("another kind of query", _refusal(identity, flags, NOTIMP))
        if questions != 1 or answers or authorities:
            raise Malformed("not a query with one question", _refusal(identity, flags, FORMERR))
        labels, position = _name(message, _HEADER.size)
        kind, kind_of_network = struct.unpack_from("!HH", message, position)
        position += 4
        question = message[_HEADER.size : position]
        edns, size = False, _PLAIN
        for _ in range(additional):
            _, position = _name(message, position)
            found, offered, _, length = struct.unpack_from("!HHIH", message, position)
            position += 10 + length
            if found == OPT:
                edns, size = True, max(_PLAIN, offered)
    except (struct.error, IndexError) as error:
        answer = b""
        if len(message) >= _HEADER.size:
            identity, flags = struct.unpack_from("!HH", message)
            answer = _refusal(identity, flags, FORMERR)
        raise Malformed(str(error), answer) from error
    if kind_of_network not in (_IN, _ANY_CLASS):
        raise Malformed("not of the internet", _refusal(identity, flags, NOTIMP))
    name = b".".join(labels).decode("ascii", "replace").lower()
    return Query(identity, flags, question, name, kind, edns, size)


def _refusal(identity: int, flags: int, code: int) -> bytes:
    """An answer without the question, which could not be read or means nothing here."""
    return _HEADER.pack(
        identity, _RESPONSE | _RECURSION_AVAILABLE | flags & (0x7800 | _RECURSION_DESIRED) | code, 0, 0, 0, 0
    )


def _name(message: bytes, position: int) -> tuple[list[bytes], int]:
    labels: list[bytes] = []
    while length := message[position]:
        if length > 63:  # compressed: questions have nothing before them to point to
            raise IndexError("a compressed name in a question")
        labels.append(message[position + 1 : position + 1 + length])
        position += 1 + length
        if len(labels) > 127:
            raise IndexError("a name of too many labels")
    return labels, position + 1


def response(query: Query, records: Sequence[Record], code: int = NOERROR) -> bytes:
    """The answer to *query*: *records* for its name; cut with the flag that says so when it does not fit a datagram."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | query.flags & _RECURSION_DESIRED | code
    body = b"".join(_record(each) for each in records)
    extra = b"\0" + struct.pack("!HHIH", OPT, _OURS, 0, 0) if query.edns else b""
    head = _HEADER.pack(query.identity, flags, 1, len(records), 0, int(query.edns))
    return head + query.question + body + extra


def truncated(query: Query) -> bytes:
    """Ask again by TCP."""
    flags = _RESPONSE | _TRUNCATED | _RECURSION_AVAILABLE | query.flags & _RECURSION_DESIRED
    return _HEADER.pack(query.identity, flags, 1, 0, 0, 0) + query.question


def failure(query: Query) -> bytes:
    """The server could not find out."""
    return response(query, (), SERVFAIL)


def _record(data: Record) -> bytes:
    kind = PTR if isinstance(data, str) else A if data.version == 4 else AAAA
    content = _encoded(data) if isinstance(data, str) else data.packed
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, _IN, _TTL, len(content)) + content


def _encoded(name: str) -> bytes:
    labels = [label.encode("ascii", "replace")[:63] for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
