"""Forms in which instructions have their words: flags, JSON, names and values, lists."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pyd_frontend_dockerfile.lines import split_words
from pyd_frontend_dockerfile.mistakes import Mistake
from pyd_frontend_dockerfile.quoting import quoted

__all__ = ["Command", "command_form", "flags_form", "json_form", "list_form", "pairs_form", "read_flags"]

_BLANKS = re.compile(r"[\t\v\f\r ]+")


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)


@dataclass(frozen=True, slots=True)
class Command:
    """A program: its arguments, or (*line*) one line for a shell."""

    words: tuple[str, ...]
    line: bool


def json_form(rest: str) -> tuple[str, ...] | None:
    """A JSON array of strings; None when it is no JSON array, which then means something else.

    What follows the array is nothing: ``CMD ["a"] # why``.
    """
    if not rest.startswith("["):
        return None
    try:
        found, _ = _JSON.raw_decode(rest)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    if not all(isinstance(item, str) for item in found):
        raise Mistake(f"when using JSON array syntax, arrays must be comprised of strings only: {_shown(rest)}")
    words = tuple(item.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for item in found)
    if any("\0" in word for word in words):
        raise Mistake(f"no word may hold a NUL: {_shown(rest)}")
    return words


def command_form(rest: str) -> Command:
    """``["program", "argument"]``, or anything else for the shell."""
    words = json_form(rest)
    if words is not None:
        return Command(words, line=False)
    return Command((rest,) if rest else (), line=True)


def list_form(rest: str) -> tuple[str, ...]:
    """A JSON array, or words that blanks part, whatever quotes say."""
    words = json_form(rest)
    return tuple(_BLANKS.split(rest) if rest else ()) if words is None else words


def pairs_form(keyword: str, rest: str, escape: str) -> tuple[tuple[str, str], ...]:
    """``a=b c="d e"``, or the old ``name value``."""
    words = split_words(rest, escape)
    if words and "=" not in words[0]:
        parts = _BLANKS.split(rest, maxsplit=1)
        if len(parts) < 2:
            raise Mistake(f"{keyword} must have two arguments")
        return ((parts[0], parts[1]),)
    for word in words:
        if "=" not in word:
            raise Mistake(f"Syntax error - can't find = in {quoted(word)}. Must be of the form: name=value")
    return tuple((name, value) for name, _, value in (word.partition("=") for word in words))


def flags_form(rest: str, escape: str) -> tuple[tuple[str, ...], str]:
    """``--name=value`` words at the beginning, and what follows them."""
    found: list[str] = []
    rest = rest.strip()
    while rest.startswith("--"):
        flag, at = [""], 0
        quote = ""
        while at < len(rest) and (quote or not rest[at].isspace()):
            each = rest[at]
            if each == escape and quote != "'":
                at += 1
                flag.append(rest[at : at + 1])
            elif each == quote:
                quote = ""
            elif not quote and each in "'\"":
                quote = each
            else:
                flag.append(each)
            at += 1
        rest = rest[at:].lstrip()
        word = "".join(flag)
        if word == "--":
            break
        found.append(word)
    return tuple(found), rest


def read_flags(flags: tuple[str, ...], allowed: tuple[str, ...], switches: tuple[str, ...] = ()) -> dict[str, str]:
    """Flags by name. *switches* need no value."""
    found: dict[str, str] = {}
    for flag in flags:
        name, equals, value = flag[2:].partition("=")
        if name not in allowed and name not in switches:
            raise Mistake(f"Unknown flag: {name}")
        if name in found:
            raise Mistake(f"Duplicate flag specified: {name}")
        if name in switches:
            value = value.lower() if equals else "true"
            if value not in ("true", "false"):
                raise Mistake(f"Expecting boolean value for flag {name}, not: {value}")
        elif not equals:
            raise Mistake(f"Missing a value on flag: {name}")
        found[name] = value
    return found


def _shown(rest: str) -> str:
    return rest if len(rest) <= 200 else rest[:200] + "…"
