"""Strings and lists as Go's ``%q`` shows them: an image's history has them so."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["quoted", "quoted_character", "quoted_list"]

_SHORT = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\",
}  # fmt: skip


def quoted(text: str) -> str:
    """One string, in double quotes."""
    return '"' + "".join(_escaped(each, '"') for each in text) + '"'


def quoted_character(code: int) -> str:
    """A number as a character in single quotes, which is what ``%q`` makes of numbers."""
    valid = 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
    return "'" + _escaped(chr(code) if valid else "\ufffd", "'") + "'"


def quoted_list(items: Sequence[str]) -> str:
    """Several strings, in brackets."""
    return "[" + " ".join(quoted(each) for each in items) + "]"


def _escaped(each: str, quote: str) -> str:
    if each in _SHORT:
        return _SHORT[each]
    if each == quote:
        return "\\" + each
    if each.isprintable():
        return each
    code = ord(each)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
