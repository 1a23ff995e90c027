"""The daemon's side of the userland proxy: which sockets lead where, and a process that leads.

The daemon has a copy of each socket: when the process dies, who connects meanwhile waits until the next one goes on. A
process that an earlier daemon left gives its sockets back; it goes on as it is, or, after an upgrade, ends with its last
connection.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyd_contracts.errors import PydError, Unavailable
from pyd_engine.proxy import orders

__all__ = ["Bound", "Proxy", "Way"]

_BOOT = "import sys; sys.path[:0] = [{path!r}]; from pyd_engine.proxy.server import main; main()"
_NAME = "proxy.sock"
_PAUSE = 1.0
"""Seconds before a process that died is replaced."""
_PATIENCE = 3.0
"""Seconds for an answer of a process that an earlier daemon left."""
_BACKLOG = 1024
_HOLDER = re.compile(r"/proc/([0-9]+)/ns/net\Z")

Bound = tuple[str, str, int]
"""Protocol, address and port of a socket."""


@dataclass(frozen=True, slots=True)
class Way:
    """A bound socket, and the address and port of a container that it leads to."""

    protocol: str
    socket: socket.socket
    address: str
    port: int


@dataclass(slots=True)
class _Led:
    ways: Sequence[Way]
    lease: int  # a pidfd, -1 for none

    def close(self) -> None:
        if self.lease >= 0:
            os.close(self.lease)


class Proxy:
    """Ports by endpoint. Methods may be called from any thread and block for milliseconds at most."""

    def __init__(self, run: Path, log: logging.Logger) -> None:
        self._path = run / _NAME
        self._log = log
        self._lock = threading.Condition(threading.RLock())
        self._leaving: set[str] = set()
        self._led: dict[str, _Led] = {}
        self._left: dict[Bound, socket.socket] = {}
        self._strangers: set[str] = set()
        self._closed_subnets: Sequence[str] = ()
        self._connection: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()

    # --- an earlier daemon's process -----------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Take over what an earlier daemon's process has. Call it before everything else."""
        with self._lock:
            connection = self._found()
            if connection is None:
                return
            try:
                hello, _ = orders.receive(connection)
                if not hello:  # it was about to end
                    connection.close()
                    return
                orders.send(connection, {"op": "show"})
                while "end" not in (shown := self._shown(connection)):
                    self._strangers.add(shown["endpoint"])
                if hello["code"] == orders.code():
                    self._connected(connection)
                    return
                orders.send(connection, {"op": "retire"})
                self._strangers.clear()
            except (OSError, ValueError, KeyError, PydError) as error:
                self._log.warning("the userland proxy of the daemon before does not answer (%s): ending it", error)
                _end(connection)
            connection.close()

    def _found(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(os.fspath(self._path))
        except OSError:  # no such file, or nobody behind it
            connection.close()
            return None
        return connection

    def _shown(self, connection: socket.socket) -> Mapping[str, Any]:
        words, fds = orders.receive(connection)
        if not words:
            raise Unavailable("it ended")
        for fd, (protocol, _, _) in zip(fds, words.get("ports", ()), strict=True):
            left = socket.socket(fileno=fd)
            self._left[protocol, *left.getsockname()[:2]] = left
        return words

    def left(self, bound: Bound) -> socket.socket | None:
        """The socket an earlier daemon's process had; it is the caller's then."""
        with self._lock:
            return self._left.pop(bound, None)

    def settle(self) -> None:
        """What nobody has asked for again goes."""
        with self._lock:
            for endpoint in self._strangers.difference(self._led):
                self._tell_to_leave(endpoint)
            self._strangers.clear()
            while self._left:
                self._left.popitem()[1].close()

    # --- ports -------------------------------------------------------------------------------------------------------

    def lead(self, endpoint: str, ways: Sequence[Way], netns: Path) -> None:
        """Lead what comes to these sockets. *netns* names the process that ends with the container, where it can."""
        for way in ways:
            if way.protocol == "tcp":
                # Nobody else gets the port while it listens. What lingers of its connections (TIME_WAIT) inherits this, and
                # without it would be in the way when the port is bound again.
                way.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                way.socket.listen(_BACKLOG)
        with self._lock:
            before = self._led.pop(endpoint, None)
            if before is not None:
                before.close()
            self._led[endpoint] = _Led(ways, _lease(netns))
            if self._connection is None:
                self._start()
            else:
                self._tell_all(endpoint)

    def leave(self, endpoint: str) -> None:
        """Lead no more; the sockets stay bound. One that is not led is fine."""
        with self._lock:
            led = self._led.pop(endpoint, None)
            if led is None:
                return
            led.close()
            for way in led.ways:
                if way.protocol == "tcp" and way.socket.fileno() >= 0:
                    with contextlib.suppress(OSError):  # it does not listen
                        way.socket.shutdown(socket.SHUT_RD)
                    way.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            self._tell_to_leave(endpoint)

    def freed(self) -> bool:
        """Wait until the process has let go of what it was told to leave; whether there was any, and it has.

        For who finds a port taken: the process has a copy of each socket, and closes it a moment later.
        """
        with self._lock:
            return bool(self._leaving) and self._lock.wait_for(lambda: not self._leaving, _PATIENCE)

    def close_to(self, subnets: Sequence[str]) -> None:
        """Whoever has an address of these reaches no published port: internal networks."""
        with self._lock:
            if sorted(subnets) != sorted(self._closed_subnets):
                self._closed_subnets = tuple(subnets)
                self._tell({"op": "closed", "subnets": list(subnets)})

    def close(self, *, end: bool = False) -> None:
        """Let go: ports of running containers go on without the daemon, unless all is to *end*. Twice is once."""
        self._closing.set()
        with self._lock:
            for endpoint in [*self._led, *self._strangers] if end else ():
                self._tell({"op": "leave", "endpoint": endpoint})
            idle = end or not self._led
            for led in self._led.values():
                led.close()
            self._led.clear()
            connection, self._connection = self._connection, None
            child, self._child = self._child, None
            if connection is not None:
                connection.shutdown(socket.SHUT_RDWR)
        if idle and child is not None:
            try:
                child.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if idle:
            self._path.unlink(missing_ok=True)

    # --- the process -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """A process that knows everything. It meets this daemon first: so it ends when we do, whenever that is."""
        self._path.unlink(missing_ok=True)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as entrance:
                os.fchmod(
                    entrance.fileno(), 0o600
                )  # the file that bind(2) makes has this mode from its first moment on
                entrance.bind(os.fspath(self._path))
                entrance.listen(4)
                connection.connect(os.fspath(self._path))
                self._child = _spawn(entrance, self._path)
        except BaseException:
            connection.close()
            raise
        self._connected(connection)
        for endpoint in self._led:
            self._tell_all(endpoint)

    def _connected(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(_PATIENCE), 0))
        self._connection = connection
        self._tell({"op": "closed", "subnets": list(self._closed_subnets)})
        threading.Thread(target=self._watch, args=(connection, self._child), name="pyd-proxy", daemon=True).start()

    def _watch(self, connection: socket.socket, child: subprocess.Popen[bytes] | None) -> None:
        """Wait for the end of the process. It may end by itself, when nothing is led any more."""
        with contextlib.suppress(OSError, ValueError):
            while words := orders.receive(connection)[0]:
                with self._lock:
                    self._leaving.discard(words.get("left", ""))
                    self._lock.notify_all()
        status = child.wait() if child is not None and not self._closing.is_set() else 0
        if status:
            self._log.error("the userland proxy ended with status %d", status)
            self._closing.wait(_PAUSE)
        with self._lock, connection:
            if self._closing.is_set() or self._connection is not connection:
                return
            self._leaving.clear()
            self._lock.notify_all()
            self._connection = self._child = None
            if self._led:
                self._start()
            else:
                self._path.unlink(missing_ok=True)

    def _tell_all(self, endpoint: str) -> None:
        led = self._led[endpoint]
        if led.lease >= 0:
            self._tell({"op": "lease", "endpoint": endpoint}, [led.lease])
        for first in range(0, len(led.ways), orders.BATCH):
            batch = led.ways[first : first + orders.BATCH]
            ports = [[way.protocol, way.address, way.port] for way in batch]
            order = {"op": "lead", "endpoint": endpoint, "ports": ports}
            self._tell(order, [way.socket.fileno() for way in batch])

    def _tell_to_leave(self, endpoint: str) -> None:
        if self._connection is not None:
            self._leaving.add(endpoint)
        self._tell({"op": "leave", "endpoint": endpoint})

    def _tell(self, order: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        if self._connection is None:
            return  # told when it is started
        try:
            orders.send(self._connection, order, fds)
        except OSError as error:  # `_watch` starts another one, which is told everything
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                self._log.warning("the userland proxy takes no orders (%s): ending it", error.strerror)
                _end(self._connection)


def _spawn(entrance: socket.socket, name: Path) -> subprocess.Popen[bytes]:
    """The process; *name* shows in process lists whose it is."""
    import pyd_engine

    path = str(Path(str(pyd_engine.__file__)).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", _BOOT.format(path=path), name], stdin=entrance.fileno(),
        stdout=subprocess.DEVNULL, env={"LC_ALL": "C.UTF-8"}, cwd="/", start_new_session=True,
    )  # fmt: skip


def _end(connection: socket.socket) -> None:
    """End a process that does not answer: who has called listen(2), unix(7) says."""
    size = struct.calcsize("3i")
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            if b"pyd_engine.proxy" in Path(f"/proc/{pid}/cmdline").read_bytes():
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                select.select([fd], [], [], _PATIENCE)  # its sockets are free then
        finally:
            os.close(fd)


def _lease(netns: Path) -> int:
    """A pidfd of the process that *netns* leads by; -1 where it does not: then the port ends when a daemon says so."""
    found = _HOLDER.match(os.fspath(netns))
    if found is None:
        return -1
    try:
        return os.pidfd_open(int(found[1]))
    except OSError:
        return -1
