"""Signals as people write them: ``TERM``, ``SIGTERM``, ``15``, ``RTMIN+3``; numbers are those of signal(7)."""

from __future__ import annotations

import functools
import re

from pyd_contracts.errors import InvalidArgument

__all__ = ["parse_signal", "signal_name"]

_RTMIN, _RTMAX = 34, 64  # what the C library leaves to programs of 32..64
_HIGHEST = 65


@functools.cache
def _names() -> dict[str, int]:
    import signal

    names = {each.name[3:]: int(each) for each in signal.Signals}
    names |= {"CLD": names["CHLD"], "POLL": names["IO"], "STKFLT": 16, "IOT": names["ABRT"]}
    names |= {f"RTMIN+{offset}": _RTMIN + offset for offset in range(1, 16)}
    names |= {f"RTMAX-{offset}": _RTMAX - offset for offset in range(1, 16)}
    return names | {"RTMIN": _RTMIN, "RTMAX": _RTMAX}


def parse_signal(text: str) -> int:
    """The number of a signal, 1 to 64.

    Raises InvalidArgument. Only ASCII digits are a number: Python's int() knows more digits than Docker does.
    """
    if re.fullmatch(r"[0-9]{1,3}", text):
        number = int(text)
        if 0 < number < _HIGHEST:
            return number
        raise InvalidArgument(f"invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    if name not in _names():
        raise InvalidArgument(f"invalid signal: {text}")
    return _names()[name]


def signal_name(number: int) -> str:
    """The usual name with ``SIG``, or the number when there is none."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
