"""Ending a worker process without taking its exit status away from the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

__all__ = ["end"]


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill *process* and wait for it; one that has ended is only waited for. Twice is once.

    Not by ``process.kill()``: that polls first (`subprocess.Popen.send_signal`), which reaps a process that has just ended
    before the loop's watcher comes to it, and the status is lost.
    """
    if process.returncode is None:  # only the loop reaps, so the number is still this process's
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())
