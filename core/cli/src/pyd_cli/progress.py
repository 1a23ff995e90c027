"""The progress of pull, push, load and import: the daemon's JSON messages, drawn.

On a terminal each layer has a line that is redrawn in place; elsewhere only the messages without a bar are
printed, one a line, so that logs stay readable.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import IO, Any

from pyd_cli.errors import CliError
from pyd_cli.units import human_size

BAR = 50


def bar(detail: dict[str, Any], width: int, now: float) -> str:
    """`[==>    ]  1.2MB/4.5MB` as docker draws it, for a terminal of `width` columns."""
    current, total = detail.get("current") or 0, detail.get("total") or 0
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        units = detail.get("units")
        return f"{current} {units}" if units else f"{human_size(current):>8}"
    if detail.get("hidecounts"):
        numbers = ""
    elif detail.get("units"):
        numbers = f"{current}/{total} {detail['units']}"
    else:
        numbers = f"{human_size(current):>8}/{human_size(total)}"
        if current > total:
            numbers = f"{human_size(current):>8}"
    drawn = ""
    if width > 110:
        percent = min(current * 100 // total, 100) // 2
        drawn = "[" + "=" * percent + ">" + " " * (BAR - percent) + "] "
    left = ""
    start = detail.get("start")
    if current > 0 and start and percent_of(current, total) < 50:
        spent = now - start
        left = f" {int(spent / current * (total - current))}s"
    return drawn + numbers + (left if width > 50 else "")


def percent_of(current: int, total: int) -> int:
    return min(current * 100 // total // 2, 50)


def show(messages: Iterable[dict[str, Any]], out: IO[str], terminal: bool | None = None) -> list[dict[str, Any]]:
    """Draw the messages on `out`. Returns the `aux` objects. An error message becomes CliError."""
    if terminal is None:
        terminal = out.isatty()
    width = 0
    if terminal:
        try:
            width = os.get_terminal_size(out.fileno()).columns
        except OSError:
            width = 80
    lines: dict[str, int] = {}
    extras: list[dict[str, Any]] = []
    for message in messages:
        fail_on_error(message)
        if message.get("aux") is not None:
            extras.append(message["aux"])
            continue
        detail = message.get("progressDetail") or {}
        identity = message.get("id") or ""
        drawn = bar(detail, width, time.time()) if detail else ""
        if not terminal:
            if not drawn:
                out.write(plain(message, ""))
            continue
        if not identity or "progressDetail" not in message:
            lines.clear()
            out.write(plain(message, drawn))
            continue
        if identity in lines:
            up = len(lines) - lines[identity]
            move, back = f"\x1b[{up}A", f"\x1b[{up}B"
            out.write(f"{move}{clear()}{plain(message, drawn, end='')}\r{back}")
        else:
            lines[identity] = len(lines)
            out.write(f"{clear()}{plain(message, drawn)}")
        out.flush()
    out.flush()
    return extras


def drain(messages: Iterable[dict[str, Any]]) -> None:
    """Wait for the end of the messages, in silence. An error message becomes CliError."""
    for message in messages:
        fail_on_error(message)


def fail_on_error(message: dict[str, Any]) -> None:
    if message.get("errorDetail") or message.get("error"):
        detail = message.get("errorDetail") or {}
        code = detail.get("code")  # a build's failed command: its exit status becomes ours
        text = detail.get("message") or message.get("error") or "unknown error"
        raise CliError(text, code if isinstance(code, int) and 0 < code < 256 else 1)


def clear() -> str:
    """To the line's start, and the line erased."""
    return "\x1b[2K\r"


def plain(message: dict[str, Any], drawn: str, end: str = "\n") -> str:
    """One message as text."""
    prefix = f"{message['id']}: " if message.get("id") else ""
    if message.get("from"):
        prefix += f"(from {message['from']}) "
    if drawn:
        return f"{prefix}{message.get('status', '')} {drawn}{end}"
    if "stream" in message:
        return f"{prefix}{message['stream']}"
    return f"{prefix}{message.get('status', '')}{end}"
