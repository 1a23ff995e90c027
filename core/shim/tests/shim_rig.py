"""A zygote with a launcher of twenty lines: containers are shell scripts of the host, so that only the shim is tested."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyd_contracts.values import Connection
from pyd_shim.client import ShimClient, ShimGone
from pyd_shim.launch import Zygote

PACKAGE = "tiny_launcher"
SECONDS = 15.0
_SOURCE = """
import os, signal
from pyd_shim.ends import Child, LaunchError

def warm():
    return "warm"

class Launcher:
    def __init__(self, plan, bundle, warmth):
        assert warmth == "warm"
        self.plan, self.bundle, self.pids = plan, bundle, []

    def _fork(self, script, ends, wait):
        stdio = (ends.child or ())
        pid = os.fork()
        if pid == 0:
            try:
                if ends.terminal:
                    [os.dup2(self.slave, number) for number in range(3)]
                for number, fd in enumerate(stdio):
                    os.dup2(fd, number)
                if wait >= 0:
                    os.close(self.go)
                    if not os.read(wait, 1):
                        os._exit(99)
                os.execv("/bin/sh", ["sh", "-c", script])
            finally:
                os._exit(98)
        self.pids.append(pid)
        return Child(pid, os.pidfd_open(pid), ["a warning"])

    def create(self, ends):
        if "refuse" in self.plan:
            raise LaunchError(*self.plan["refuse"])
        if ends.terminal:
            ends.master, self.slave = os.openpty()
        waiting, self.go = os.pipe()
        child = self._fork(self.plan["script"], ends, waiting)
        os.close(waiting)
        return child

    def start(self):
        if "stop" in self.plan:
            os.close(self.go)
            raise LaunchError(*self.plan["stop"])
        os.write(self.go, b"x")
        os.close(self.go)

    def execute(self, plan, ends):
        return self._fork(plan["script"], ends, -1)

    def kill_everyone(self, number):
        for pid in self.pids:
            os.kill(pid, number)

    def oom_killed(self):
        return False

    def cleanup(self):
        open(self.bundle + "/cleaned", "x").close()
"""


def until(true: Callable[[], object], what: str) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.005)


class Box:
    """One container: its directories and its shim."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig = rig
        self.bundle, self.state, self.name = rig.work / f"b-{name}", rig.work / f"s-{name}", name
        self.pidfds: list[int] = []
        self.pid = 0
        """The shim's, once something was created."""
        self.bundle.mkdir()
        self.state.mkdir()
        self.shim = rig.zygote.spawn(name, self.bundle, self.state, PACKAGE)

    def create(self, script: str, *, stdin: bool = False, stdin_once: bool = False, **more: Any) -> dict[str, Any]:
        stdio = {"terminal": False, "stdin": stdin, "stdin_once": stdin_once, "spool": str(self.state / "spool")}
        answer = self.shim.ask({"op": "create", "plan": {"script": script, "stdio": stdio, **more}})
        self.pidfds.append(os.pidfd_open(answer["pid"]))
        self.pid = int(answer["netns"].split("/")[2])
        return answer

    def run(self, script: str, **how: Any) -> None:
        self.create(script, **how)
        self.shim.ask({"op": "start"})

    def execute(self, name: str, script: str, *connections: int) -> int:
        plan = {"script": script, "stdio": {"terminal": False, "stdin": False, "stdin_once": False}}
        described = [
            {"stdin": False, "stdout": True, "stderr": True, "framed": False, "detach_keys": "", "early": ""}
        ] * len(connections)
        request = {"op": "exec", "process": name, "plan": plan, "connections": described}
        pid: int = self.shim.ask(request, connections)["pid"]
        try:
            self.pidfds.append(os.pidfd_open(pid))
        except ProcessLookupError:
            pass  # it has ended already
        return pid

    def query(self, process: str = "") -> dict[str, Any]:
        return self.shim.ask({"op": "state", "process": process})

    def attach(self, process: str = "", **how: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(SECONDS)
        self.rig.closing.append(ours)
        with theirs:
            self.shim.attach(process, Connection(theirs.fileno(), framed=False, **how))
        return ours

    def watch(self, process: str = "") -> Callable[[], None]:
        """Register for the end; what is returned waits for it. A shim that is gone has told."""
        try:
            client = ShimClient.connect(self.bundle, self.name)
        except ShimGone:
            return lambda: None
        try:
            told = client.ask({"op": "watch", "process": process})["exited"]
        except ShimGone:
            client.close()
            return lambda: None
        fd = client.detach_fd()

        def wait() -> None:
            try:
                assert told or select.select([fd], [], [], SECONDS)[0], "nobody told of the end"
            finally:
                os.close(fd)

        return wait

    def wait(self, process: str = "") -> None:
        self.watch(process)()

    def kill(self) -> None:
        """End the first process."""
        signal.pidfd_send_signal(self.pidfds[0], signal.SIGKILL)

    def end(self) -> None:
        """End every process; the shim follows."""
        self.shim.close()
        for fd in self.pidfds:
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended by itself
            os.close(fd)
        self.pidfds = []


class Rig:
    """A zygote and its boxes."""

    def __init__(self, work: Path) -> None:
        self.work = work
        package = work / PACKAGE
        package.mkdir()
        (package / "__init__.py").write_text(_SOURCE)
        self.closing: list[socket.socket] = []
        self.boxes: list[Box] = []
        self.zygote = Zygote([PACKAGE], work, logging.getLogger("pyd.test"))

    def box(self, name: str = "") -> Box:
        box = Box(self, name or f"{len(self.boxes)}")
        self.boxes.append(box)
        return box

    def close(self) -> None:
        for each in self.closing:
            each.close()
        for box in self.boxes:
            box.end()
        self.zygote.close()


@contextmanager
def rigged(work: Path) -> Iterator[Rig]:
    """A rig in *work*."""
    sys.path.insert(0, str(work))
    rig = Rig(work)
    try:
        yield rig
    finally:
        rig.close()
        sys.path.remove(str(work))
        sys.modules.pop(PACKAGE, None)


def processes(parent: int) -> dict[int, str]:
    """Children of a process: pid to state letter (proc(5), stat)."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found[int(name)] = fields[0]
    return found
