"""What a driver is given when it is made. It reaches for nothing else."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyd_contracts.errors import InvalidArgument

__all__ = ["DriverContext", "Setting", "read_settings"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a driver's table in the configuration file.

    type  bool, int, str, list (a list of strings), or dict (a table, which the driver checks itself)
    """

    name: str
    type: type
    default: Any
    help: str


@dataclass(frozen=True, slots=True)
class DriverContext:
    """Everything a driver gets.

    name      the name it was asked for (the entry point's)
    root      its own directory that survives reboots; it exists, mode 0700
    run       its own directory that a reboot empties; it exists, mode 0700
    settings  its table of the configuration file, checked against the settings it declared, defaults filled in
    log       its logger
    instance  8 hex digits that tell this daemon's data root from another's on the same host; names of kernel objects
              (bridges, cgroups, tables) carry it
    """

    name: str
    root: Path
    run: Path
    settings: Mapping[str, Any]
    log: logging.Logger
    instance: str = "00000000"


_WORDS = {bool: "true or false", int: "a whole number", str: "a string", list: "a list of strings", dict: "a table"}


def read_settings(declared: tuple[Setting, ...], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check *given* against what was *declared* and fill in defaults.

    Raises InvalidArgument that lists every fault: unknown keys with the nearest known one, and wrong types.
    *where* names the table for the message: ``"[storage.overlay] in /etc/pyd/pyd.toml"``.
    """
    known = {setting.name: setting for setting in declared}
    faults = []
    for key, value in given.items():
        setting = known.get(key)
        if setting is None:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"
            faults.append(f"unknown key {key!r} ({hint})")
        elif not _fits(value, setting.type):
            faults.append(f"{key!r} must be {_WORDS.get(setting.type, setting.type.__name__)}, not {value!r}")
    if faults:
        raise InvalidArgument(f"{where}: " + "; ".join(faults))
    return {name: given.get(name, setting.default) for name, setting in known.items()}


def _fits(value: object, kind: type) -> bool:
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
