"""Patterns of paths: Go's path.Match for sources, and those of ``.dockerignore``.

Standard library only: the worker runs it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

__all__ = ["PatternError", "excluded", "has_wildcards", "matcher"]


class PatternError(ValueError):
    """It is no pattern."""

    def __init__(self) -> None:
        super().__init__("syntax error in pattern")


def has_wildcards(path: str) -> bool:
    """Whether a source names more than itself.

    >>> has_wildcards("a*"), has_wildcards("a\\\\*")
    (True, False)
    """
    return re.search(r"[*?\[]", re.sub(r"\\.", "", path, flags=re.DOTALL)) is not None


def matcher(pattern: str) -> re.Pattern[str]:
    """What matches the whole of a name as Go's path.Match does. PatternError for what is no pattern.

    >>> bool(matcher("a[^b-d]?").fullmatch("axy")), bool(matcher("*").fullmatch("a/b"))
    (True, False)
    """
    out, at = "", 0
    while at < len(pattern):
        found = pattern[at]
        at += 1
        if found == "*":
            out += "[^/]*"
        elif found == "?":
            out += "[^/]"
        elif found == "[":
            piece, at = _class(pattern, at)
            out += piece
        elif found == "\\":
            if at == len(pattern):
                raise PatternError
            out += re.escape(pattern[at])
            at += 1
        else:
            out += re.escape(found)
    return re.compile(out, re.DOTALL)


def _class(pattern: str, at: int) -> tuple[str, int]:
    """``[^a-z]`` from behind its bracket; where it ends."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges = ""
    while pattern[at : at + 1] != "]" or not ranges:
        low, at = _character(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _character(pattern, at + 1)
        # A range from high to low matches nothing in Go, and is an error in Python.
        ranges += f"{re.escape(low)}-{re.escape(high)}" if low <= high else "\\b\\B"
        if "\\b\\B" in ranges:
            raise PatternError
    return f"[{'^' if negated else ''}{ranges}]", at + 1


def _character(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] in ("", "-", "]"):
        raise PatternError
    if pattern[at] == "\\":
        at += 1
        if at == len(pattern):
            raise PatternError
    return pattern[at], at + 1


# --- .dockerignore -------------------------------------------------------------------------------------------------


def excluded(path: str, ignore: str) -> bool:
    """Whether the lines of a ``.dockerignore`` leave *path* out: the last one that matches decides.

    >>> excluded("a/b", "a\\n!a/b"), excluded("a/b", "# a\\n**/b"), excluded("Dockerfile", "*")
    (False, True, True)
    """
    found = False
    for line in _lines(ignore):
        keeps = line.startswith("!")
        if _matches(line.removeprefix("!"), path):
            found = not keeps
    return found


def _lines(ignore: str) -> Iterable[str]:
    for raw in ignore.removeprefix("\ufeff").splitlines():
        if raw.startswith("#"):
            continue
        line = raw.strip()
        keeps = line.startswith("!")
        line = line.removeprefix("!").strip()
        if line:
            line = posixpath.normpath(line)
            line = line.lstrip("/") if len(line) > 1 else line
            yield f"!{line}" if keeps else line


def _matches(pattern: str, path: str) -> bool:
    """The path or one of the directories that it is in."""
    try:
        expression = _expression(pattern)
    except PatternError:
        return False
    parts = path.split("/")
    return any(expression.fullmatch("/".join(parts[:depth])) for depth in range(1, len(parts) + 1))


def _expression(pattern: str) -> re.Pattern[str]:
    """As `matcher`, and ``**`` for any number of directories."""
    out = ""
    for piece in re.split(r"(\*\*/?)", pattern):
        if piece == "**/":
            out += "(?:.*/)?"
        elif piece == "**":
            out += ".*"
        else:
            out += matcher(piece).pattern
    return re.compile(out, re.DOTALL)
