"""Sizes, durations and times as people read them, in the words of docker's command line (Go package go-units)."""

from __future__ import annotations

import time

DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
ZERO_TIME = "0001-01-01T00:00:00Z"


def _scaled(size: float, base: float, units: tuple[str, ...], digits: int) -> str:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return general(size, digits) + units[index]


def general(number: float, digits: int) -> str:
    """Go's %.<digits>g, which is C's but for the exponent's form."""
    return f"{number:.{digits}g}"


def human_size(size: float, digits: int = 4) -> str:
    """Bytes in decimal units: 1986000 → `1.986MB`."""
    return _scaled(float(size), 1000.0, DECIMAL, digits)


def binary_size(size: float) -> str:
    """Bytes in binary units: 2204000 → `2.102MiB`."""
    return _scaled(float(size), 1024.0, BINARY, 4)


def parse_size(text: str) -> int:
    """Bytes of `512m`, `1.5g`, `64KiB` (all binary, as go-units RAMInBytes). ValueError says what is wrong."""
    end = max((index for index, char in enumerate(text) if char in "0123456789. "), default=-1)
    if end < 0:
        raise ValueError(f"invalid size: '{text}'")
    number, suffix = text[: end + 1], text[end + 1 :].lower()
    if number.endswith(" "):
        number = number[:-1]
    try:
        size = float(number)
    except ValueError:
        raise ValueError(f"invalid size: '{text}'") from None
    if size < 0:
        raise ValueError(f"invalid size: '{text}'")
    if suffix in ("", "b"):
        return int(size)
    power = "kmgtp".find(suffix[0]) + 1
    if not power or suffix[1:] not in ("", "b", "ib"):
        raise ValueError(f"invalid suffix: '{suffix}'")
    return int(size * 1024**power)


def human_duration(seconds: float) -> str:
    """A span in one unit: `Less than a second`, `3 minutes`, `About an hour`, `5 weeks`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600 / 24 / 365)} years"


def since(moment: float) -> str:
    """How long ago a Unix time is: `3 minutes ago`; `N/A` for the zero time of old images."""
    if moment <= 0:
        return "N/A" if moment < -62_000_000_000 else f"{human_duration(time.time() - moment)} ago"
    return f"{human_duration(time.time() - moment)} ago"


def local_stamp(moment: float) -> str:
    """A Unix time as Go prints a time.Time: `2026-11-23 19:13:44 +0000 UTC`."""
    parts = time.localtime(moment)
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", parts)


def rfc3339(text: str) -> float:
    """The Unix time of an RFC 3339 text, with any number of decimals; 0.0 for an empty one. ValueError else."""
    if not text:
        return 0.0
    day, _, clock = text.partition("T")
    year, month, date = (int(part) for part in day.split("-"))
    offset = 0
    if clock.endswith(("Z", "z")):
        clock = clock[:-1]
    else:
        for sign, factor in (("+", 1), ("-", -1)):
            if sign in clock:
                clock, _, zone = clock.partition(sign)
                hours, _, minutes = zone.partition(":")
                offset = factor * (int(hours) * 3600 + int(minutes or 0) * 60)
                break
    hour, minute, second = clock.split(":")
    whole, _, fraction = second.partition(".")
    stamp = days(year, month, date) * 86400 + int(hour) * 3600 + int(minute) * 60 + int(whole) - offset
    return stamp + (float(f"0.{fraction}") if fraction else 0.0)


def days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date of the Gregorian calendar. (`calendar` would import `locale` and `datetime`.)"""
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        raise ValueError(f"no such day: {year}-{month}-{day}")
    year -= month <= 2
    era_day = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + era_day - 719468


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration: `1h30m`, `500ms`, `-1.5h`, `0`. ValueError says it is none."""
    units = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    rest, sign = text, 1
    if rest[:1] in ("+", "-"):
        sign, rest = (-1 if rest[0] == "-" else 1), rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    total = 0.0
    while rest:
        length = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:length], rest[length:]
        length = next((index for index, char in enumerate(rest) if char in "0123456789."), len(rest))
        unit, rest = rest[:length], rest[length:]
        if not number or number == "." or number.count(".") > 1:
            raise ValueError(f'time: invalid duration "{text}"')
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in units:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * units[unit]
    return sign * round(total)


def timestamp(text: str, now: float | None = None) -> str:
    """What `since`/`until` parameters take: seconds.nanoseconds, from a Unix time, a duration ago, or a local time.

    ValueError when it is none of them.
    """
    if text == "0":  # the beginning of time, not this moment
        return text
    try:
        ago = parse_duration(text)
    except ValueError:
        pass
    else:
        moment = time.time_ns() if now is None else int(now * 1e9)
        moment -= ago
        return f"{moment // 10**9}.{moment % 10**9:09d}"
    whole, _, fraction = text.partition(".")
    if whole.isdigit() and (not fraction or fraction.isdigit()):
        return text
    try:
        return _from_clock(text)
    except (ValueError, OverflowError):
        raise ValueError(f'failed to parse value as time or duration: "{text}"') from None


def _from_clock(text: str) -> str:
    """RFC 3339, its prefixes (a day, an hour, a minute) being local time when they name no zone."""
    day, separator, clock = text.partition("T")
    if day.count("-") != 2:
        raise ValueError(text)
    zoned = separator and (clock.endswith("Z") or "+" in clock or "-" in clock)
    if zoned:
        bare = clock.rstrip("Z").partition("+")[0].partition("-")[0]
        padded = bare + {0: ":00:00", 1: ":00", 2: ""}[bare.count(":")]
        moment = rfc3339(f"{day}T{padded}{clock[len(bare) :]}")
        fraction = padded.partition(".")[2].ljust(9, "0")[:9]
        return f"{int(moment // 1)}.{fraction}"
    bare, _, fraction = clock.partition(".")
    padded = "00:00:00" if not bare else bare + {0: ":00:00", 1: ":00", 2: ""}[bare.count(":")]
    moment = time.mktime(time.strptime(f"{day}T{padded}", "%Y-%m-%dT%H:%M:%S"))
    return f"{int(moment)}.{fraction.ljust(9, '0')[:9]}"
