"""What this driver asks of the kernel beyond what all storage drivers do."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pyd_snapshots import syscalls

__all__ = ["fuse_mount"]


def fuse_mount(options: Sequence[str]) -> int:
    """fsopen(2), fsconfig(2), fsmount(2) of the type ``fuse``: a detached mount, as an O_PATH descriptor."""
    fs = syscalls.fsopen("fuse")
    try:
        for option in options:
            syscalls.fsconfig_option(fs, option)
        syscalls.fsconfig_create(fs, "fuse")
        return syscalls.fsmount(fs, "fuse")
    finally:
        os.close(fs)
