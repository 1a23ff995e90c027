"""Whether mounts of a directory can be id-mapped (mount_setattr(2)): found out by trying, remembered until reboot."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pyd_snapshots import syscalls
from pyd_snapshots.memory import remembered
from pyd_snapshots.trees import opened

__all__ = ["mapped_clone", "other_user_namespace", "supported"]


def supported(directory: str, run: Path) -> bool:
    """Ask the kernel about *directory*; *run* keeps the answer for the same file system and kernel. OSError."""
    question = {"root": directory, "device": os.stat(directory).st_dev, "kernel": os.uname().release}
    return bool(remembered(run / "id-maps", question, lambda: _try(directory)))


@contextlib.contextmanager
def other_user_namespace() -> Iterator[int | None]:
    """A descriptor of a user namespace with a mapping that is not ours, or None where none can be made. On the disk our root is
    nobody of theirs: as who overlayfs works, it has a place there, too.

    A process has to live in one for it to be had; the tool of util-linux is one, and this is asked once a boot.
    """
    command = ["unshare", "--user", "--", "sh", "-c", "echo made; read end"]
    try:
        holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except FileNotFoundError:
        yield None
        return
    with holder:
        if holder.stdout is None or holder.stdout.readline() != b"made\n":
            yield None
            return
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{holder.pid}/{name}", "w", encoding="ascii") as table:
                table.write("0 65536 65536\n65536 0 1\n")
        with opened(os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)) as fd:
            yield fd


def mapped_clone(path: str, userns: int) -> int | None:
    """A detached clone of *path* with ids as *userns* maps them; None where that cannot be (before Linux 5.12, and on file
    systems that are not made for it).
    """
    try:
        fd = syscalls.open_tree_clone(path)
    except OSError:
        return None
    try:
        syscalls.mount_setattr_idmap(fd, userns)
    except OSError:
        os.close(fd)
        return None
    return fd


def _try(directory: str) -> bool:
    with other_user_namespace() as space:
        fd = None if space is None else mapped_clone(directory, space)
    if fd is None:
        return False
    os.close(fd)
    return True
