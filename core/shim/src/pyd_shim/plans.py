"""How plans travel: what a shim needs in its message, what only its builder reads in a memfd beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the zygote imports this, and has none of the contracts
    from pyd_contracts.values import Stdio

__all__ = ["from_memory", "in_memory", "stdio"]


def in_memory(build: Mapping[str, Any]) -> int:
    """The ``build`` of a plan as a memfd of JSON text: of any size, passed on by descriptor; the caller closes it."""
    fd = os.memfd_create("pyd-plan", os.MFD_CLOEXEC)
    try:
        view = memoryview(_encode(build).encode("ascii"))
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


_encode = json.JSONEncoder(separators=(",", ":")).encode


def from_memory(build: int) -> dict[str, Any]:
    """What `in_memory` wrote."""
    parts, position = [], 0
    while part := os.pread(build, 1 << 20, position):
        parts.append(part)
        position += len(part)
    plan: dict[str, Any] = json.loads(b"".join(parts))
    return plan


def stdio(wiring: Stdio) -> dict[str, Any]:
    """How a process is wired, as plain data."""
    return {
        "terminal": wiring.terminal,
        "stdin": wiring.stdin,
        "stdin_once": wiring.stdin_once,
        "spool": str(wiring.spool) if wiring.spool else None,
        "height": wiring.height,
        "width": wiring.width,
    }
