"""What this driver asks of the system, one function each: here tools of coreutils, in your driver perhaps ioctls."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from pyd_contracts.errors import DriverFault, ResourceExhausted

__all__ = ["allocated", "copy", "inodes", "remove"]


def copy(source: Path, target: Path) -> None:
    """cp(1), keeping links, holes, devices, owners, modes, attributes and times."""
    _run("cp", "-aT", "--reflink=auto", "--", str(source), str(target))


def remove(path: Path) -> None:
    """rm(1): it is not bothered by depth, and "nothing there" is fine."""
    _run("rm", "-rf", "--one-file-system", "--", str(path))


def allocated(path: Path) -> int:
    """du(1): bytes on disk."""
    return int(_run("du", "-s", "--block-size=1", "--", str(path)).split()[0])


def inodes(path: Path) -> int:
    """du(1): inodes."""
    return int(_run("du", "-s", "--inodes", "--", str(path)).split()[0])


def _run(*command: str) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="surrogateescape", check=False,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    if done.returncode and any(os.strerror(number) in done.stderr for number in (errno.ENOSPC, errno.EDQUOT)):
        raise ResourceExhausted(f"{' '.join(command)}: {done.stderr.strip()}")  # STO-6
    if done.returncode:
        raise DriverFault(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
