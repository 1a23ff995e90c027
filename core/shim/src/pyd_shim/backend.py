"""What every isolation backend on shims has in common: records, requests to shims, control groups, and the end.

A backend says how a container and a further process are described (`ShimBackend.describe`, `describe_exec`), and brings a
launcher that builds what was described inside the shim (`pyd_shim.supervisor`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal as signals
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyd_contracts import INIT, hookimpl
from pyd_contracts.errors import (
    AlreadyExists,
    Declined,
    DriverFault,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PydError,
    from_oserror,
)
from pyd_contracts.values import Connection, Created, Execution, Sandbox, State, Statistics, Status
from pyd_shim import limits
from pyd_shim.cgroups import Group, discover
from pyd_shim.client import ShimClient, ShimGone, describe
from pyd_shim.launch import Zygote
from pyd_shim.plans import in_memory
from pyd_shim.statistics import statistics
from pyd_shim.supervisor import EXIT_FILE, SOCKET

__all__ = ["ShimBackend"]

_GONE_SECONDS = 10.0


class ShimBackend(ABC):
    """IsolationBackend on shims.

    *run* holds one small record per container (what delete needs when the shim was killed) and the directory that seals
    the interpreter; *cgroup_parent* is ``/pyd`` for the default data root; *launcher* is the module that builds.
    *realtime* are microseconds of real-time and of their period that groups above containers get; 0: none, and 1 s.
    """

    capabilities: frozenset[str] = frozenset({"terminal", "exec", "pause"})

    def __init__(
        self, run: Path, log: logging.Logger, *, cgroup_parent: str, launcher: str, realtime: tuple[int, int] = (0, 0)
    ) -> None:
        self._run = run
        self._log = log
        self._cgroup_parent = cgroup_parent.rstrip("/") or "/pyd"
        self._launcher = launcher
        self._layout = discover()
        if realtime[0]:
            self._layout["realtime"] = (realtime[0], realtime[1] or 1_000_000)
        if not self._layout["v1"] and self._layout["v2"] is None:
            raise Declined("no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup")
        if os.geteuid() != 0:
            raise Declined("containers need root; rootless operation is not offered by this backend")
        self._own_capabilities = _bounding_set()
        self._records = run / "containers"
        self._records.mkdir(mode=0o700, exist_ok=True)
        for half_written in self._records.glob(".*"):  # by a daemon that was killed
            half_written.unlink()
        self._zygote = Zygote([launcher], run, log)
        self._zygote.start()
        self._clients: dict[str, ShimClient] = {}
        self._known: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    # --- what a backend says -------------------------------------------------------------------------------------

    @abstractmethod
    def describe(self, container: str, sandbox: Sandbox) -> dict[str, Any]:
        """The plan of a container: ``stdio`` (`pyd_shim.plans.stdio`), ``cgroup`` (``layout`` and ``path``), ``root``, and
        what the launcher wants; ``build`` is handed over as a memfd, and what is in ``record`` is kept for `remove_rest`.

        Raises InvalidArgument and Unsupported.
        """

    @abstractmethod
    def describe_exec(self, container: str, execution: Execution) -> dict[str, Any]:
        """The plan of a further process: ``stdio``, ``build``, and what the launcher wants."""

    def remove_rest(self, container: str, record: Mapping[str, Any]) -> None:  # noqa: B027 - most have nothing more
        """Remove what this backend made besides what every one has; nothing there is fine. The shim has ended."""

    # --- create and start ----------------------------------------------------------------------------------------

    @hookimpl
    def isolation_create(self, container: str, sandbox: Sandbox) -> Created:
        """Describe (the plan), record, then let a new shim perform."""
        record = self._records / container
        if record.exists():
            raise AlreadyExists(f"container {container[:12]} is there already; delete it first")
        described = self.describe(container, sandbox)
        build = in_memory(described.pop("build"))
        try:
            try:
                return self._build(container, sandbox, described, build)
            except ShimGone as error:
                self._log.warning("create container %s: %s; once more", container[:12], error)
            try:
                return self._build(container, sandbox, described, build)
            except ShimGone as error:
                raise DriverFault(f"create container {container[:12]}: its shim ended: {error}") from error
        finally:
            os.close(build)

    def _build(self, container: str, sandbox: Sandbox, described: dict[str, Any], build: int) -> Created:
        """Record, then let a new shim perform; nothing is left of a failure. Raises ShimGone when the shim or the zygote
        was killed meanwhile."""
        self._write_record(container, sandbox, described)
        try:
            client = self._zygote.spawn(container, sandbox.bundle, sandbox.state, self._launcher)
        except BaseException:
            self._forget(container)
            raise
        try:
            answer = client.ask({"op": "create", "plan": described}, (build,))
        except ShimGone:
            client.close()
            self._remove_leftovers(container)
            raise
        except PydError:
            if self._tell_delete(client):
                client.wait_gone(_GONE_SECONDS)
            client.close()
            self._remove_leftovers(container)
            raise
        with self._lock:
            self._clients[container] = client
        return Created(answer["pid"], Path(answer["netns"]), tuple(answer["warnings"]))

    @hookimpl
    def isolation_start(self, container: str) -> None:
        """Let the program run."""
        self._ask(container, {"op": "start"}, "start")

    @hookimpl
    def isolation_exec(self, container: str, exec_id: str, execution: Execution) -> int:
        """Run a further process; its clients' descriptors travel with the request."""
        # In a frozen group the process would stop before it can say that it is ready, and the shim with it.
        if Group(self._layout, self._record(container)["cgroup"]).frozen():
            raise FailedPrecondition(f"exec: container {container[:12]} is paused; resume it first")
        described = self.describe_exec(container, execution)
        build = in_memory(described.pop("build"))
        request = {
            "op": "exec",
            "process": exec_id,
            "plan": described,
            "connections": [describe(each) for each in execution.connections],
        }
        try:
            fds = (*(each.fd for each in execution.connections), build)
            pid: int = self._ask(container, request, "exec", fds)["pid"]
        finally:
            os.close(build)
        return pid

    # --- while it runs -------------------------------------------------------------------------------------------

    @hookimpl
    def isolation_attach(self, container: str, process: str, connection: Connection) -> None:
        """Hand the client's stream to the shim: this process is out of the data path."""
        request = {"op": "attach", "process": process, "connection": describe(connection)}
        self._ask(container, request, "attach", (connection.fd,))

    @hookimpl
    def isolation_resize(self, container: str, process: str, height: int, width: int) -> None:
        """Set a terminal's size."""
        self._ask(container, {"op": "resize", "process": process, "height": height, "width": width}, "resize")

    @hookimpl
    def isolation_kill(self, container: str, process: str, signal: int, everyone: bool) -> None:
        """Send a signal."""
        request = {"op": "kill", "process": process, "signal": signal, "everyone": everyone}
        self._ask(container, request, "kill")

    @hookimpl
    def isolation_freeze(self, container: str, frozen: bool) -> None:
        """By the cgroup freezer."""
        state = self.isolation_state(container, INIT)
        if state.status not in ((Status.RUNNING,) if frozen else (Status.RUNNING, Status.PAUSED)):
            raise FailedPrecondition(f"freeze: container {container[:12]} is {state.status.value}")
        try:
            Group(self._layout, self._record(container)["cgroup"]).freeze(frozen)
        except OSError as error:
            raise from_oserror(error, f"{'freeze' if frozen else 'thaw'} container {container[:12]}") from error

    @hookimpl
    def isolation_exit_fd(self, container: str, process: str) -> int:
        """A connection of its own, on which the shim tells the end."""
        record = self._record(container)
        try:
            client = ShimClient.connect(Path(record["bundle"]), container)
        except ShimGone:
            return _readable_fd()
        try:
            answer = client.ask({"op": "watch", "process": process})
        except ShimGone:
            client.close()
            return _readable_fd()
        if answer["exited"]:
            client.close()
            return _readable_fd()
        return client.detach_fd()

    @hookimpl
    def isolation_state(self, container: str, process: str) -> State:
        """Ask the shim; when there is none, the exit file."""
        record = self._record(container)
        try:
            answer = self._ask_shim(container, {"op": "state", "process": process})
        except ShimGone:
            return self._state_from_file(container, process, record)
        if answer["status"] == "stopped":
            return _stopped(answer)
        if process == INIT and answer["status"] == "running" and Group(self._layout, record["cgroup"]).frozen():
            return State(Status.PAUSED, answer["pid"])
        return State(Status(answer["status"]), answer["pid"])

    def _state_from_file(self, container: str, process: str, record: Mapping[str, Any]) -> State:
        try:
            with open(Path(record["state"]) / EXIT_FILE, encoding="utf-8") as file:
                ending = json.load(file)
            if process == INIT:
                return _stopped(ending)
            if process in ending["execs"]:
                return _stopped(ending["execs"][process])
            raise NotFound(f"no process {process!r} in container {container[:12]}")
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError) as error:
            self._log.warning("exit status of %s cannot be read: %s", container[:12], error)
        # The shim was killed: what it left running has nobody to answer for it (its init dies with it by PDEATHSIG).
        Group(self._layout, record["cgroup"]).signal(signals.SIGKILL)
        return State(Status.STOPPED, 0, error="the container's supervisor was killed")

    @hookimpl
    def isolation_update(self, container: str, resources: Mapping[str, object]) -> Sequence[str]:
        """Write the control files, all or none."""
        self._running(container, "update")
        group = Group(self._layout, self._record(container)["cgroup"])
        try:
            return limits.change(group, resources)
        except OSError as error:
            raise InvalidArgument(
                f"update container {container[:12]}: {(error.strerror or '').lower()} ({error.filename}); nothing is changed"
            ) from error

    @hookimpl
    def isolation_statistics(self, container: str) -> Statistics:
        """Read the control groups and the network namespace."""
        pid = self._running(container, "statistics")
        return statistics(Group(self._layout, self._record(container)["cgroup"]), pid)

    def _running(self, container: str, doing: str) -> int:
        """The pid of a running container's init."""
        state = self.isolation_state(container, INIT)
        if state.status not in (Status.RUNNING, Status.PAUSED):
            raise FailedPrecondition(f"{doing}: container {container[:12]} is {state.status.value}")
        return state.pid

    # --- the end -------------------------------------------------------------------------------------------------

    @hookimpl
    def isolation_delete(self, container: str) -> None:
        """End the shim, then remove what is left by name; nothing there is fine."""
        if not (self._records / container).exists():
            return
        try:
            self._ask_shim(container, {"op": "delete"})
        except ShimGone:
            pass
        else:
            client = self._clients.get(container)
            if client is not None and not client.wait_gone(_GONE_SECONDS):
                raise DriverFault(f"delete container {container[:12]}: its shim did not end")
        self._remove_leftovers(container)

    @hookimpl
    def isolation_walk(self) -> Iterable[str]:
        """All containers with a record."""
        return sorted(entry.name for entry in os.scandir(self._records) if not entry.name.startswith("."))

    @hookimpl
    def isolation_close(self) -> None:
        """Close connections and let the zygote end; containers run on."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
        self._zygote.close()
        if not any(True for _ in self.isolation_walk()):
            Group(self._layout, f"{self._cgroup_parent}/none").remove_parent()

    # --- helpers -------------------------------------------------------------------------------------------------

    def _ask(self, container: str, request: dict[str, Any], doing: str, fds: tuple[int, ...] = ()) -> dict[str, Any]:
        self._record(container)
        try:
            return self._ask_shim(container, request, fds)
        except ShimGone as error:
            raise FailedPrecondition(f"{doing}: container {container[:12]} is not running") from error

    def _ask_shim(self, container: str, request: dict[str, Any], fds: tuple[int, ...] = ()) -> dict[str, Any]:
        return self._client(container).ask(request, fds)

    def _client(self, container: str) -> ShimClient:
        """The connection to a shim; one that was made by an earlier daemon is found by its socket."""
        with self._lock:
            client = self._clients.get(container)
            if client is None:
                client = ShimClient.connect(Path(self._record(container)["bundle"]), container)
                self._clients[container] = client
            return client

    @staticmethod
    def _tell_delete(client: ShimClient) -> bool:
        try:
            client.ask({"op": "delete"})
        except (ShimGone, PydError):
            return False
        return True

    def _write_record(self, container: str, sandbox: Sandbox, described: dict[str, Any]) -> None:
        record = {
            "bundle": str(sandbox.bundle),
            "state": str(sandbox.state),
            "cgroup": described["cgroup"]["path"],
            "root": described["root"],
            **described.pop("record", {}),
        }
        path = self._records / f".{container}"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(sandbox.state / EXIT_FILE)  # of an earlier run
            path.write_text(json.dumps(record))
            path.rename(self._records / container)
        except OSError as error:
            raise from_oserror(error, f"record container {container[:12]} in {self._records}") from error

    def _record(self, container: str) -> dict[str, Any]:
        known = self._known.get(container)
        if known is not None:
            return known
        try:
            record: dict[str, Any] = json.loads((self._records / container).read_text())
        except FileNotFoundError:
            raise NotFound(f"no container {container[:12]}") from None
        except (OSError, ValueError) as error:
            raise DriverFault(f"read the record of container {container[:12]}: {error}") from error
        self._known[container] = record
        return record

    def _remove_leftovers(self, container: str) -> None:
        record = self._record(container)
        group = Group(self._layout, record["cgroup"])
        try:
            group.signal(signals.SIGKILL)
            self.remove_rest(container, record)
            group.remove()
        except OSError as error:
            raise from_oserror(error, f"remove cgroup {record['cgroup']} of container {container[:12]}") from error
        for remove, path in (
            (os.rmdir, record["root"]),
            (os.unlink, f"{record['bundle']}/{SOCKET}"),
            (os.unlink, f"{record['state']}/{EXIT_FILE}"),
            (os.unlink, f"{record['state']}/{EXIT_FILE}.new"),
        ):
            with contextlib.suppress(FileNotFoundError):
                remove(path)
        self._forget(container)

    def _forget(self, container: str) -> None:
        with self._lock:
            client = self._clients.pop(container, None)
            self._known.pop(container, None)
        if client is not None:
            client.close()
        (self._records / container).unlink(missing_ok=True)


def _stopped(answer: Mapping[str, Any]) -> State:
    return State(
        Status.STOPPED, 0, exit_code=answer["exit_code"], finished_at=answer["finished_at"],
        oom_killed=answer["oom_killed"], error=answer["failure"],
    )  # fmt: skip


def _readable_fd() -> int:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


def _bounding_set() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("CapBnd:"):
                return int(line.split()[1], 16)
    return 0
