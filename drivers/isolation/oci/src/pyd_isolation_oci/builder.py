"""The builder: a short-lived child of the shim that prepares a bundle and runs the runtime on it.

What runs once would stay in the memory of the shim as long as the container lives (docs/decisions/0009); so it happens in a
child, one that is forked ahead of the need for the container itself, and one for each further process. It waits for the
runtime, whose detached process becomes its child (prctl(2) PR_SET_CHILD_SUBREAPER), reads its log, hands over descriptors, and
ends: the process is the shim's child then. What a runtime that failed leaves behind ends and is reaped here: an unreaped
process in a container's pid namespace would keep the container from ever ending (pid_namespaces(7)).
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import time
from typing import Any, NoReturn

from pyd_isolation_oci import commands
from pyd_isolation_oci.complaints import error_of
from pyd_isolation_oci.fitting import fit_process, fit_resources
from pyd_isolation_oci.program import fault, opener
from pyd_isolation_oci.remapping import arrange, arrange_to_join
from pyd_shim import kernel as k
from pyd_shim import message
from pyd_shim.builders import BuilderProcess, loopback_up
from pyd_shim.cgroups import Group
from pyd_shim.ends import Ends, LaunchError
from pyd_shim.files import read
from pyd_shim.mounts import mount_rootfs, own_namespace, served
from pyd_shim.plans import from_memory
from pyd_shim.remapping import give_streams
from pyd_shim.users import identify

__all__ = ["Builder", "Built"]

_ORPHAN_SECONDS = 0.5
_NO_PROGRAM = 113
"""The exit status of a child that could not become the runtime."""


class Built:
    """What the runtime made: the process, what was degraded, and for an init what start wants to know (`Launcher.start`)."""

    def __init__(self, answer: dict[str, Any], fds: list[int]) -> None:
        self.pid: int = answer["pid"]
        self.pidfd = fds[0]
        self.master = fds[1] if len(fds) > 1 else -1
        self.warnings: list[str] = answer["warnings"]
        self.fault: list[str] | None = answer["fault"]


class Builder(BuilderProcess):
    """The shim's handle of a builder."""

    def __init__(self, host_network: int) -> None:
        super().__init__(host_network, _adopt, _answer)

    def build(self, build: int, ends: Ends, init: int = 0) -> Built:
        """Have done what the memfd *build* describes; *init* is the pid of the container's first process, once there is one.

        Raises LaunchError; then what runs of it is the caller's to end.
        """
        try:
            message.send(self._orders, {"init": init}, (build, *(ends.child or ())))
            answer, fds = message.receive(self._orders)
        except OSError as error:
            raise LaunchError("internal", f"the container's builder is gone: {error.strerror}") from error
        answer = answer or {"error": "internal", "message": "the container's builder ended while it was at work"}
        if "error" in answer:
            raise LaunchError(answer["error"], answer["message"])
        ends.close_child_side()
        built = Built(answer, fds)
        ends.master = built.master
        return built


def _adopt() -> None:
    """What the runtime leaves running becomes a child of this process."""
    k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)


def _answer(orders: socket.socket, order: dict[str, Any], fds: list[int], host_network: int) -> None:
    build, *streams = fds
    plan = {**from_memory(build), **order}
    stdio = (streams[0], streams[1], streams[2]) if streams else None
    try:
        made, handed = (_create if plan["kind"] == "create" else _execute)(plan, stdio, host_network)
    except LaunchError as error:
        _end_orphans()
        message.send(orders, {"error": error.kind, "message": str(error)})
    except OSError as error:
        _end_orphans()
        text = f"{plan['kind']} the container's process: {error.strerror} {error.filename or ''}".rstrip()
        message.send(orders, {"error": "internal", "message": text})
    else:
        message.send(orders, made, tuple(handed))


def _end_orphans() -> None:
    """See out what lost its parent; what does not end by itself is killed."""
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0 and time.monotonic() > deadline:
            for word in read(f"/proc/self/task/{os.getpid()}/children").split():
                os.kill(int(word), signal.SIGKILL)  # a child of ours, not reaped: the pid is nobody else's
        if pid == 0:
            time.sleep(0.001)


