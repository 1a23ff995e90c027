"""Clones of this process that become a container's process, and what they report."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from pyd_shim import kernel as k
from pyd_shim import message
from pyd_shim.cgroups import Group
from pyd_shim.ends import LaunchError

__all__ = ["Clone", "clone", "hear", "kill"]


@dataclass
class Clone:
    """A process that was cloned: its pid and pidfd on this host, and our end of its report socket."""

    pid: int
    pidfd: int
    report: socket.socket


def clone(flags: int, group: Group, become: Callable[[socket.socket], NoReturn], *, sibling: bool = False) -> Clone:
    """Clone into the v2 leaf of *group* and let the child *become* something, which does not return.

    A *sibling* is the child of this process's parent (clone(2) CLONE_PARENT). Raises LaunchError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    leaf = group.v2_fd()
    try:
        pid, pidfd = k.clone3(flags, leaf, sibling=sibling)
        if pid == 0:
            ours.close()
            become(theirs)
    except OSError as error:
        ours.close()
        raise LaunchError("internal", f"clone a process for the container: {error.strerror}") from error
    finally:
        if leaf is not None:
            os.close(leaf)
        theirs.close()
    return Clone(pid, pidfd, ours)


def hear(clone: Clone, group: Group) -> tuple[list[str], list[int]]:
    """Wait until the clone is ready: its warnings, and the master of its terminal when it has one. Raises LaunchError."""
    try:
        answer, fds = message.receive(clone.report)
    except ConnectionResetError:
        answer, fds = message.receive(clone.report)  # it ended with a message of ours unread; its own is still there
    if answer is None:
        oom = " (out of memory: is the limit too low?)" if group.oom_killed() else ""
        raise LaunchError("internal", f"the container's process ended while it was set up{oom}")
    if "error" in answer:
        raise LaunchError(answer["error"], answer["message"])
    return answer["warnings"], fds


def kill(pidfd: int) -> None:
    """A clone that failed ends by itself, or now; it is its parent's to reap."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended
