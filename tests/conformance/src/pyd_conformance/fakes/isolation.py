"""An isolation backend in memory: the whole contract, no privilege, no kernel object but pipes and terminals.

Containers are threads that interpret a handful of programs (`isolation_programs`) on real descriptors; their wires, frames
and spool are those of `pyd_shim`, so that what clients see is what they see of real containers. What a "host" knows
outlives a fake: one made anew on the same *run* finds the containers of the former, as after a restart of the daemon. A
fake lives in one process: it does not survive that one's death.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from pyd_conformance.fakes.isolation_programs import PROGRAMS, Task
from pyd_conformance.fakes.isolation_wiring import wires
from pyd_contracts.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from pyd_contracts.isolation import INIT
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Connection, Created, Execution, Sandbox, State, Statistics, Status, Stdio
from pyd_shim.ends import Ends
from pyd_shim.spool import SpoolWriter
from pyd_shim.streams import Client, Wires

__all__ = ["FakeIsolation"]

T = TypeVar("T")
_LEAST_MEMORY = 1 << 20
_LEAST_QUOTA = 1000
_PIDS = count(1_000_000)  # above pid_max of any machine these tests run on by default: nobody is hit by mistake


@dataclass
class _Process:
    pid: int
    args: list[str]
    task: Task
    wires: Wires
    state: State | None = None
    watchers: list[socket.socket] = field(default_factory=list)
    ended: int | None = None


@dataclass
class _Container:
    sandbox: Sandbox
    netns: Path
    hostname: str
    spool: SpoolWriter | None
    status: Status = Status.CREATED
    processes: dict[str, _Process] = field(default_factory=dict)
    limits: dict[str, object] = field(default_factory=dict)
    born: int = field(default_factory=time.monotonic_ns)


@dataclass
class _Host:
    """What outlives a fake."""

    inode: int
    containers: dict[str, _Container] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


_HOSTS: dict[str, _Host] = {}


class FakeIsolation:
    """Passes IsolationContract with ``kernel = False``. *run* must exist; *root* is not used."""

    capabilities = frozenset({"terminal", "exec", "pause"})

    def __init__(self, root: Path, run: Path | None = None) -> None:
        where = os.path.realpath(run or root)
        inode = os.stat(where).st_ino
        host = _HOSTS.get(where)
        if host is None or host.inode != inode:  # a directory made anew is another host
            host = _HOSTS[where] = _Host(inode)
        self._host = host

    # --- create and start ----------------------------------------------------------------------------------------

    @hookimpl
    def isolation_create(self, container: str, sandbox: Sandbox) -> Created:
        """See the contract."""
        process = _object(sandbox.spec.get("process"))
        _check(process)
        with self._host.lock:
            if container in self._host.containers:
                raise AlreadyExists(f"container {container[:12]} is there already; delete it first")
            _check_sources(sandbox)
            _find(process, sandbox)
            netns = sandbox.bundle / "netns"
            netns.touch()
            spool = SpoolWriter(str(sandbox.stdio.spool)) if sandbox.stdio.spool else None
            made = _Container(sandbox, netns, str(sandbox.spec.get("hostname") or container[:12]), spool)
            made.processes[INIT] = self._make(made, process, sandbox.stdio, spool)
            self._host.containers[container] = made
            return Created(made.processes[INIT].pid, netns)

    @hookimpl
    def isolation_start(self, container: str) -> None:
        """See the contract."""
        with self._host.lock:
            found = self._get(container)
            if found.status is not Status.CREATED:
                raise FailedPrecondition(f"start: container {container[:12]} is {found.status.value}")
            found.status = Status.RUNNING
            self._run(found, found.processes[INIT])

    @hookimpl
    def isolation_exec(self, container: str, exec_id: str, execution: Execution) -> int:
        """See the contract."""
        _check(execution.process)
        with self._host.lock:
            found = self._get(container)
            if found.status is not Status.RUNNING:
                raise FailedPrecondition(f"exec: container {container[:12]} is {found.status.value}")
            if exec_id in found.processes:
                raise AlreadyExists(f"exec {exec_id}: it was run before")
            _find(execution.process, found.sandbox)
            process = found.processes[exec_id] = self._make(found, execution.process, execution.stdio, None)
            for connection in execution.connections:
                self._wire(process, connection)
            self._run(found, process)
            return process.pid

    def _make(
        self, container: _Container, process: Mapping[str, Any], stdio: Stdio, spool: SpoolWriter | None
    ) -> _Process:
        ends = Ends(terminal=stdio.terminal, stdin=stdio.stdin)
        if stdio.terminal:
            ends.master, slave = os.openpty()
            fds = (slave, slave, slave)
        else:
            assert ends.child is not None
            fds, ends.child = ends.child, None  # the task closes them
        env = dict(each.partition("=")[::2] for each in process.get("env") or ())
        task = Task(fds, env, container.hostname, first=not container.processes)
        sources, sink = ends.take_shim_side()
        box: list[_Process] = []

        def build() -> Wires:
            return Wires(
                wires().loop, sources, sink, terminal=stdio.terminal, stdin_once=stdio.stdin_once, spool=spool,
                on_change=lambda: self._settle(container, box[0]) if box else None,
            )  # fmt: skip

        made = _Process(next(_PIDS), list(process["args"]), task, wires().call(build))
        box.append(made)
        if stdio.terminal and stdio.height and stdio.width:
            wires().call(lambda: made.wires.resize(stdio.height, stdio.width))
        return made

    def _run(self, container: _Container, process: _Process) -> None:
        def run() -> None:
            self._ended(container, process, process.task.run(process.args))

        threading.Thread(target=run, name=f"fake-{process.pid}", daemon=True).start()

    # --- the end of a process ------------------------------------------------------------------------------------

    def _ended(self, container: _Container, process: _Process, code: int) -> None:
        process.task.close()

        def tell() -> None:
            process.ended = code
            process.wires.drain()
            self._settle(container, process)

        wires().call(tell)

    def _settle(self, container: _Container, process: _Process) -> None:
        """On the wires' thread: publish an end once all output was read."""
        if process.ended is None or process.state is not None or not process.wires.drained:
            return
        self._publish(container, process, State(Status.STOPPED, 0, process.ended, time.time()))

    def _publish(self, container: _Container, process: _Process, state: State) -> None:
        first = process is container.processes[INIT]
        process.state = state
        if first:
            container.status = Status.STOPPED
            container.netns.unlink(missing_ok=True)
            for other in container.processes.values():
                other.task.signal(9)
        for watcher in process.watchers:
            watcher.close()
        process.wires.finish()
        if first and container.spool is not None:
            container.spool.close()

    # --- while it runs -------------------------------------------------------------------------------------------

    @hookimpl
    def isolation_attach(self, container: str, process: str, connection: Connection) -> None:
        """See the contract."""
        with self._host.lock:
            self._wire(self._alive(container, process, "attach"), connection)

    def _wire(self, process: _Process, connection: Connection) -> None:
        fd = os.dup(connection.fd)
        streams = frozenset(number for number, on in ((1, connection.stdout), (2, connection.stderr)) if on)

        def add() -> None:
            process.wires.add(
                Client(
                    process.wires, socket.socket(fileno=fd), stdin=connection.stdin, streams=streams,
                    framed=connection.framed, detach_keys=connection.detach_keys, early=connection.early,
                )
            )  # fmt: skip

        wires().call(add)

    @hookimpl
    def isolation_resize(self, container: str, process: str, height: int, width: int) -> None:
        """See the contract."""
        with self._host.lock:
            found = self._alive(container, process, "resize")
            if not wires().call(lambda: found.wires.resize(height, width)):
                raise InvalidArgument("resize: the process has no terminal")

    @hookimpl
    def isolation_kill(self, container: str, process: str, signal: int, everyone: bool) -> None:
        """See the contract."""
        with self._host.lock:
            one = self._alive(container, INIT if everyone else process, "kill")
            found = self._get(container)
            if found.status is Status.CREATED:
                if signal == 9:  # a created one has no program yet that could react to anything else
                    found.status = Status.RUNNING
                    one.task.signal(9)
                    self._run(found, one)
                return
            for each in [p for p in found.processes.values() if p.state is None] if everyone else [one]:
                each.task.signal(signal)

    @hookimpl
    def isolation_freeze(self, container: str, frozen: bool) -> None:
        """See the contract."""
        with self._host.lock:
            found = self._get(container)
            if found.status not in ((Status.RUNNING,) if frozen else (Status.RUNNING, Status.PAUSED)):
                raise FailedPrecondition(f"freeze: container {container[:12]} is {found.status.value}")
            found.status = Status.PAUSED if frozen else Status.RUNNING
            for each in found.processes.values():
                each.task.freeze(frozen)

    @hookimpl
    def isolation_update(self, container: str, resources: Mapping[str, object]) -> Sequence[str]:
        """See the contract; limits are kept and limit nothing."""
        with self._host.lock:
            found = self._live(container, "update")
            quota = _object(resources.get("cpu")).get("quota")
            if isinstance(quota, int) and 0 < quota < _LEAST_QUOTA:
                raise InvalidArgument(
                    f"update container {container[:12]}: a quota of {quota} us is too short to schedule"
                )
            found.limits |= resources
            return ()

    @hookimpl
    def isolation_statistics(self, container: str) -> Statistics:
        """See the contract; time is the wall's."""
        with self._host.lock:
            found = self._live(container, "statistics")
            memory, pids = _object(found.limits.get("memory")), _object(found.limits.get("pids"))
            alive = sum(each.state is None for each in found.processes.values())
            return Statistics(
                cgroup=2,
                cpu_total=time.monotonic_ns() - found.born,
                memory_usage=_LEAST_MEMORY,
                memory_limit=memory.get("limit"),
                pids=alive,
                pids_limit=pids.get("limit"),
            )

    def _live(self, container: str, doing: str) -> _Container:
        found = self._get(container)
        if found.status not in (Status.RUNNING, Status.PAUSED):
            raise FailedPrecondition(f"{doing}: container {container[:12]} is {found.status.value}")
        return found

    @hookimpl
    def isolation_exit_fd(self, container: str, process: str) -> int:
        """See the contract."""
        with self._host.lock:
            found = self._get(container).processes.get(process)
            ours, theirs = socket.socketpair()

            def watch() -> None:
                if found is None or found.state is not None:
                    theirs.close()
                else:
                    found.watchers.append(theirs)

            wires().call(watch)
            return ours.detach()

    @hookimpl
    def isolation_state(self, container: str, process: str) -> State:
        """See the contract."""
        with self._host.lock:
            found = self._get(container)
            one = found.processes.get(process)
            if one is None:
                raise NotFound(f"no process {process!r} in container {container[:12]}")
            return one.state or State(found.status if process == INIT else Status.RUNNING, one.pid)

    # --- the end -------------------------------------------------------------------------------------------------

    @hookimpl
    def isolation_delete(self, container: str) -> None:
        """See the contract."""
        with self._host.lock:
            found = self._host.containers.get(container)
            if found is None:
                return
            if found.status is Status.CREATED:
                self.isolation_kill(container, INIT, 9, False)
            elif found.status is not Status.STOPPED:
                raise FailedPrecondition(f"delete: container {container[:12]} is {found.status.value}")
            del self._host.containers[container]

    @hookimpl
    def isolation_walk(self) -> Iterable[str]:
        """See the contract."""
        with self._host.lock:
            return sorted(self._host.containers)

    @hookimpl
    def isolation_close(self) -> None:
        """See the contract; containers run on."""

    def lose_supervisor(self, container: str) -> None:
        """For tests: as if what holds a container's exit status was killed."""
        with self._host.lock:
            found = self._get(container)
            lost = State(Status.STOPPED, 0, error="the container's supervisor was killed")
            wires().call(lambda: self._publish(found, found.processes[INIT], lost))

    # --- helpers -------------------------------------------------------------------------------------------------

    def _get(self, container: str) -> _Container:
        try:
            return self._host.containers[container]
        except KeyError:
            raise NotFound(f"no container {container[:12]}") from None

    def _alive(self, container: str, process: str, doing: str) -> _Process:
        found = self._get(container).processes.get(process)
        if found is None:
            raise NotFound(f"{doing}: no process {process!r} in container {container[:12]}")
        if found.ended is not None or found.state is not None:
            raise FailedPrecondition(f"{doing}: the process has ended")
        return found


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _check(process: Mapping[str, Any]) -> None:
    args = process.get("args")
    if not args:
        raise InvalidArgument("process.args: there must be a program to run")
    for name in ("args", "env"):
        if any("\0" in value for value in process.get(name) or ()):
            raise InvalidArgument(f"process.{name}: a value holds a null byte")
    if not str(process.get("cwd") or "/").startswith("/"):
        raise InvalidArgument(f"process.cwd: {process['cwd']!r} is not an absolute path")


