"""Ending a worker process without taking its exit status away from the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

__all__ = ["end"]

_PIECE = 1 << 16


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill *process* and wait for it; one that has ended is only waited for. Twice is once.

    Not by ``process.kill()``: that polls first (`subprocess.Popen.send_signal`), which reaps a process that has just ended
    before the loop's watcher comes to it, and the status is lost. What it wrote last is read, into nothing: as long as a
    stream's buffer is full nobody looks at the pipe, and `process.wait()` waits for the pipes' ends, too.
    """
    if process.returncode is None:  # only the loop reaps, so the number is still this process's
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    streams = (_drain(each) for each in (process.stdout, process.stderr) if each is not None)
    await asyncio.shield(asyncio.gather(process.wait(), *streams))
    if process.stdin is not None:
        process.stdin.close()
        with contextlib.suppress(
            OSError
        ):  # it did not read to the end: known, or else the loop complains of what nobody asks
            await process.stdin.wait_closed()


async def _drain(stream: asyncio.StreamReader) -> None:
    with contextlib.suppress(RuntimeError, OSError):  # somebody else reads it, to its end
        while await stream.read(_PIECE):
            pass
