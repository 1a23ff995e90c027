"""The OCI runtimes a daemon may use: those of the configuration, else those found on PATH."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyd_contracts.errors import Declined, InvalidArgument

__all__ = ["GROUPS", "KNOWN", "Runtime", "find", "obstacle"]

KNOWN = ("runc", "crun")
"""Looked for, in this order, when the configuration names none."""
GROUPS = Path("/sys/fs/cgroup")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_KEYS = {"path", "options"}


@dataclass(frozen=True, slots=True)
class Runtime:
    """One runtime: how it is called here, its program, and options that go before every command."""

    name: str
    path: str
    options: tuple[str, ...] = ()

    @property
    def systemd(self) -> bool:
        """It has systemd make the control groups, whose names have another form then."""
        return any(each in ("--systemd-cgroup", "--systemd-cgroup=true") for each in self.options)


def find(tables: Mapping[str, Any], path: str | None = None, groups: Path = GROUPS) -> dict[str, Runtime]:
    """The runtimes by name, the default first. *tables* is ``[isolation.oci.runtimes]``; *path* is searched, as PATH is.

    What is found there and cannot work on this host is left out; what is configured is not.

    Raises InvalidArgument for a table that cannot be meant, and Declined when there is no runtime at all.
    """
    if tables:
        return {name: _configured(name, table, path) for name, table in tables.items()}
    programs = {name: program for name in KNOWN if (program := shutil.which(name, path=path))}
    found = {name: Runtime(name, program) for name, program in programs.items() if not obstacle(name, groups)}
    if not found:
        reasons = [f"{name}: {obstacle(name, groups)}" for name in programs]
        raise Declined(
            "; ".join(reasons)
            or f"no OCI runtime is installed: looked for {' and '.join(KNOWN)} on PATH; install one, or name one with "
            '[isolation.oci.runtimes.NAME] path = "/..."'
        )
    return found


def obstacle(name: str, groups: Path = GROUPS) -> str:
    """Why a known runtime cannot work on this host; empty where nothing speaks against it.

    crun makes no groups where cgroup v1 and v2 are mounted beside each other and v2 has controllers (libcrun, cgroup.c).
    """
    try:
        controllers = (groups / "unified" / "cgroup.controllers").read_text().split()
    except OSError:
        return ""
    if name != "crun" or not controllers:
        return ""
    return f"crun takes no host with controllers ({', '.join(controllers)}) on the cgroup v2 hierarchy beside v1 ones"


def _configured(name: str, table: object, path: str | None) -> Runtime:
    where = f"[isolation.oci.runtimes.{name}]"
    if not _NAME.match(name):
        raise InvalidArgument(f"{where}: a runtime's name has letters, digits, and _ . - only")
    if not isinstance(table, Mapping):
        raise InvalidArgument(f"{where}: must be a table with path and options")
    if unknown := sorted(set(table) - _KEYS):
        raise InvalidArgument(f"{where}: unknown key {unknown[0]!r} (known: options, path)")
    program, options = table.get("path", name), table.get("options", [])
    if not isinstance(program, str) or not program:
        raise InvalidArgument(f"{where}: 'path' must be a string, not {program!r}")
    if not isinstance(options, list) or not all(isinstance(each, str) for each in options):
        raise InvalidArgument(f"{where}: 'options' must be a list of strings, not {options!r}")
    resolved = shutil.which(program, path=path)
    if resolved is None:
        raise Declined(f"{where}: {program} is not there, or cannot be executed")
    return Runtime(name, os.path.abspath(resolved), tuple(options))
