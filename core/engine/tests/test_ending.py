"""The exit status of a worker is the loop's, also when it is killed as it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
from asyncio.subprocess import PIPE

import pytest

from pyd_engine.ending import end


@pytest.mark.parametrize(("program", "code"), [("import time; time.sleep(100)", -9), ("raise SystemExit(3)", 3)])
def test_the_status_is_what_it_ended_with(program: str, code: int) -> None:
    async def run() -> int | None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", program)
        if code == 3:
            # Until it has ended, and without a turn of the loop: nobody has taken its status.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        await end(process)
        await end(process)
        return process.returncode

    if sys.version_info < (3, 12):  # later versions choose it themselves
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    try:
        assert asyncio.run(run()) == code
    finally:
        if sys.version_info < (3, 12):
            asyncio.set_child_watcher(None)


def test_one_that_wrote_more_than_anybody_read_has_an_end_too() -> None:
    """The disk is full, or a client has gone: nobody wants what is in the pipe any more."""

    async def run() -> int | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            "-c",
            "import sys\nwhile True: print('x' * 1000)",
            stdout=PIPE,
            stderr=PIPE,
            limit=4096,
        )
        assert process.stdout is not None
        await process.stdout.readline()
        while not process.stdout._paused:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            await end(process)
        return process.returncode

    assert asyncio.run(run()) == -9


def test_what_it_did_not_read_is_nobodys_fault() -> None:
    """A client sends on while the worker ends: the pipe breaks, and nothing of that is left for the loop to complain about."""
    complaints: list[str] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context["message"]))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", "import os; os.close(0)", stdin=PIPE
        )
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):
            while True:
                process.stdin.write(b"x" * 65536)
                await process.stdin.drain()
        await end(process)
        del process
        gc.collect()

    asyncio.run(run())
    assert complaints == []
