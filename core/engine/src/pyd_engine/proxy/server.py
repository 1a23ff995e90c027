"""The proxy's process: one for each daemon, while there are ports that need it.

It outlives the daemon, as containers do: the next daemon finds it by the socket that is its standard input, a listening one
with a name in the run root. A port ends when it is told so, or with the container, whatever became of the daemon; without
ports the process ends. It takes no orders from anybody but root and needs no privileges itself: it gives them up.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from pyd_engine.proxy import orders
from pyd_engine.proxy.datagrams import Port
from pyd_engine.proxy.dispatch import IN, Dispatcher
from pyd_engine.proxy.streams import Listener, Pipes, Place

__all__ = ["Server", "main"]

_NOBODY = 65534
_RESERVE = 64
"""Descriptors that are left to everything else."""


class _Endpoint:
    """*lease*: the process that ends with the container, -1: not known."""

    __slots__ = ("lease", "ports")

    def __init__(self) -> None:
        self.lease = -1
        self.ports: dict[tuple[str, Any], Listener | Port] = {}


class Server:
    """All ports of a daemon."""

    def __init__(self, code: str, limit: int | None = None) -> None:
        self._code = code
        self._dispatcher = Dispatcher()
        self._pipes = Pipes()
        self._endpoints: dict[str, _Endpoint] = {}
        self._daemon: socket.socket | None = None
        self._closed: list[IPv4Network | IPv6Network] = []
        self._limit = (limit or resource.getrlimit(resource.RLIMIT_NOFILE)[0]) - _RESERVE
        self._waiting = False  # somebody was left waiting
        self._retired = False
        self._met = False  # a daemon was here

    # --- how much this process takes on (`streams.Room`) -------------------------------------------------------------

    def has_room(self) -> bool:
        """Two descriptors for a connection, and perhaps a pipe."""
        return len(self._dispatcher) + 4 <= self._limit

    def full(self) -> None:
        """Nobody is accepted until there is room for some."""
        if not self._waiting:
            self._waiting = True
            with contextlib.suppress(OSError):  # who read it may have ended with the daemon
                sys.stderr.write("pyd: the userland proxy has no descriptors left: connections have to wait\n")
            for port in self._ports():
                port.pause()

    def left(self) -> None:
        """Go on accepting when a tenth is free."""
        if self._waiting and len(self._dispatcher) < self._limit - self._limit // 10:
            self._waiting = False
            for port in self._ports():
                port.resume()

    def admits(self, sender: str) -> bool:
        """Whoever is on an internal network reaches no published port; others do."""
        if not self._closed:
            return True
        address = ip_address(sender)
        return not any(address in subnet for subnet in self._closed if subnet.version == address.version)

    # --- the life of the process -------------------------------------------------------------------------------------

    def serve(self, entrance: socket.socket) -> None:
        """Serve until nothing is left to do. Daemons come by *entrance*."""
        entrance.setblocking(False)
        self._dispatcher.watch(entrance.fileno(), IN, functools.partial(self._welcome, entrance))
        while not self._is_done():
            self._dispatcher.turn(self._pause())
        self._dispatcher.forget(entrance.fileno())
        self._part()
        for endpoint in list(self._endpoints):
            self._leave(endpoint)
        self._pipes.close()
        self._dispatcher.close()

    def _is_done(self) -> bool:
        if self._retired:
            return not any(map(len, self._ports()))
        return self._met and not self._endpoints

    def _pause(self) -> float | None:
        now = time.monotonic()
        due = [port.expire(now) for port in self._ports() if isinstance(port, Port) and len(port)]
        return min((each - now for each in due if each is not None), default=None)

    def _ports(self) -> list[Listener | Port]:
        return [port for endpoint in self._endpoints.values() for port in endpoint.ports.values()]

    def _welcome(self, entrance: socket.socket, _events: int) -> None:
        """A daemon; there is one at a time, and the later one counts."""
        with contextlib.suppress(OSError):
            connection, _ = entrance.accept()
            self._part()
            connection.setblocking(False)
            self._daemon = connection
            self._dispatcher.watch(connection.fileno(), IN, self._told)
            orders.send(connection, {"pid": os.getpid(), "code": self._code})

    def _part(self) -> None:
        if self._daemon is not None:
            self._dispatcher.forget(self._daemon.fileno())
            self._daemon.close()
            self._daemon = None

    # --- orders ------------------------------------------------------------------------------------------------------

    def _told(self, _events: int) -> None:
        assert self._daemon is not None
        try:
            order, fds = orders.receive(self._daemon)
        except BlockingIOError:
            return
        except OSError:
            order, fds = {}, []
        if not order:
            self._met = True
            self._part()
            return
        self.order(order, fds)

    def order(self, order: dict[str, Any], fds: list[int]) -> None:
        """Carry out one message."""
        match order["op"]:
            case "lease":
                self._lease(order["endpoint"], *fds)
            case "lead":
                for (protocol, address, port), fd in zip(order["ports"], fds, strict=True):
                    self._lead(order["endpoint"], protocol, (address, port), socket.socket(fileno=fd))
            case "leave":
                self._leave(order["endpoint"])
                self._say_left(order["endpoint"])
            case "closed":
                self._closed = [ip_network(each) for each in order["subnets"]]
            case "show":
                self._show()
            case "retire":
                self._retire()

    def _lease(self, name: str, fd: int) -> None:
        endpoint = self._endpoints.setdefault(name, _Endpoint())
        if endpoint.lease >= 0:
            self._dispatcher.forget(endpoint.lease)
            os.close(endpoint.lease)
        endpoint.lease = fd
        self._dispatcher.watch(fd, IN, lambda _events: self._leave(name))

    def _lead(self, name: str, protocol: str, place: Place, bound: socket.socket) -> None:
        """Asked again, what is there stays: connections go on when a daemon says what it wants once more."""
        ports = self._endpoints.setdefault(name, _Endpoint()).ports
        key = protocol, bound.getsockname()[:2]
        known = ports.get(key)
        if known is not None and known.place == place:
            known.resume()
            bound.close()
            return
        if known is not None:
            known.close()
        if protocol == "tcp":
            ports[key] = Listener(bound, place, self._dispatcher, self._pipes, self)
        else:
            ports[key] = Port(bound, place, self._dispatcher, self)

    def _leave(self, name: str) -> None:
        self._met = True
        endpoint = self._endpoints.pop(name, None)
        if endpoint is None:
            return
        for port in endpoint.ports.values():
            port.close()
        if endpoint.lease >= 0:
            self._dispatcher.forget(endpoint.lease)
            os.close(endpoint.lease)

    def _say_left(self, name: str) -> None:
        """Its ports are free for whoever waits for them."""
        if self._daemon is not None:
            with contextlib.suppress(OSError):  # it has ended, or does not listen: then it waits for nothing
                orders.send(self._daemon, {"left": name})

    def _show(self) -> None:
        """Blocks for as long as the daemon takes to read: it has nothing else to do."""
        assert self._daemon is not None
        self._daemon.setblocking(True)
        try:
            for name, endpoint in self._endpoints.items():
                ports = [each for each in endpoint.ports.values() if each.socket.fileno() >= 0]
                for first in range(0, len(ports), orders.BATCH):
                    batch = ports[first : first + orders.BATCH]
                    words = [[each.protocol, *each.place] for each in batch]
                    orders.send(
                        self._daemon, {"endpoint": name, "ports": words}, [each.socket.fileno() for each in batch]
                    )
            orders.send(self._daemon, {"end": True})
        except OSError:
            self._part()
            return
        self._daemon.setblocking(False)

    def _retire(self) -> None:
        """Another process has the sockets, and the name."""
        self._retired = True
        for port in self._ports():
            port.stop()
        self._part()


def _give_up_privileges() -> None:
    """Be nobody, whom nobody may trace: a change of ids makes a process undumpable (prctl(2), PR_SET_DUMPABLE)."""
    calls: list[Callable[[], None]] = [
        lambda: os.setgroups([]),
        lambda: os.setresgid(_NOBODY, _NOBODY, _NOBODY),
        lambda: os.setresuid(_NOBODY, _NOBODY, _NOBODY),
    ]
    for call in calls:
        with contextlib.suppress(OSError):  # a user namespace that has no such id
            call()


def main() -> None:
    """Serve what daemons ask for at the listening socket that is standard input."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with socket.socket(fileno=os.dup(0)) as entrance:
        entrance.listen(4)  # once more: SO_PEERCRED names who called it last
        server = Server(orders.code())
        _give_up_privileges()
        server.serve(entrance)
