"""What became of each installed driver and plugin, for people: `info` and start-up messages show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DriverReport", "DriverState"]

DriverState = Literal["ready", "declined", "failed", "not-selected"]


@dataclass(frozen=True, slots=True)
class DriverReport:
    """One entry point.

    state         ready: in use; declined: it cannot work on this host; failed: it is broken; not-selected: the
                  configuration does not ask for it
    reason        why it is not ready; empty when it is
    capabilities  what the driver declared, sorted; empty unless ready
    default       containers get this one when they name none
    """

    kind: str
    name: str
    distribution: str
    version: str
    state: DriverState
    reason: str = ""
    capabilities: tuple[str, ...] = ()
    default: bool = False