# --- the two orders ----------------------------------------------------------------------------------------------


def _create(
    plan: dict[str, Any], stdio: tuple[int, int, int] | None, host_network: int
) -> tuple[dict[str, Any], list[int]]:
    bundle, document = plan["bundle"], plan["document"]
    process = document["process"]
    if plan["network"] == "" and not plan["users"]:  # that of a user namespace's is made with it, and belongs to it
        loopback_up()
        # That of the shim, which this process was born in: it has been there before the container.
        for each in document["linux"]["namespaces"]:
            if each["type"] == "network":
                each["path"] = f"/proc/{os.getppid()}/ns/net"
    # A runtime takes the network namespace that it is in for the host's, and refuses to set anything there.
    k.setns(host_network, k.CLONE_NEWNET)
    warnings = fit_process(process)
    if plan["cgroup"]:
        warnings += _prepare_groups(plan["cgroup"], document["linux"])
    for each in document["mounts"]:
        if each["type"] == "bind" and not os.path.lexists(each["source"]):
            where = f"mount bind {each['source']} to {each['destination']}"
            raise LaunchError("not-found", f"{where}: bind source path does not exist")
    os.makedirs(document["root"]["path"], mode=0o700, exist_ok=True)
    with served(plan["rootfs"]):
        own_namespace()
        if plan["users"]:
            give_streams(stdio, plan["owner"])
            warnings += arrange(plan, document)
        else:
            mount_rootfs(plan["rootfs"], document["root"]["path"])
            if plan["rootfs"]:  # a container's root must be a mount that is nobody's peer, or pivot_root(2) refuses
                k.mount("", document["root"]["path"], None, k.MS_PRIVATE)
    _settle_user(process, opener(document["root"]["path"]))
    _write(f"{bundle}/{commands.CONFIG}", document)
    arguments = ["create", "--bundle", bundle]
    pid, pidfd, master, more = _run(plan, arguments, process, stdio, "create")
    if plan["users"] and document.get("domainname"):
        k.setns(pidfd, k.CLONE_NEWUTS)  # its own root may not: the sysctl is the host's root's
        k.setdomainname(document["domainname"].encode())
    expected = fault(opener(f"/proc/{pid}/root"), process["args"], process["env"], process["cwd"])
    made = {"pid": pid, "warnings": warnings + more, "fault": expected}
    return made, [pidfd, *([master] if master >= 0 else [])]


def _execute(
    plan: dict[str, Any], stdio: tuple[int, int, int] | None, host_network: int
) -> tuple[dict[str, Any], list[int]]:
    process = plan["process"]
    k.setns(host_network, k.CLONE_NEWNET)
    if plan["owner"]:
        give_streams(stdio, plan["owner"])
        arrange_to_join()
    warnings = fit_process(process)
    inside = opener(f"/proc/{plan['init']}/root")
    _settle_user(process, inside)
    if expected := fault(inside, process["args"], process["env"], process["cwd"]):
        raise LaunchError(*expected)
    os.close(inside.fd)
    path = f"{plan['bundle']}/{commands.PROCESS}"
    _write(path, process)
    try:
        arguments = ["exec", "--detach", "--process", path]
        pid, pidfd, master, more = _run(plan, arguments, process, stdio, "exec")
    finally:
        os.unlink(path)
    return {"pid": pid, "warnings": warnings + more, "fault": None}, [pidfd, *([master] if master >= 0 else [])]


def _prepare_groups(cgroup: dict[str, Any], linux: dict[str, Any]) -> list[str]:
    """Make the groups before the runtime does, to see which limits this host has."""
    group = Group(cgroup["layout"], cgroup["path"])
    try:
        group.create_v2()
        group.create_v1()
    except OSError as error:
        raise LaunchError("internal", f"make cgroup {group.path}: {error.strerror} ({error.filename})") from error
    try:
        linux["resources"], warnings = fit_resources(group, linux["resources"])
    except OSError as error:
        raise LaunchError(
            "invalid-argument",
            f"set resource limits in cgroup {group.path}: {(error.strerror or '').lower()} ({error.filename})",
        ) from error
    return group.warnings + warnings


