"""What the values of list filters mean, for all lists: moby's api/types/filters (Args) and Go's path.Match.

Names of filters are checked where requests are read; here are values. Refusals have dockerd's words.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence

from pyd_contracts.errors import InvalidArgument

__all__ = ["boolean", "like", "refusal", "resembles"]

Filters = Mapping[str, Sequence[str]]


def refusal(name: str, values: Sequence[str]) -> InvalidArgument:
    """Of values that a filter does not have."""
    return InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")


def boolean(filters: Filters, name: str) -> bool | None:
    """``true`` or ``1``, ``false`` or ``0``; None when nothing is said. Raises InvalidArgument, also for both."""
    values = filters.get(name, ())
    if not values:
        return None
    true, false = not {"true", "1"}.isdisjoint(values), not {"false", "0"}.isdisjoint(values)
    if true is false:
        raise refusal(name, values)
    return true


def like(source: str, patterns: Sequence[str]) -> bool:
    """Whether one of *patterns*, regular expressions, is found in *source*; all is when there is none. One that is none finds
    nothing."""
    return not patterns or any(_found(pattern, source) for pattern in patterns)


def _found(pattern: str, source: str) -> bool:
    try:
        return re.search(pattern, source) is not None
    except re.error:
        return False


def resembles(pattern: str, *texts: str) -> bool:
    """Go's path.Match: ``*`` and ``?`` stop at a slash. Raises InvalidArgument for a pattern that is none."""
    if re.search(r"\[[^\]]*$|(?<!\\)(?:\\\\)*\\$", pattern):
        raise InvalidArgument(f"invalid filter 'reference={pattern}': syntax error in pattern")
    translated = fnmatch.translate(pattern).replace(".*", "[^/]*")
    return any(re.fullmatch(translated, text) for text in texts)
