"""A device-mapper that a process dies at: before its n-th change, or after it and before the answer."""

from __future__ import annotations

from typing import Any

from pyd_conformance.faults import Crash
from pyd_storage_devicemapper.mapper import Mapper

__all__ = ["DyingMapper"]

_CHANGES = frozenset({"create", "change", "leave", "stay", "message", "node", "forget", "tidy", "discard"})


class DyingMapper:
    """*mapper* until the *nth* change (from 1), which happens (*after*) or does not; then nothing any more."""

    def __init__(self, mapper: Mapper, nth: int = 0, *, after: bool = False) -> None:
        self.mapper, self.nth, self.after = mapper, nth, after
        self.seen = 0

    @property
    def dead(self) -> bool:
        """Whether there were as many changes."""
        return 0 < self.nth <= self.seen

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.mapper, name)
        if name not in _CHANGES:
            return real

        def call(*arguments: Any, **keywords: Any) -> Any:
            if self.dead:
                raise Crash(f"after the end: {name}")
            self.seen += 1
            if not self.dead:
                return real(*arguments, **keywords)
            if self.after:
                real(*arguments, **keywords)
            raise Crash(f"at {name}")

        return call
