"""``docker top``: the host's ps(1), reduced to one container's processes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from pyd_contracts.errors import DriverFault, InvalidArgument, NotFound

__all__ = ["processes"]

_ARGUMENTS = re.compile(r"[ -~]*")


def processes(init: int, ps_args: str) -> dict[str, Any]:
    """Titles and rows of all processes in the pid namespace of *init*. *ps_args* are ps(1)'s own; empty means ``-ef``."""
    if not _ARGUMENTS.fullmatch(ps_args):
        raise InvalidArgument(f"ps arguments {ps_args!r}: unprintable characters")
    try:
        namespace = os.readlink(f"/proc/{init}/ns/pid")
    except OSError:
        raise NotFound("the container has ended") from None
    inside = {pid for pid in filter(str.isdigit, os.listdir("/proc")) if _namespace(pid) == namespace}
    arguments = ps_args.split() or ["-ef"]
    # Arguments that select nobody ("-o pid,comm") mean the container's; some ("f") do not go together with -q.
    result = _ps([*arguments, f"-q{','.join(sorted(inside, key=int))}"])
    if result.returncode:
        result = _ps(arguments)
    if result.returncode:
        raise InvalidArgument(f"ps: {result.stderr.strip().splitlines()[0] if result.stderr.strip() else 'failed'}")
    lines = result.stdout.split("\n")
    titles = lines[0].split()
    if "PID" not in titles:
        raise InvalidArgument("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows = [line.split(None, len(titles) - 1) for line in lines[1:] if line.strip()]
    return {"Titles": titles, "Processes": [row for row in rows if len(row) > column and row[column] in inside]}


def _ps(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["ps", *arguments], capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except FileNotFoundError:
        raise DriverFault("ps(1) is not installed on this host; install procps") from None


def _namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""  # it ended meanwhile