def _tree(sandbox: Sandbox) -> Path | None:
    """The root file system, where it is a plain directory that can be looked into."""
    binds = [Path(each.source) for each in sandbox.rootfs if each.type == "bind"]
    return binds[-1] if binds else None


def _check_sources(sandbox: Sandbox) -> None:
    mounts: Any = sandbox.spec.get("mounts") or ()
    sources = [each.source for each in sandbox.rootfs if each.type == "bind"]
    sources += [each["source"] for each in mounts if each.get("type") == "bind"]
    for source in sources:
        if not os.path.exists(source):
            raise NotFound(f"mount bind {source}: bind source path does not exist")


def _find(process: Mapping[str, Any], sandbox: Sandbox) -> None:
    """Refuse a user or a program that is not there, in the words of a real backend."""
    tree, name = _tree(sandbox), str(process["args"][0])
    user = str(_object(process.get("user")).get("username") or "root").partition(":")[0]
    passwd = tree / "etc/passwd" if tree else None
    if user != "root" and not re.fullmatch("[0-9]+", user):
        known = passwd.read_text().splitlines() if passwd and passwd.is_file() else []
        if not any(line.partition(":")[0] == user for line in known):
            raise InvalidArgument(f"unable to find user {user}: no matching entries in passwd file")
    if os.path.basename(name) in PROGRAMS:
        return
    path = tree / name.lstrip("/") if tree and "/" in name else None
    if path is None or not path.exists():
        where = f"stat {name}: no such file or directory" if "/" in name else "executable file not found in $PATH"
        raise NotFound(f'exec: "{name}": {where}')
    if path.is_dir() or not stat.S_IMODE(path.stat().st_mode) & 0o111:
        raise PermissionDenied(f'exec: "{name}": permission denied')
    raise InvalidArgument(f'exec: "{name}": the fake backend runs only: {", ".join(sorted(PROGRAMS))}')
