"""A daemon that is killed: when its time has come, or at an exact system call.

Tests choose some calls, for each kill takes a second or two; ``PYD_EVERY=1`` makes them take every one.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clients import Client, until
from engine_under_test import Daemon

__all__ = ["EVERY", "Death", "Mortal", "calls", "dying", "killed_in", "kinds"]

EVERY = os.environ.get("PYD_EVERY") == "1"


@dataclass(frozen=True, slots=True)
class Mortal:
    """A daemon that may be killed, and its client."""

    daemon: Daemon
    docker: Client

    def reborn(self) -> None:
        """Killed, and a new one on the same roots."""
        self.daemon.kill()
        self.daemon.start()

    def state(self, container: str) -> str:
        """Status and exit code."""
        return self.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", container).stdout.strip()


@dataclass(slots=True)
class Death:
    """Whether one *came*: known in the end."""

    came: bool = False


@contextmanager
def dying(daemon: Daemon, calls: str, number: int) -> Iterator[Death]:
    """While it runs, whichever thread of *daemon* or its workers makes its n-th call of a kind in *calls* is killed, with
    its process; then a new daemon is up.

    What the daemon does by itself counts too: it may be killed before the block begins.
    """
    death = Death()
    assert daemon.process is not None
    log = daemon.root / "strace.log"
    inject = f"inject={calls}:signal=SIGKILL:when={number}"
    command = ["strace", "-f", "-qq", "-o", log, "-e", f"trace={calls}", "-e", inject, "-p", daemon.process.pid]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE) as tracer:
        status = Path(f"/proc/{daemon.process.pid}/status")
        try:
            until(
                lambda: daemon.ended() or not re.search(r"TracerPid:\t0", status.read_text()),
                "it is traced, or killed already",
            )
            yield death
        finally:
            with suppress(subprocess.TimeoutExpired):
                tracer.wait(0.3)  # it ends by itself, when it has written down that all are dead
            tracer.terminate()
            try:
                tracer.wait(5)
            except subprocess.TimeoutExpired:  # it waits for a thread that was killed while it attached to it
                tracer.kill()
    death.came = _died_at(log.read_text(errors="replace"), number)
    log.unlink()
    daemon.kill()
    daemon.start()


def _died_at(log: str, number: int) -> bool:
    """Whether a thread was killed in its n-th call of a kind, by strace's log: the daemon itself kills workers, too."""
    begun: Counter[tuple[str, str]] = Counter()
    last: dict[str, str] = {}
    for line in log.splitlines():
        thread, what = line.split(maxsplit=1)
        if what.startswith("+++ killed by SIGKILL"):
            if begun[thread, last.get(thread, "")] == number:
                return True
        elif not what.startswith(("<...", "---", "+++")):
            last[thread] = what.partition("(")[0]
            begun[thread, last[thread]] += 1
    return False


def killed_in(one: Mortal, call: str, number: int, *words: str) -> bool:
    """A command during which the daemon is killed at its n-th *call*, or after it, if it makes fewer; then a new one.

    Returns whether the command failed, as it does when it is cut off.
    """
    with dying(one.daemon, call, number), one.docker.start(*words) as client:
        client.communicate(timeout=30)
    return client.returncode != 0


def calls(chosen: Iterable[int]) -> Iterable[int]:
    """At which calls to kill: those *chosen*; with ``PYD_EVERY=1`` the first, the second, … until the test breaks off."""
    return itertools.count(1) if EVERY else chosen


def kinds(chosen: str) -> list[str]:
    """Of which calls to take the n-th: of any of those *chosen*; with ``PYD_EVERY=1`` of each by itself, for strace counts them
    so, and the first to come to n would hide the others."""
    return chosen.split(",") if EVERY else [chosen]
