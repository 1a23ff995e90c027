"""Mounts of the type ``fuse.PROGRAM``: the process that answers for one, for as long as the mount is there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack

from pyd_contracts.values import Mount

__all__ = ["FUSE", "serve"]

FUSE = "fuse."
"""What the type of such a mount begins with; the program's name follows."""
_SECONDS = 60  # a process that does not end when its mount is gone is a failed test
_GENERAL = frozenset({"ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec"})


def serve(mount: Mount, make: Callable[[Mount], int], held: ExitStack) -> int:
    """Have the kernel's half made by *make*, then start PROGRAM with the mount's options; the descriptor of the mount.

    It ends by itself when the mount is gone: *held*, which must let go of the mount before, waits for that.
    """
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = (f"fd={device}", "rootmode=40000", "user_id=0", "group_id=0", "allow_other", "default_permissions")
        kept = tuple(option for option in mount.options if option in _GENERAL)
        made = make(Mount("fuse", mount.source, options + kept))
        words = ",".join(
            option.replace("\\", "\\\\").replace(",", "\\,") for option in mount.options if option not in _GENERAL
        )
        # libfuse takes a descriptor for one that is mounted when the mount point is called /dev/fd/N (mount.fuse3(8))
        command = [mount.type.removeprefix(FUSE), "-f", *(["-o", words] if words else []), f"/dev/fd/{device}"]
        try:
            process = subprocess.Popen(
                command, pass_fds=[device], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                cwd="/",
            )  # fmt: skip
        except OSError:
            os.close(made)
            raise
    finally:
        os.close(device)  # a process that has ended would be waited for, not noticed, as long as somebody has it
    held.callback(process.wait, _SECONDS)
    return made
