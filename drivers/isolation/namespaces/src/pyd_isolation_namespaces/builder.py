"""The builder: a short-lived child of the shim that makes a container's groups, namespaces and init.

What runs once, at create, would stay in the memory of the shim as long as the container lives: a Python process that has
touched a page keeps a copy of it. So the builder touches them. It is forked ahead of the need, makes the init as a child of
the shim (clone(2) CLONE_PARENT), hands over its descriptors and ends. docs/decisions/0009 has the figures.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pyd_isolation_namespaces.cloning import Clone, clone, hear, kill
from pyd_isolation_namespaces.init import read_plan, run_init
from pyd_isolation_namespaces.remapping import limit, open_groups, prepare
from pyd_shim import kernel as k
from pyd_shim import message
from pyd_shim.builders import BuilderProcess, loopback_up
from pyd_shim.cgroups import Group
from pyd_shim.ends import Ends, LaunchError
from pyd_shim.idmaps import outside, text, write_maps
from pyd_shim.mounts import needs_device, served
from pyd_shim.remapping import give_streams

__all__ = ["FLAGS", "Builder", "join_namespace"]

FLAGS = {
    "pid": k.CLONE_NEWPID,
    "mount": k.CLONE_NEWNS,
    "uts": k.CLONE_NEWUTS,
    "ipc": k.CLONE_NEWIPC,
    "network": k.CLONE_NEWNET,
    "cgroup": k.CLONE_NEWCGROUP,
    "user": k.CLONE_NEWUSER,
}
"""Names of namespaces in plans and their CLONE_NEW* (namespaces(7))."""


class Builder(BuilderProcess):
    """The shim's handle of its builder."""

    def __init__(self, host_network: int) -> None:
        super().__init__(host_network, loopback_up, _answer)

    def build(self, build: int, ends: Ends) -> tuple[Clone, list[str]]:
        """Have the container made that the memfd *build* describes: its init, waiting for the word on its report socket,
        and warnings.

        Raises LaunchError; then nothing of it runs, and its groups are the caller's to remove.
        """
        try:
            message.send(self._orders, {}, (build, *(ends.child or ())))
            answer, fds = message.receive(self._orders)
        except OSError as error:
            self._see_out()
            raise LaunchError("internal", f"the container's builder is gone: {error.strerror}") from error
        if answer is None or "error" in answer:
            self._see_out()
            answer = answer or {"error": "internal", "message": "the container's builder ended while it was at work"}
            raise LaunchError(answer["error"], answer["message"])
        ends.close_child_side()
        if ends.terminal:
            ends.master = fds[2]
        return Clone(answer["pid"], fds[0], socket.socket(fileno=fds[1])), answer["warnings"]

    def _see_out(self) -> None:
        """After a failure every child of this shim is the builder or the init that it made: both end now."""
        self._orders.close()
        self._pid = 0
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def _answer(orders: socket.socket, _order: dict[str, Any], fds: list[int], host_network: int) -> None:
    build, *stdio = fds
    plan = read_plan(build)
    plan["owner"] = [outside(0, plan["users"]), outside(0, plan["groups"])]
    group = Group(plan["cgroup"]["layout"], plan["cgroup"]["path"])

    def become_init(report: socket.socket) -> NoReturn:
        orders.close()  # or the shim would not see that the builder is gone
        run_init(plan, report, (stdio[0], stdio[1], stdio[2]) if stdio else None)

    try:
        if "user" in plan["namespaces"]:
            made, warnings, masters = _build_remapped(plan, group, host_network, stdio, become_init)
        else:
            made, warnings, masters = _build(plan, group, host_network, become_init)
    except LaunchError as error:
        message.send(orders, {"error": error.kind, "message": str(error)})
        return
    except OSError as error:
        words = f"create the container: {error.strerror} {error.filename or ''}".rstrip()
        message.send(orders, {"error": "internal", "message": words})
        return
    answer = {"pid": made.pid, "warnings": group.warnings + warnings}
    message.send(orders, answer, (made.pidfd, made.report.fileno(), *masters))


