"""The exit status of a worker is the loop's, also when it is killed as it ends."""

from __future__ import annotations

import asyncio
import os
import sys

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
