"""Columns of text, aligned as Go's text/tabwriter aligns them (minimal width 10, padding 3, blanks).

Cells end at a tab; what follows the last tab of a line belongs to no column. A column is as wide as the widest
cell of an unbroken block of lines that have it.

Names, labels and commands come from whoever made the container: control characters in them are shown escaped, so
that listing containers cannot drive the terminal (cursor movement, title, clipboard).
"""

from __future__ import annotations

from collections.abc import Iterable

MIN_WIDTH = 10
PADDING = 3


def escaped(text: str) -> str:
    """`text` with control characters (C0, DEL, C1) and bidirectional overrides written as `\\x1b`, `\\u202e`."""
    if text.isprintable():
        return text
    out: list[str] = []
    for char in text:
        code = ord(char)
        if char.isprintable() or not (
            code < 0x20 or 0x7F <= code < 0xA0 or 0x2028 <= code <= 0x202E or 0x2066 <= code <= 0x2069
        ):
            out.append(char)
        elif char in "\n\r\t":
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char])
        else:
            out.append(f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
    return "".join(out)


def aligned(lines: list[list[str]], min_width: int = MIN_WIDTH, padding: int = PADDING) -> list[str]:
    """The lines, each a list of cells whose last one is not part of a column, as text."""
    widths: list[list[int]] = [[0] * max(len(line) - 1, 0) for line in lines]
    deepest = max((len(row) for row in widths), default=0)
    for column in range(deepest):
        start = 0
        while start < len(lines):
            if len(widths[start]) <= column:
                start += 1
                continue
            end = start
            while end < len(lines) and len(widths[end]) > column:
                end += 1
            longest = max(len(line[column]) for line in lines[start:end])
            # as in Go, a column whose cells are all empty has no width at all… unless a minimum is asked for
            width = max(longest + padding, min_width)
            for row in widths[start:end]:
                row[column] = width
            start = end
    return [
        "".join(cell.ljust(width) for cell, width in zip(line, row, strict=False)) + (line[-1] if line else "")
        for line, row in zip(lines, widths, strict=True)
    ]


def table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table with its heads, each line ended by a line feed. Cells are escaped."""
    lines = [list(headers), *([escaped(cell) for cell in row] for row in rows)]
    return "".join(line + "\n" for line in aligned(lines))
