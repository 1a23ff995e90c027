"""What passes between a shim and a launcher: the child's ends of its pipes, the child itself, and the one error."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["Child", "Ends", "LaunchError"]


class LaunchError(Exception):
    """A launcher's refusal; *kind* is the `kind` of a class of `pyd_contracts.errors`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Child:
    """A process that was made: its pid and pidfd on this host, and what had to be degraded."""

    pid: int
    pidfd: int
    warnings: list[str]


class Ends:
    """Both ends of a process's standard streams.

    With pipes, `child` holds the three descriptors the process gets (standard input is /dev/null when it is not kept
    open). With a terminal the launcher gets the master from inside the container and puts it into `master`.
    """

    def __init__(self, *, terminal: bool, stdin: bool) -> None:
        self.terminal = terminal
        self.master = -1
        self.child: tuple[int, int, int] | None = None
        self._sources: dict[int, int] = {}
        self._sink = -1
        if terminal:
            return
        if stdin:
            child_in, self._sink = os.pipe2(os.O_CLOEXEC)
        else:
            child_in = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._sources[1], child_out = os.pipe2(os.O_CLOEXEC)
        self._sources[2], child_err = os.pipe2(os.O_CLOEXEC)
        self.child = (child_in, child_out, child_err)

    def close_child_side(self) -> None:
        """After the process was made: only it may hold its ends, or the pipes never end."""
        if self.child is not None:
            for fd in self.child:
                os.close(fd)
            self.child = None

    def take_shim_side(self) -> tuple[dict[int, int], int]:
        """The descriptors to read by stream number, and the one to write (-1: none)."""
        self.close_child_side()
        if self.terminal:
            return {1: self.master}, self.master
        return self._sources, self._sink

    def close(self) -> None:
        """Close everything; the process was not made."""
        self.close_child_side()
        for fd in (*self._sources.values(), self._sink, self.master):
            if fd >= 0:
                os.close(fd)
