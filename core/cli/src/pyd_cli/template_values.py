"""How Go prints, compares and measures values, for values that came from JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


class Missing:
    """What a map lookup without an entry yields: false, and printed `<no value>`."""

    def __bool__(self) -> bool:
        return False


class Nil(Missing):
    """A pointer that points nowhere: as false, but printed `<nil>`."""


MISSING = Missing()
NIL = Nil()


def absent(value: Any) -> bool:
    """Whether there is no value: JSON's null, a field left out, a nil pointer."""
    return value is None or isinstance(value, Missing)


def show(value: Any, nested: bool = False) -> str:
    """`value` as %v prints it."""
    if value is None:
        return "<nil>" if nested else "<no value>"
    if isinstance(value, Missing):
        return "<nil>" if value is NIL else "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return show_float(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{show(plain(item), True)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(item, True) for item in value) + "]"
    return str(value)


def show_float(number: float) -> str:
    """A float as %v: the shortest digits, an exponent below 1e-4 and from 1e21."""
    text = repr(number)
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text.removesuffix(".0")
    if -4 <= int(exponent) < 21:
        return f"{number:.0f}" if number == int(number) else f"{number:f}"
    return f"{mantissa}e{'-' if exponent[0] == '-' else '+'}{exponent.lstrip('+-').rjust(2, '0')}"


def plain(value: Any) -> Any:
    """A field that is computed on demand, computed."""
    return value() if callable(value) else value


def as_json(value: Any) -> str:
    """`value` as Go's json.Marshal writes it (no blanks)."""
    return json.dumps(resolved(value), ensure_ascii=False, separators=(",", ":"))


def html_escaped(text: str) -> str:
    """JSON with <, > and & written as \\u003c …, as Go does where nobody asked it not to."""
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match.group()):04x}", text)


def resolved(value: Any) -> Any:
    """`value` with computed fields computed and MISSING as null, ready for json."""
    if isinstance(value, Missing):
        return None
    if isinstance(value, Mapping):
        return {key: resolved(plain(item)) for key, item in value.items() if not takes_arguments(item)}
    if isinstance(value, (list, tuple)):
        return [resolved(item) for item in value]
    return value


class Method:
    """A field of a row that takes arguments, as `.Label "name"`."""

    __slots__ = ("call",)

    def __init__(self, call: Any) -> None:
        self.call = call


def takes_arguments(value: Any) -> bool:
    return isinstance(value, Method)


def truth(value: Any) -> bool:
    """Go's truth: empty, zero, nil and missing are false."""
    return bool(value)
