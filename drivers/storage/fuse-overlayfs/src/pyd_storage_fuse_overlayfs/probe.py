"""Whether fuse-overlayfs works here: found out by mounting a small one, detached, and using it.

Some milliseconds; remembered in the run directory, which a reboot empties, and asked again when the file system, the kernel or
the program are others.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pyd_contracts.errors import Declined
from pyd_snapshots.memory import remembered
from pyd_snapshots.removal import remove_tree
from pyd_snapshots.syscalls import whiteout
from pyd_snapshots.trees import DIRECTORY, opened

from . import kernel

__all__ = ["PROGRAM", "probe"]

PROGRAM = "fuse-overlayfs"
_SECONDS = 20  # for a program that serves a few requests


def probe(root: str, run: Path) -> None:
    """Mount a real one on root's file system. Raises Declined with the reason when it does not work."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise Declined(f"the program {PROGRAM} is not installed (Debian: apt-get install fuse-overlayfs)")
    if ":" in root:
        raise Declined(f"{PROGRAM} separates its layers by colons, and there is one in {root}")
    question = {
        "root": root, "device": os.stat(root).st_dev, "kernel": os.uname().release, "program": program,
        "changed": os.stat(program).st_mtime_ns,
    }  # fmt: skip
    remembered(run / "works", question, lambda: _works(root, program))


def _works(root: str, program: str) -> bool:
    top = f"{root}/new/probe.{os.getpid()}.{threading.get_ident()}"
    try:
        _try(root, top, program)
    finally:
        with opened(os.open(os.path.dirname(top), DIRECTORY)) as bin_fd:
            remove_tree(bin_fd, os.path.basename(top))
    return True


def _try(root: str, top: str, program: str) -> None:
    os.mkdir(top, 0o700)
    for name in ("1", "1/gone", "1/gone/file", "1/stays", "f", "w"):
        os.mkdir(f"{top}/{name}")
    try:
        whiteout(f"{top}/f/gone")
        os.setxattr(f"{top}/w", "trusted.overlay.opaque", b"y")
    except OSError as error:
        raise Declined(
            f"{root} takes no character devices or no trusted.* attributes, by which layers say what is gone "
            f"({error.strerror}); root on ext4, xfs, btrfs or tmpfs is needed"
        ) from error
    os.removexattr(f"{top}/w", "trusted.overlay.opaque")
    with ExitStack() as held:
        try:
            device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise Declined(f"no file systems in user space here: /dev/fuse: {error.strerror}") from error
        try:
            # mounted before it is served: a program that finds its descriptor without a mount ends
            mount = kernel.fuse_mount((f"fd={device}", "rootmode=40000", "user_id=0", "group_id=0"))
            layers = (f"lowerdir={top}/1", f"upperdir={top}/f", f"workdir={top}/w")
            options = ",".join(option.replace("\\", "\\\\").replace(",", "\\,") for option in layers)
            process = subprocess.Popen(
                [program, "-f", "-o", options, f"/dev/fd/{device}"],
                pass_fds=[device], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/",
            )  # fmt: skip
            held.callback(_end, process)
            held.callback(os.close, mount)
        except OSError as error:
            if error.errno in {errno.EPERM, errno.EACCES}:
                raise Declined(f"no permission for fuse mounts ({error}); CAP_SYS_ADMIN is needed") from error
            raise Declined(f"this kernel mounts no fuse by descriptor ({error}); Linux 5.2 or later does") from error
        finally:
            os.close(device)
        _examine(root, f"/proc/self/fd/{mount}", process)


def _examine(root: str, merged: str, process: subprocess.Popen[bytes]) -> None:
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("list a directory", lambda: os.listdir(merged)),
        ("make a device", lambda: os.mknod(f"{merged}/null", 0o020600, os.makedev(1, 3))),
        ("remove a directory", lambda: os.rmdir(f"{merged}/stays")),
        ("replace a directory", lambda: os.mkdir(f"{merged}/gone")),
    )
    for what, check in checks:
        try:
            check()
        except OSError as error:
            said = b""
            if error.errno == errno.ENOTCONN and process.stderr is not None:  # it has ended
                said = process.stderr.read(2000)
            words = said.decode(errors="replace").strip().replace("\n", "; ")
            raise Declined(f"{PROGRAM} on {root} cannot {what}: {error.strerror}{words and f' ({words})'}") from error
    if seen := os.listdir(f"{merged}/gone"):
        raise Declined(f"{PROGRAM} on {root} shows through what was replaced: {seen}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """It ends when the mount is gone; one that does not has nothing to lose."""
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()