def _build(
    plan: dict[str, Any], group: Group, host_network: int, become: Callable[[socket.socket], NoReturn]
) -> tuple[Clone, list[str], list[int]]:
    """Make the namespaces and the init, which builds the rest and then waits.

    The v1 groups are made while the init mounts: it joins them before it goes on to anything of the container's.
    """
    _join(plan["namespaces"], host_network)
    os.makedirs(plan["root"], mode=0o700, exist_ok=True)
    _grouped(group, group.create_v2)
    flags = _new(plan["namespaces"], ("pid", "mount", "uts", "ipc"))
    with served(plan["rootfs"]):
        made = clone(flags, group, become, sibling=True)
    try:
        _grouped(group, group.create_v1)
        if needs_device(plan["rootfs"]):
            hear(made, group)  # the device filter of the group it is in would refuse it the device of its root
        _grouped(group, lambda: group.apply(plan["cgroup"]["resources"]))
        tasks = group.join_fds()
        try:
            message.send(made.report, {"join": True}, tuple(tasks))
        except BrokenPipeError:
            pass  # the init has ended: why, it has said before
        finally:
            for fd in tasks:
                os.close(fd)
        warnings, masters = hear(made, group)
    except BaseException:
        kill(made.pidfd)
        raise
    return made, warnings, masters


def _build_remapped(
    plan: dict[str, Any], group: Group, host_network: int, stdio: list[int], become: Callable[[socket.socket], NoReturn]
) -> tuple[Clone, list[str], list[int]]:
    """The same with a user namespace: the init is nobody on this host from its birth.

    So everything that only the host's root can do is done before, and the init goes on when its groups are there and its ids
    are mapped. All its namespaces belong to the user namespace: it is made together with them, or entered just before.
    """
    namespaces: dict[str, str] = plan["namespaces"]
    _join({name: path for name, path in namespaces.items() if name != "user"}, host_network)
    os.makedirs(plan["root"], mode=0o700, exist_ok=True)
    for step in (group.create_v2, group.create_v1, lambda: group.apply(plan["cgroup"]["resources"])):
        _grouped(group, step)
    give_streams(stdio, plan["owner"])
    with served(plan["rootfs"]):
        warnings = prepare(plan)
    seen = open_groups(plan["mounts"], plan["cgroup"]["layout"], plan["cgroup"]["path"])
    plan["cgroup"]["fds"] = seen
    tasks = group.join_fds()
    if namespaces["user"]:
        join_namespace("user", namespaces["user"])
    made = clone(_new(namespaces, ("user", "pid", "mount", "uts", "ipc", "network")), group, become, sibling=True)
    try:
        if not namespaces["user"]:
            write_maps(made.pid, text(plan["users"]), text(plan["groups"]))
        warnings += limit(made.pid, plan["process"]["rlimits"])
        message.send(made.report, {"join": True}, tuple(tasks))
        more, masters = hear(made, group)
    except BaseException:
        kill(made.pidfd)
        raise
    return made, warnings + more, masters


def _join(namespaces: dict[str, str], host_network: int) -> None:
    """Be in the namespaces that are not to be made; the init is born in them."""
    if namespaces.get("network") is None:
        k.setns(host_network, k.CLONE_NEWNET)
    for name, path in namespaces.items():
        if path and name != "mount":
            join_namespace(name, path)


def _new(namespaces: dict[str, str], names: Sequence[str]) -> int:
    """Those of *names* that are to be made, as flags of clone(2)."""
    flags = 0
    for name in names:
        if namespaces.get(name) == "":
            flags |= FLAGS[name]
    return flags


def join_namespace(name: str, path: str) -> None:
    """Enter another container's namespace (setns(2)). Raises LaunchError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            k.setns(fd, FLAGS[name])
        finally:
            os.close(fd)
    except OSError as error:
        raise LaunchError("not-found", f"join the {name} namespace {path}: {error.strerror}") from error


def _grouped(group: Group, step: Callable[[], None]) -> None:
    """A step on control groups, its error in words."""
    try:
        step()
    except OSError as error:
        raise LaunchError(
            "invalid-argument" if error.errno == 22 else "internal",
            f"set resource limits in cgroup {group.path}: {(error.strerror or '').lower()} ({error.filename})",
        ) from error
