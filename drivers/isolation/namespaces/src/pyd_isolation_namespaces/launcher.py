"""Building containers and running processes in them, inside a shim (`pyd_shim.supervisor` says what a launcher does)."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from pyd_isolation_namespaces.builder import FLAGS, Builder, join_namespace
from pyd_isolation_namespaces.cloning import clone, hear, kill
from pyd_isolation_namespaces.init import run_exec
from pyd_shim import kernel as k
from pyd_shim import message
from pyd_shim.builders import Warmth
from pyd_shim.cgroups import Group
from pyd_shim.ends import Child, Ends, LaunchError
from pyd_shim.remapping import give_streams

__all__ = ["Launcher", "warm"]


def warm() -> Warmth[Builder]:
    """Prepare a shim that waits for its container."""
    return Warmth(Builder)


class Launcher:
    """One container: its groups, its namespaces, its init. The plan is what `plan.build` made of the OCI spec."""

    def __init__(self, plan: dict[str, Any], bundle: str, warmth: Warmth[Builder]) -> None:
        self.plan = plan
        self.bundle = bundle
        self.warmth = warmth
        self.group = Group(plan["cgroup"]["layout"], plan["cgroup"]["path"])
        self.namespaces: dict[str, str] = plan["namespaces"]
        self.report: socket.socket | None = None
        self.init_pidfd = -1
        self._births_inside = False

    # --- the container -------------------------------------------------------------------------------------------

    def create(self, ends: Ends) -> Child:
        """Have the builder make the container; be in its network namespace."""
        try:
            init, warnings = self.warmth.builder.build(self.plan["build_fd"], ends)
            self.report = init.report
            self.init_pidfd = os.dup(init.pidfd)
            self._enter_network()
        except BaseException:
            self.cleanup()
            raise
        return Child(init.pid, init.pidfd, warnings)

    def _enter_network(self) -> None:
        """The shim itself lives in the container's network namespace: /proc/<shim>/ns/net names it, and it ends with the
        shim, without a mount on the host."""
        network = self.namespaces.get("network")
        if network == "" and "user" in self.namespaces:  # the init has made it: it belongs to the user namespace
            k.setns(self.init_pidfd, k.CLONE_NEWNET)
        elif network is None:
            k.setns(self.warmth.host_network, k.CLONE_NEWNET)
        elif network:
            join_namespace("network", network)

    def start(self) -> None:
        """Give the word and hear whether execve worked: the report's socket closes on success."""
        assert self.report is not None
        self.warmth.builder.end()
        report, self.report = self.report, None
        try:
            try:
                message.send(report, {"go": True})
                answer, _ = message.receive(report)
            except OSError as error:
                raise LaunchError("internal", f"start: the container's init is gone: {error.strerror}") from error
        finally:
            report.close()
        if answer is not None:
            raise LaunchError(answer["error"], answer["message"])

    def execute(self, plan: dict[str, Any], ends: Ends) -> Child:
        """Run a further process: a clone of this shim that joins the init's namespaces by its pidfd (setns(2))."""
        if not self._births_inside and self.namespaces.get("pid") is not None:
            # From now on every process this shim makes is born in the container's pid namespace.
            k.setns(self.init_pidfd, k.CLONE_NEWPID)
            self._births_inside = True
        join = 0
        for name in ("user", "mount", "uts", "ipc", "network", "cgroup"):
            if self.namespaces.get(name) is not None:
                join |= FLAGS[name]
        if self.plan["owner"] is not None:
            give_streams(ends.child, self.plan["owner"])
        tasks = self.group.join_fds()
        try:
            made = clone(
                0,
                self.group,
                lambda report: run_exec(plan["build_fd"], report, ends.child, tasks, self.init_pidfd, join),
            )
        finally:
            for fd in tasks:
                os.close(fd)
        try:
            warnings, masters = hear(made, self.group)
            ends.close_child_side()
            if ends.terminal:
                ends.master = masters[0]
            failure, _ = message.receive(made.report)  # the end of file means that execve worked
            if failure is not None:
                raise LaunchError(failure["error"], failure["message"])
        except BaseException:
            kill(made.pidfd)
            os.waitid(os.P_PIDFD, made.pidfd, os.WEXITED)
            os.close(made.pidfd)
            raise
        finally:
            made.report.close()
        return Child(made.pid, made.pidfd, warnings)

    # --- ending --------------------------------------------------------------------------------------------------

    def kill_everyone(self, number: int) -> None:
        """Signal every process of the container, one that is frozen included."""
        self.group.signal(number)

    def oom_killed(self) -> bool:
        """Whether the kernel killed for want of memory."""
        return self.group.oom_killed()

    def cleanup(self) -> None:
        """Remove the groups and the mount point. The namespaces ended with their last process."""
        self.warmth.builder.end()
        if self.report is not None:
            self.report.close()
            self.report = None
        if self.init_pidfd >= 0:
            os.close(self.init_pidfd)
            self.init_pidfd = -1
        if self.namespaces.get("pid") != "":
            self.group.signal(signal.SIGKILL)  # without a pid namespace of its own nothing else ended the rest
        # Out of the container's network namespace: it must end now, even while a slow client keeps this process.
        k.setns(self.warmth.host_network, k.CLONE_NEWNET)
        self.group.remove()
        try:
            os.rmdir(self.plan["root"])
        except FileNotFoundError:
            pass  # create failed before it was made
