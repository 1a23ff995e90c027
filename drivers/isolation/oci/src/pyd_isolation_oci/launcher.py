"""Containers of an OCI runtime, inside a shim (`pyd_shim.supervisor` says what a launcher does)."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Any

from pyd_isolation_oci import commands
from pyd_isolation_oci.builder import Builder, Built
from pyd_isolation_oci.complaints import error_of
from pyd_shim import kernel as k
from pyd_shim.builders import Warmth, loopback_up
from pyd_shim.cgroups import Group
from pyd_shim.ends import Child, Ends, LaunchError

__all__ = ["Launcher", "warm"]

_EXECVE_SECONDS = 5.0


def warm() -> Warmth[Builder]:
    """Prepare a shim that waits for its container."""
    return Warmth(Builder)


class Launcher:
    """One container: what the runtime built, and its groups. The plan is what `OciBackend.describe` made."""

    def __init__(self, plan: dict[str, Any], bundle: str, warmth: Warmth[Builder]) -> None:
        self.plan = plan
        self.bundle = bundle
        self.warmth = warmth
        self.call: list[str] = plan["call"]
        self.group = Group(plan["cgroup"]["layout"], plan["cgroup"]["path"])
        self.init: Built | None = None
        self._waiting: tuple[tuple[int, int] | None, str] = (None, "")  # what the init runs, and its name, before start

    # --- the container -------------------------------------------------------------------------------------------

    def create(self, ends: Ends) -> Child:
        """Have the builder run the runtime; be in the container's network namespace."""
        try:
            self.init = self._adopting(self.warmth.builder, self.plan["build_fd"], ends)
            self._waiting = _image(self.init.pid), _name(self.init.pid)
            self._enter_network()
        except BaseException:
            self._end_all()
            self.cleanup()
            raise
        return Child(self.init.pid, self.init.pidfd, self.init.warnings)

    @staticmethod
    def _adopting(builder: Builder, build: int, ends: Ends, init: int = 0) -> Built:
        """What the builder leaves running becomes a child of this process; only for that moment: what else loses its parent
        in a container that shares the host's processes is the host's to reap."""
        k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)
        try:
            return builder.build(build, ends, init)
        finally:
            builder.end()
            k.prctl(k.PR_SET_CHILD_SUBREAPER, 0)

    def _enter_network(self) -> None:
        """The shim itself lives in the container's network namespace: /proc/<shim>/ns/net names it, and it ends with the
        shim, without a mount on the host."""
        network = self.plan["network"]
        if network is None:
            k.setns(self.warmth.host_network, k.CLONE_NEWNET)
        elif not network and self.plan["remapped"]:
            assert self.init is not None
            k.setns(self.init.pidfd, k.CLONE_NEWNET)
            loopback_up()
        elif network:
            fd = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
            try:
                k.setns(fd, k.CLONE_NEWNET)
            finally:
                os.close(fd)

    def start(self) -> None:
        """Have the runtime let it run, and see it become the program.

        The runtime has let go when execve(2) fails, and tells the container's streams only. A process that ends without ever
        having been another program is one that execve refused.
        """
        assert self.init is not None
        if commands.call([*self.call, "start", self.plan["id"]]):
            words, _ = commands.words_of_log(self.bundle)
            self.group.signal(signal.SIGKILL)
            raise error_of(os.path.basename(self.call[0]), words, self.plan["program"], "start")
        deadline = time.monotonic() + _EXECVE_SECONDS
        while _image(self.init.pid) in (self._waiting[0], None) and time.monotonic() < deadline:
            if select.select([self.init.pidfd], [], [], 0.0005)[0]:
                if _name(self.init.pid) == self._waiting[1]:
                    raise LaunchError(*(self.init.fault or self._refused()))
                return  # it was the program, and has ended

    def _refused(self) -> tuple[str, str]:
        return "invalid-argument", (
            f"exec {self.plan['program']}: the kernel would not run it; what {os.path.basename(self.call[0])} says of it is "
            "in the container's output"
        )

    def execute(self, plan: dict[str, Any], ends: Ends) -> Child:
        """Have the runtime run a further process."""
        assert self.init is not None
        built = self._adopting(Builder(self.warmth.host_network), plan["build_fd"], ends, self.init.pid)
        return Child(built.pid, built.pidfd, built.warnings)

    # --- ending --------------------------------------------------------------------------------------------------

    def kill_everyone(self, number: int) -> None:
        """Signal every process of the container, one that is frozen included."""
        self.group.signal(number)

    def oom_killed(self) -> bool:
        """Whether the kernel killed for want of memory."""
        return self.group.oom_killed()

    def _end_all(self) -> None:
        """After a failed create: end and reap whatever the runtime left; it would wait for one that nobody reaps."""
        self.group.signal(signal.SIGKILL)
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def cleanup(self) -> None:
        """Have the runtime forget it; remove the groups, the files and the mount point."""
        self.warmth.builder.end()
        if not self.plan["own_pids"]:
            self.group.signal(signal.SIGKILL)  # without a pid namespace of its own nothing else ended the rest
        # Out of the container's network namespace: it must end now, even while a slow client keeps this process.
        k.setns(self.warmth.host_network, k.CLONE_NEWNET)
        commands.call(commands.delete_arguments(self.call, self.plan["id"]))
        self.group.remove()
        for name in commands.FILES:
            _unlink(f"{self.bundle}/{name}")
        try:
            os.rmdir(self.plan["root"])
        except FileNotFoundError:
            pass  # create failed before it was made


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # not every container has each


def _image(pid: int) -> tuple[int, int] | None:
    """What a process runs, as device and inode; None when it has ended."""
    try:
        found = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _name(pid: int) -> str:
    """A process's name (proc(5), comm): execve(2) changes it, and it can be read until the process is reaped."""
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read()
