"""The shim: the process that owns one running container.

It holds the container's pipes or terminal, spools the output, serves clients, reaps the processes, and writes the exit
status to disk before it tells anyone. It is nobody's child but init's once the daemon and the zygote are gone, and it
answers on a socket of its own, so that the next daemon finds it.

How a container is built is not known here: a *launcher* module of the isolation driver does that
(`pyd_isolation_namespaces.launcher` is one). It provides::

    def warm() -> object    prepares what every container needs, in a shim that waits for its container; a process that it
                            begins ends when the object is gone
    class Launcher:
        def __init__(self, plan, bundle, warmth): ...
        def create(self, ends: Ends) -> Child          builds a blocked process; raises LaunchError
        def start(self) -> None                        lets it run; raises LaunchError when execve failed
        def execute(self, plan, ends: Ends) -> Child   a further process
        def kill_everyone(self, signal) -> None
        def oom_killed(self) -> bool
        def cleanup(self) -> None                      removes what create made and leaves the container's namespaces; called
                                                   when the init is gone
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from pyd_shim import kernel, message
from pyd_shim.ends import Child, Ends, LaunchError
from pyd_shim.spool import SpoolWriter
from pyd_shim.streams import Client, Loop, Wires

__all__ = ["EXIT_FILE", "SOCKET", "run"]

SOCKET = "shim.sock"
"""The name of a shim's socket in the container's bundle directory."""
EXIT_FILE = "exit.json"
"""The name of the exit status in the container's state directory."""
INIT = ""
MAX_PROCESSES = 256
"""How many processes are kept in mind; beyond that the oldest one that has ended is forgotten."""
DRAIN_SECONDS = 2.0
"""How long the end of a process waits for others that hold its pipes (as dockerd waits for an exec's streams)."""
LOOK_SECONDS = 0.1
"""How often a full spool is looked at whose reader the container waits for."""


class Process:
    """One process of the container, from its creation until its end was told."""

    def __init__(self, child: Child, wires: Wires) -> None:
        self.pid = child.pid
        self.pidfd = child.pidfd
        self.wires = wires
        self.watchers: list[socket.socket] = []
        self.exit_code: int | None = None
        self.finished_at = 0.0
        self.deadline = 0.0
        self.published = False
        self.oom_killed = False
        self.error = ""


