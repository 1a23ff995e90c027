"""Make the *n*-th change that a driver asks of the kernel fail, or be its last.

The functions of `os` that change a file system are replaced for one block and one thread; for network drivers, what is
sent on sockets and written to files, on all threads: they work in other namespaces on threads of their own. A driver that
reaches the kernel another way is simply interrupted at fewer points.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from unittest import mock

__all__ = ["NETWORK_CALLS", "Calls", "Crash", "Plan", "crashing", "failing"]

_CHANGING = (
    "mkdir", "rmdir", "rename", "replace", "link", "symlink", "unlink", "remove", "mknod", "mkfifo", "truncate",
    "ftruncate", "write", "pwrite", "chmod", "fchmod", "chown", "fchown", "utime", "setxattr", "removexattr", "fsync",
    "copy_file_range", "sendfile",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Calls:
    """Functions that change something, by the object they hang on; *everywhere*: on all threads."""

    functions: tuple[tuple[Any, str], ...]
    everywhere: bool = False


_STORAGE_CALLS = Calls(tuple((os, name) for name in _CHANGING))
NETWORK_CALLS = Calls(
    (*((socket.socket, name) for name in ("send", "sendall", "sendmsg", "sendto")), (os, "write")), everywhere=True
)
"""Netlink messages, questions among them, and sysctls."""


class Crash(BaseException):
    """The process died here. No handler of errors may catch it, and nothing can be changed after it."""


@dataclass(slots=True)
class Plan:
    """Which call to interrupt (counted from 1), and how many were seen."""

    nth: int
    seen: int = 0

    @property
    def reached(self) -> bool:
        """Whether there were as many calls as to interrupt one."""
        return self.seen >= self.nth


@contextmanager
def failing(nth: int, calls: Calls = _STORAGE_CALLS) -> Iterator[Plan]:
    """Let the *n*-th change fail once with ENOSPC."""
    plan = Plan(nth)

    def at(name: str) -> None:
        if plan.seen == plan.nth:
            raise OSError(errno.ENOSPC, f"injected into {name}")

    with _watched(plan, at, calls):
        yield plan


@contextmanager
def crashing(nth: int, calls: Calls = _STORAGE_CALLS) -> Iterator[Plan]:
    """Let the process die at the *n*-th change: that one and all later ones raise `Crash`."""
    plan = Plan(nth)

    def at(name: str) -> None:
        if plan.reached:
            raise Crash(f"at {name}")

    with _watched(plan, at, calls), suppress(Crash):  # the block ends there, as the process would
        yield plan


@contextmanager
def _watched(plan: Plan, at: Callable[[str], None], calls: Calls) -> Iterator[None]:
    thread = threading.get_ident()

    def watch(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if calls.everywhere or threading.get_ident() == thread:
                plan.seen += 1
                at(name)
            return real(*arguments, **keywords)

        return call

    with ExitStack() as patches:
        for owner, name in calls.functions:
            patches.enter_context(mock.patch.object(owner, name, watch(name, getattr(owner, name))))
        yield
