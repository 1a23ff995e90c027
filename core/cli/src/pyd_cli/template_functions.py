"""The functions a template may call: text/template's own, and those docker's command line adds.

Each takes values as Go would; ValueError carries the reason a call failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyd_cli.template_values import MISSING, absent, as_json, plain, show, truth


def text_of(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"wrong type for value; expected string; got {kind_of(value)}")
    return value


def kind_of(value: Any) -> str:
    """A value's type in Go's words."""
    names = {
        bool: "bool",
        str: "string",
        int: "int",
        float: "float64",
        list: "[]interface {}",
        dict: "map[string]interface {}",
    }
    return "nil" if absent(value) else names.get(type(value), "struct")


def number_of(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected integer; found {show(value)}")
    return value


def index(item: Any, *keys: Any) -> Any:
    for key in keys:
        if absent(item):
            raise ValueError("index of untyped nil")
        if isinstance(item, Mapping):
            item = plain(item.get(key, MISSING))
        elif isinstance(item, (str, Sequence)):
            at = number_of(key)
            if not 0 <= at < len(item):
                raise ValueError(f"index out of range: {at}")
            item = ord(item[at]) if isinstance(item, str) else item[at]
        else:
            raise ValueError(f"can't index item of type {kind_of(item)}")
    return item


def slice_(item: Any, *bounds: Any) -> Any:
    if not isinstance(item, (str, list)):
        raise ValueError(f"can't slice item of type {kind_of(item)}")
    if len(bounds) > 2:
        raise ValueError(f"too many slice indexes: {len(bounds)}")
    low, high = [*(number_of(bound) for bound in bounds), *([0, len(item)][len(bounds) :])]
    for at in (low, high):
        if not 0 <= at <= len(item):
            raise ValueError(f"index out of range: {at}")
    if low > high:
        raise ValueError(f"invalid slice index: {low} > {high}")
    return item[low:high]


def length(item: Any) -> int:
    if isinstance(item, (str, list, Mapping)):
        return len(item.encode()) if isinstance(item, str) else len(item)
    raise ValueError(f"len of {'nil pointer' if item is None else 'type ' + kind_of(item)}")


def same(left: Any, right: Any) -> bool:
    for value in (left, right):
        if isinstance(value, (list, Mapping)):
            raise ValueError(f"non-comparable type {show(value)}: {kind_of(value)}")
    left, right = (None if absent(value) else value for value in (left, right))
    if left is None or right is None:
        return left is right
    if kind_of(left) != kind_of(right):
        raise ValueError("incompatible types for comparison")
    return bool(left == right)


def eq(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    return any(same(first, other) for other in others)


def less(left: Any, right: Any) -> bool:
    if kind_of(left) != kind_of(right) or kind_of(left) not in ("int", "float64", "string"):
        raise ValueError("incompatible types for comparison")
    return bool(left < right)


def printf(pattern: Any, *values: Any) -> str:
    """Go's Sprintf for %v %s %q %d %x %f %e %g %t %c %%, with flags, width and precision."""
    queue = list(values)

    def one(match: re.Match[str]) -> str:
        flags, verb = match.group(1), match.group(2)
        if verb == "%":
            return "%"
        if not queue:
            return f"%!{verb}(MISSING)"
        value = queue.pop(0)
        if verb in "dxXobc":
            if isinstance(value, bool) or not isinstance(value, int):
                if verb in "xX" and isinstance(value, str):
                    return value.encode().hex()
                return f"%!{verb}({kind_of(value)}={show(value)})"
            return chr(value) if verb == "c" else format_(flags, "d" if verb == "b" else verb, value)
        if verb in "feg":
            if isinstance(value, bool) or not isinstance(value, (int, float)) or isinstance(value, int):
                return f"%!{verb}({kind_of(value)}={show(value)})"
            return format_(flags, verb, value)
        if verb == "t" and not isinstance(value, bool):
            return f"%!t({kind_of(value)}={show(value)})"
        if verb == "s" and isinstance(value, (int, float)):
            return f"%!s({kind_of(value)}={show(value)})"
        shown = as_json(value) if verb == "q" else show(value, True)
        return format_(flags, "s", shown)

    text = re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)([a-zA-Z%])", one, text_of(pattern))
    if queue:
        text += "%!(EXTRA " + ", ".join(f"{kind_of(value)}={show(value)}" for value in queue) + ")"
    return text


def format_(flags: str, verb: str, value: Any) -> str:
    """One value by C's rules, which the flags, widths and precisions share with Go. A width is bounded."""
    width = re.search(r"[1-9]\d*", flags.partition(".")[0])
    if (width and len(width.group()) > 4) or len(flags.partition(".")[2]) > 4:
        raise ValueError(f"width or precision out of range in %{flags}{verb}")
    text: str = f"%{flags}{verb}" % value
    return text


def print_(*values: Any) -> str:
    """Go's Sprint: blanks between operands when neither is a string."""
    out = ""
    for at, value in enumerate(values):
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            out += " "
        out += show(value, True)
    return out


def title(text: Any) -> str:
    return re.sub(r"(^|\s)(\w)", lambda match: match.group(1) + match.group(2).upper(), text_of(text))


def pad(text: Any, before: Any, after: Any) -> str:
    return " " * min(number_of(before), 4096) + text_of(text) + " " * min(number_of(after), 4096) if text else ""


def truncate(text: Any, width: Any) -> str:
    return text_of(text)[: number_of(width)]


def join(items: Any, separator: Any) -> str:
    if not isinstance(items, list):
        raise ValueError(f"wrong type for value; expected []string; got {kind_of(items)}")
    return text_of(separator).join(show(item) for item in items)


def split(text: Any, separator: Any) -> list[str]:
    text, separator = text_of(text), text_of(separator)
    return text.split(separator) if separator else list(text)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": eq,
    "ge": lambda left, right: not less(left, right),
    "gt": lambda left, right: not (less(left, right) or same(left, right)),
    "index": index,
    "join": join,
    "json": as_json,
    "le": lambda left, right: less(left, right) or same(left, right),
    "len": length,
    "lower": lambda text: text_of(text).lower(),
    "lt": less,
    "ne": lambda left, right: not same(left, right),
    "not": lambda value: not truth(value),
    "pad": pad,
    "print": print_,
    "printf": printf,
    "println": lambda *values: " ".join(show(value, True) for value in values) + "\n",
    "slice": slice_,
    "split": split,
    "title": title,
    "truncate": truncate,
    "upper": lambda text: text_of(text).upper(),
}
NAMES = frozenset(FUNCTIONS) | {"and", "or", "call"}