class Supervisor:
    """The shim's state and its loop."""

    def __init__(self, request: dict[str, str], warmth: Any) -> None:
        self.warmth = warmth
        self.container = request["container"]
        self.bundle = request["bundle"]
        self.state_dir = request["state"]
        self.loop = Loop()
        self.launcher_module = request["launcher"]
        self.launcher: Any = None
        self.processes: dict[str, Process] = {}
        self.status = "creating"
        self.created: dict[str, Any] = {}
        self.controls: set[socket.socket] = set()
        self.failed = False  # its start: the init ends, or has ended
        self.deleting = False
        self.cleaned = False
        self._listen()

    # --- control connections -------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Be found under bundle/shim.sock; through a descriptor, as paths of sockets may have 107 bytes only."""
        directory = os.open(self.bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        mask = os.umask(0o177)
        self.listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
        os.umask(mask)
        self.listener.listen(64)
        self.listener.setblocking(False)
        os.close(directory)
        self.loop.watch(self.listener.fileno(), select.EPOLLIN, self._accept)

    def _accept(self, _mask: int) -> None:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        """Answer requests on *connection* until it is closed."""
        message.make_roomy(connection)
        self.controls.add(connection)

        def on_event(_mask: int) -> None:
            try:
                request, fds = message.receive(connection)
            except OSError:
                request, fds = None, []
            if request is None:
                self._hang_up(connection)
                return
            self._answer(connection, request, fds)

        self.loop.watch(connection.fileno(), select.EPOLLIN, on_event)

    def _hang_up(self, connection: socket.socket) -> None:
        if connection in self.controls:
            self.controls.discard(connection)
            self.loop.forget(connection.fileno())
            for process in self.processes.values():
                if connection in process.watchers:
                    process.watchers.remove(connection)
            connection.close()

    def _answer(self, connection: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
        try:
            handler = getattr(self, f"do_{request['op']}")
            answer = handler(connection, request, fds) or {}
        except LaunchError as error:
            answer = {"error": error.kind, "message": str(error)}
        except OSError as error:
            answer = {"error": "internal", "message": f"{request['op']}: {error.strerror or error}"}
        except Exception as error:  # noqa: BLE001 - a fault in one request must not take the container along
            sys.stderr.write(f"pyd-shim {self.container[:12]}: {request.get('op')}: {type(error).__name__}: {error}\n")
            answer = {"error": "internal", "message": f"{request.get('op')}: {type(error).__name__}: {error}"}
        finally:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)
        try:
            message.send(connection, answer)
        except OSError:
            self._hang_up(connection)

    # --- requests ------------------------------------------------------------------------------------------------

    def do_create(self, _connection: socket.socket, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Build the container; its program waits. A descriptor that comes along is the plan's ``build_fd``."""
        plan = request["plan"]
        if fds:
            plan["build_fd"] = fds[0]
        module = importlib.import_module(self.launcher_module)
        self.launcher = module.Launcher(plan, self.bundle, self.warmth)
        kernel.set_process_name(b"pyd-shim")
        self._set_aside()
        spool = SpoolWriter(plan["stdio"]["spool"]) if plan["stdio"].get("spool") else None
        child = self._launch(INIT, plan["stdio"], spool, self.launcher.create)
        self.status = "created"
        kernel.malloc_trim()
        self.created = {"pid": child.pid, "netns": f"/proc/{os.getpid()}/ns/net", "warnings": child.warnings}
        return self.created

    def do_start(self, _connection: socket.socket, _request: dict[str, Any], _fds: list[int]) -> None:
        """Let the program run."""
        if self.status != "created":
            raise LaunchError("failed-precondition", f"start: the container is {self.status}")
        self.status = "running"
        try:
            self.launcher.start()
        except LaunchError as error:
            self.processes[INIT].error = str(error)
            self.failed = True
            raise

    def do_exec(self, _connection: socket.socket, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Run a further process, with the clients whose descriptors came along wired to it."""
        if self.status != "running":
            raise LaunchError("failed-precondition", f"exec: the container is {self.status}")
        name = request["process"]
        if name in self.processes:
            raise LaunchError("already-exists", f"exec {name}: it was run before")
        clients = list(zip(request["connections"], [fds.pop(0) for _ in request["connections"]], strict=True))
        if fds:
            request["plan"]["build_fd"] = fds[0]

        def launch(ends: Ends) -> Child:
            child: Child = self.launcher.execute(request["plan"], ends)
            return child

        try:
            child = self._launch(name, request["plan"]["stdio"], None, launch, clients)
        except BaseException:
            for _, fd in clients:
                os.close(fd)
            raise
        return {"pid": child.pid}

    def do_attach(self, _connection: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
        """Wire a client to a process."""
        process = self._alive(request["process"], "attach")
        self._wire(process.wires, request["connection"], fds.pop(0))

    def do_resize(self, _connection: socket.socket, request: dict[str, Any], _fds: list[int]) -> None:
        """Set a terminal's size."""
        process = self._alive(request["process"], "resize")
        if not process.wires.resize(request["height"], request["width"]):
            raise LaunchError("invalid-argument", "resize: the process has no terminal")

    def do_kill(self, _connection: socket.socket, request: dict[str, Any], _fds: list[int]) -> None:
        """Send a signal through the pidfd, so that no recycled pid is hit, or to everyone."""
        process = self._alive(request["process"], "kill")
        if request["everyone"]:
            self.launcher.kill_everyone(request["signal"])
            return
        try:
            signal.pidfd_send_signal(process.pidfd, request["signal"])
        except ProcessLookupError:
            raise LaunchError("failed-precondition", "kill: the process has ended") from None

    def do_state(self, _connection: socket.socket, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        """Say how a process is."""
        process = self.processes.get(request["process"])
        if process is None:
            raise LaunchError("not-found", f"no process {request['process']!r} in container {self.container[:12]}")
        if process.published:
            return {"status": "stopped", **self._ending(process)}
        status = self.status if request["process"] == INIT else "running"
        return {"status": status, "pid": process.pid, "created": self.created}

    def do_watch(self, connection: socket.socket, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        """Tell this connection when a process ends: the message comes after this answer, or with it."""
        process = self.processes.get(request["process"])
        if process is None or process.published:
            return {"exited": True}
        process.watchers.append(connection)
        return {"exited": False}

    def do_delete(self, _connection: socket.socket, _request: dict[str, Any], _fds: list[int]) -> None:
        """End this shim: the container has stopped, or never started."""
        init = self.processes.get(INIT)
        if init is not None and not init.published:
            if self.status == "running" and not self.failed:
                raise LaunchError("failed-precondition", "delete: the container is running")
            if init.exit_code is None:
                signal.pidfd_send_signal(init.pidfd, signal.SIGKILL)
        self.deleting = True

    # --- processes -----------------------------------------------------------------------------------------------

    def _alive(self, name: str, doing: str) -> Process:
        process = self.processes.get(name)
        if process is None:
            raise LaunchError("not-found", f"{doing}: no process {name!r} in container {self.container[:12]}")
        if process.exit_code is not None:
            raise LaunchError("failed-precondition", f"{doing}: the process has ended")
        return process

    def _launch(
        self, name: str, stdio: dict[str, Any], spool: SpoolWriter | None, launch: Any,
        clients: list[tuple[dict[str, Any], int]] | None = None,
    ) -> Child:  # fmt: skip
        ends = Ends(terminal=stdio["terminal"], stdin=stdio["stdin"])
        try:
            child: Child = launch(ends)
        except BaseException:
            ends.close()
            raise
        sources, sink = ends.take_shim_side()
        process_box: list[Process] = []
        wires = Wires(
            self.loop, sources, sink, terminal=stdio["terminal"], stdin_once=stdio["stdin_once"], spool=spool,
            on_change=lambda: self._changed(process_box[0]) if process_box else None,
        )  # fmt: skip
        if stdio["terminal"] and stdio.get("height") and stdio.get("width"):
            wires.resize(stdio["height"], stdio["width"])
        process = Process(child, wires)
        process_box.append(process)
        self.processes[name] = process
        for described, fd in clients or ():
            self._wire(wires, described, fd)
        self.loop.watch(child.pidfd, select.EPOLLIN, lambda _mask: self._ended(process))
        return child

    @staticmethod
    def _wire(wires: Wires, described: dict[str, Any], fd: int) -> None:
        streams = frozenset(number for number, key in ((1, "stdout"), (2, "stderr")) if described[key])
        wires.add(
            Client(
                wires,
                socket.socket(fileno=fd),
                stdin=described["stdin"],
                streams=streams,
                framed=described["framed"],
                detach_keys=base64.b64decode(described["detach_keys"]),
                early=base64.b64decode(described["early"]),
            )
        )

    def _ended(self, process: Process) -> None:
        """A process is gone: reap it, read what it left in its pipes."""
        self.loop.forget(process.pidfd)
        result = os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED)
        os.close(process.pidfd)
        assert result is not None
        process.exit_code = result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status
        process.finished_at = time.time()
        process.deadline = time.monotonic() + DRAIN_SECONDS
        process.wires.drain()
        self._changed(process)

    def _changed(self, process: Process) -> None:
        if process.exit_code is None or process.published:
            return
        if process.wires.drained or time.monotonic() >= process.deadline:
            self._publish(process)

    def _ending(self, process: Process) -> dict[str, Any]:
        return {
            "exit_code": process.exit_code,
            "finished_at": process.finished_at,
            "oom_killed": process.oom_killed,
            "failure": process.error,
        }

    def _publish(self, process: Process) -> None:
        """Tell that a process has ended: on disk first, then to who watches, then by closing the streams."""
        process.published = True
        init = process is self.processes.get(INIT)
        if init:
            self.status = "stopped"
            process.oom_killed = self.launcher.oom_killed()
        if self.status == "stopped":
            self._write_exit()
        for watcher in process.watchers:
            try:
                message.send(watcher, {"exited": True})
            except OSError:
                pass  # that daemon is gone; the next one reads the file
        process.wires.finish()
        if init and not self.cleaned:
            self._clean()
        if len(self.processes) > MAX_PROCESSES:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        """A health check every second must not let this process grow for ever."""
        for name, process in self.processes.items():
            if name != INIT and process.published and not process.wires.clients:
                del self.processes[name]
                return

    def _write_exit(self) -> None:
        """exit.json by rename: a reader sees all of it or none; further processes are in it, for who asks when this one
        has ended. No fsync before the news goes out: that protects from a power cut, after which the container is gone
        anyway, and would cost more than running it."""
        execs = {name: self._ending(p) for name, p in self.processes.items() if name != INIT and p.published}
        path = f"{self.state_dir}/{EXIT_FILE}"
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            ending = self._ending(self.processes[INIT])
            try:
                written = os.write(fd, json.dumps({**ending, "execs": execs}).encode())
            except OSError:  # more than was set aside, on a full disk: how the container ended matters most
                written = os.pwrite(fd, json.dumps({**ending, "execs": {}}).encode(), 0)
            os.ftruncate(fd, written)
        finally:
            os.close(fd)
        os.rename(f"{path}.new", path)

    def _set_aside(self) -> None:
        """Take the space of the exit status while there is some: the container may be what fills the disk."""
        fd = os.open(f"{self.state_dir}/{EXIT_FILE}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, 4096)
        finally:
            os.close(fd)

    def _clean(self) -> None:
        self.cleaned = True
        self.launcher.cleanup()
        spool = self.processes[INIT].wires.spool
        if spool is not None:
            spool.close()

    # --- loop ----------------------------------------------------------------------------------------------------

    def _timeout(self) -> float | None:
        waiting = [p.deadline for p in self.processes.values() if p.exit_code is not None and not p.published]
        seconds = max(0.0, min(waiting) - time.monotonic()) if waiting else None
        if any(p.wires.spool_full for p in self.processes.values()):
            return LOOK_SECONDS if seconds is None else min(seconds, LOOK_SECONDS)
        return seconds

    @property
    def done(self) -> bool:
        """Nothing is left to do: the init has ended, every client has its output, or the container is deleted."""
        init = self.processes.get(INIT)
        if init is None:
            return self.deleting or not self.controls
        if not init.published:
            return False
        return self.deleting or not any(p.wires.clients or not p.published for p in self.processes.values())

    def run(self) -> None:
        """Serve until done."""
        while not self.done:
            self.loop.run_once(self._timeout())
            for process in tuple(self.processes.values()):
                process.wires.look()
                self._changed(process)
        if self.launcher is not None and not self.cleaned:
            self.launcher.cleanup()
        try:
            os.unlink(f"{self.bundle}/{SOCKET}")
        except OSError:
            pass  # the daemon removed the bundle
        os._exit(0)


def run(connection: socket.socket, request: dict[str, str], warmth: Any) -> None:
    """Be the shim of one container; *connection* is the daemon's first control connection. Does not return."""
    supervisor = Supervisor(request, warmth)
    supervisor.serve(connection)
    supervisor.run()
