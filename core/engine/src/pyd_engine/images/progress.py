"""Progress records as dockerd streams them (moby pkg/streamformatter, pkg/jsonmessage): clients parse and draw these."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Progress", "Reporter", "human_size", "short_id"]

Progress = Callable[[dict[str, object]], None]
"""Receives one record, ready for JSON. Called on the event loop; must not block."""

_INTERVAL = 0.1


def short_id(digest: str) -> str:
    """The twelve digits people see."""
    return digest.removeprefix("sha256:")[:12]


def human_size(size: float) -> str:
    """Go units.HumanSize: four significant digits, powers of 1000.

    >>> human_size(2220094)
    '2.22MB'
    """
    unit = 0
    names = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
    while size >= 1000 and unit < len(names) - 1:
        size /= 1000
        unit += 1
    return f"{size:.4g}{names[unit]}"


def bar(current: int, total: int) -> str:
    """The pre-drawn bar that older clients print."""
    if current <= 0 and total <= 0:
        return ""
    if total <= 0 or current > total:
        numbers = f"{human_size(current):>8}"
        if total <= 0:
            return numbers
    else:
        numbers = f"{human_size(current):>8}/{human_size(total)}"
    half = min(50, int(current / total * 100) // 2)
    return f"[{'=' * half}>{' ' * (50 - half)}] {numbers}"


class Reporter:
    """Writes records for one pull or push; at most ten updates a second for each layer, first and last always."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._told: dict[tuple[str, str], float] = {}

    def message(self, status: str, subject: str = "") -> None:
        """A line without details: ``Pulling from library/x``."""
        if self._progress:
            self._progress({"status": status, "id": subject} if subject else {"status": status})

    def step(self, subject: str, status: str) -> None:
        """A layer's new state."""
        if self._progress:
            self._progress({"status": status, "progressDetail": {}, "id": subject})

    def result(self, aux: dict[str, object]) -> None:
        """What came of it, for programs."""
        if self._progress:
            self._progress({"progressDetail": {}, "aux": aux})

    def bytes(self, subject: str, status: str, current: int, total: int) -> None:
        """A layer's progress in bytes."""
        if not self._progress:
            return
        now = time.monotonic()
        last = self._told.get((subject, status))
        if last is not None and now - last < _INTERVAL and current < total:
            return
        self._told[subject, status] = now
        detail = {"current": current, "total": total}
        self._progress({"status": status, "progressDetail": detail, "progress": bar(current, total), "id": subject})
