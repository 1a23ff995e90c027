"""``HEALTHCHECK``: what is asked, how often, and how its durations are read and shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pyd_frontend_dockerfile.forms import command_form, read_flags
from pyd_frontend_dockerfile.mistakes import Mistake
from pyd_frontend_dockerfile.quoting import quoted, quoted_character, quoted_list

__all__ = ["read_health", "shown_health"]

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_NUMBER = re.compile(r"([0-9]{0,12})(?:\.([0-9]{0,18}))?(ns|us|µs|μs|ms|s|m|h)")
_DURATIONS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


def read_health(flags: tuple[str, ...], rest: str) -> dict[str, Any]:
    """The ``Healthcheck`` object of a configuration."""
    if not rest:
        raise Mistake("HEALTHCHECK requires at least one argument")
    kind, _, words = re.sub(r"\s", " ", rest, count=1).partition(" ")
    words = words.strip()
    if kind.upper() == "NONE":
        read_flags(flags, ())
        if words:
            raise Mistake("HEALTHCHECK NONE takes no arguments")
        return {"Test": ["NONE"]}
    given = read_flags(flags, (*_DURATIONS, "retries"))
    if kind.upper() != "CMD":
        raise Mistake(f"Unknown type {quoted(kind.upper())} in HEALTHCHECK (try CMD)")
    command = command_form(words)
    if not command.words:
        raise Mistake("Missing command after HEALTHCHECK CMD")
    found: dict[str, Any] = {"Test": ["CMD-SHELL" if command.line else "CMD", *command.words]}
    for flag, key in _DURATIONS.items():
        if given.get(flag):
            found[key] = _duration(flag, given[flag])
    if given.get("retries"):
        found["Retries"] = _retries(given["retries"])
    return found


def shown_health(health: Mapping[str, Any]) -> str:
    """As an image's history has it: Go's ``%q`` of the object."""
    durations = " ".join(quoted(_shown_duration(health.get(key, 0))) for key in ("Interval", "Timeout", "StartPeriod"))
    return "&{" + f"{quoted_list(health['Test'])} {durations} {quoted_character(health.get('Retries', 0))}" + "}"


def _retries(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", text, re.ASCII) or not -(2**31) <= int(text) < 2**31:
        raise Mistake(f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax")
    if int(text) < 1:
        raise Mistake(f"--retries must be at least 1 (not {int(text)})")
    return int(text)


def _duration(flag: str, text: str) -> int:
    """Go's time.ParseDuration, in nanoseconds; at least 1 ms."""
    at, total = 0, 0
    bare = text[1:] if text[:1] in ("+", "-") else text
    while at < len(bare) and (match := _NUMBER.match(bare, at)) and (match[1] or match[2]):
        fraction = match[2] or ""
        total += int(match[1] or "0") * _UNITS[match[3]] + int(fraction or "0") * _UNITS[match[3]] // 10 ** len(
            fraction
        )
        at = match.end()
    if at < len(bare) or not bare or total >= 2**63:
        reason = "missing unit in" if re.fullmatch(r"[0-9.]+", bare) and re.search("[0-9]", bare) else "invalid"
        raise Mistake(f"time: {reason} duration {quoted(text)}")
    if total < 10**6 or text.startswith("-"):
        raise Mistake(f"Interval {quoted(flag)} cannot be less than 1ms")
    return total


def _shown_duration(nanoseconds: int) -> str:
    """``1h0m0s``, ``1.5s``, ``20ms``: Go's Duration.String of whole milliseconds and more."""
    if not nanoseconds:
        return "0s"
    if nanoseconds < 10**9:
        return _decimal(nanoseconds, 10**6) + "ms"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    shown = _decimal(rest, 10**9) + "s"
    if hours or minutes:
        shown = f"{minutes}m{shown}"
    return f"{hours}h{shown}" if hours else shown


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    fraction = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)
