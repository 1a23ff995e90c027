"""JSON text laid out for reading, without decoding it: order, escapes and numbers stay the daemon's, byte for byte."""

from __future__ import annotations

import re

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def indented(text: str, indent: str = "    ") -> str:
    """`text` as Go's json.Indent lays it out."""
    out: list[str] = []
    depth = 0
    opened = False
    for piece in _TOKEN.findall(text):
        if piece in "}]":
            depth -= 1
            if not opened:
                out.append("\n" + indent * depth)
            out.append(piece)
            opened = False
            continue
        if opened:
            out.append("\n" + indent * depth)
            opened = False
        if piece in "{[":
            out.append(piece)
            depth += 1
            opened = True
        elif piece == ",":
            out.append(",\n" + indent * depth)
        elif piece == ":":
            out.append(": ")
        else:
            out.append(piece)
    return "".join(out)