def _settle_user(process: dict[str, Any], inside: opener) -> None:
    """Names to numbers; HOME as /etc/passwd says when nothing else does."""
    wanted = process["user"]
    identity = identify(inside, wanted)
    process["user"] = {"uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups}
    if "umask" in wanted:
        process["user"]["umask"] = wanted["umask"]
    env = [each for each in process["env"] if each not in ("HOME", "HOME=")]
    if not any(each.startswith("HOME=") for each in env):
        env.append(f"HOME={identity.home}")
    process["env"] = env


def _write(path: str, value: object) -> None:
    """A file of the bundle, for root's eyes."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(value, file)


# --- the runtime -------------------------------------------------------------------------------------------------


def _run(
    plan: dict[str, Any], arguments: list[str], process: dict[str, Any], stdio: tuple[int, int, int] | None, doing: str
) -> tuple[int, int, int, list[str]]:
    """Run the runtime to its end: pid and pidfd of what it made, the terminal's master (-1: none), its warnings."""
    bundle, program = plan["bundle"], plan["call"][0]
    for name in (commands.LOG, commands.PID, commands.CONSOLE):
        try:
            os.unlink(f"{bundle}/{name}")
        except FileNotFoundError:
            pass  # the first run of it
    os.chdir(bundle)  # a socket's path may have 107 bytes only (unix(7)): the console's is told without directories
    command = [*plan["call"], *arguments, "--pid-file", f"{bundle}/{commands.PID}"]
    console = None
    if process.get("terminal"):
        console = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        console.bind(commands.CONSOLE)
        console.listen(1)
        command += ["--console-socket", commands.CONSOLE]
    status = _spawn([*command, plan["id"]], stdio)
    words, warnings = commands.words_of_log(bundle)
    if status:
        raise error_of(os.path.basename(program), words, process["args"][0], doing)
    try:
        with open(f"{bundle}/{commands.PID}", encoding="ascii") as file:
            pid = int(file.read())
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError) as error:
        raise LaunchError("internal", f"{doing} with {program}: it told of no process: {error}") from error
    return pid, pidfd, _master(console, program), [f"{os.path.basename(program)}: {each}" for each in warnings]


def _spawn(command: list[str], stdio: tuple[int, int, int] | None) -> int:
    """Run it with the container's streams; its exit status."""
    pid = os.fork()
    if pid == 0:
        _become(command, stdio)
    status = commands.wait(pid, command[0])
    if status == _NO_PROGRAM:
        raise LaunchError("internal", f"run {command[0]}: it cannot be executed; is it still installed?")
    return status


def _become(command: list[str], stdio: tuple[int, int, int] | None) -> NoReturn:
    """Be the runtime. Not by posix_spawn(3): it has the C library's own signals ignored, and the program would inherit that."""
    try:
        if stdio is None:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            stdio = (null, null, null)
        for target, fd in enumerate(stdio):
            os.dup2(fd, target, inheritable=True)
        os.setsid()
        for number in range(1, 65):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                k.default_signal(number)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execve(command[0], command, commands.ENVIRONMENT)  # noqa: S606 - the configured runtime, no words of a user's
    finally:
        os._exit(_NO_PROGRAM)


def _master(console: socket.socket | None, program: str) -> int:
    """The terminal that the runtime sent: it has ended, so it is there or never will be."""
    if console is None:
        return -1
    console.settimeout(1)
    try:
        connection, _ = console.accept()
        connection.settimeout(1)
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        numbers = array.array("i")
        numbers.frombytes(ancillary[0][2][:4])
        return numbers[0]
    except (OSError, IndexError) as error:
        raise LaunchError("internal", f"{program} sent no terminal: {error}") from error
    finally:
        console.close()
        os.unlink(commands.CONSOLE)
