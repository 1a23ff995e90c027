"""A daemon that is killed: when its time has come, or at an exact system call.

Tests choose some calls, for each kill takes a second or two; ``PYD_EVERY=1`` makes them take every one.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clients import Client, until
from engine_under_test import Daemon

__all__ = ["EVERY", "Mortal", "calls", "killed_in"]

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


def killed_in(one: Mortal, call: str, number: int, *words: str) -> bool:
    """A command during which the daemon is killed at its n-th *call*, or after it, if it makes fewer; then a new one.

    Returns whether the command failed, as it does when it is cut off.
    """
    assert one.daemon.process is not None
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    log = one.daemon.root / "strace.log"
    command = ["strace", "-f", "-qq", "-o", log, "-e", f"trace={call}", "-e", inject, "-p", one.daemon.process.pid]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE) as tracer:
        process, status = one.daemon.process, Path(f"/proc/{one.daemon.process.pid}/status")
        # What it does by itself counts too: it may be killed before the command begins.
        until(
            lambda: process.poll() is not None or not re.search(r"TracerPid:\t0", status.read_text()),
            "it is traced, or killed already",
        )
        with one.docker.start(*words) as client:
            client.communicate(timeout=30)
        cut_off = client.returncode != 0
        tracer.terminate()
        try:
            tracer.wait(5)
        except subprocess.TimeoutExpired:  # it waits for a thread that was killed while it attached to it
            tracer.kill()
    one.reborn()
    log.unlink(missing_ok=True)
    return cut_off


def calls(chosen: Iterable[int]) -> Iterable[int]:
    """At which calls to kill: those *chosen*; with ``PYD_EVERY=1`` the first, the second, … until the test breaks off."""
    return itertools.count(1) if EVERY else chosen
