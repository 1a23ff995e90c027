"""Ports of this host for containers: which are whose, and the sockets that keep other programs off them.

Packets hardly ever reach these sockets, for drivers lead them elsewhere before; what does is the userland proxy's
(`publishing`). They are bound and do not listen: so a port in use is told when a container starts, and a program that comes
later is told by the kernel. The sockets end with the daemon and are taken again at its next start; what leads to containers
meanwhile is the driver's and the proxy's, and stays.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from pyd_contracts.errors import InvalidArgument, ResourceExhausted
from pyd_contracts.values import PublishedPort
from pyd_engine.networks.records import IP, PortWish

__all__ = ["HostPorts"]

_PROTOCOLS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, 132),
}
_UNKNOWN = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)
_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
_EPHEMERAL_TRIES = 16
_MANY = 64
"""Ports at once for which it is looked beforehand whether there are descriptors enough."""
_RESERVE = 256
"""Descriptors that are left to everything else."""
_LISTEN = "0A"
_HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
_ANY: dict[int, IP] = {4: IPv4Address(0), 6: IPv6Address(0)}


@dataclass(slots=True)
class _Held:
    """*sockets*: none where this kernel does not know the protocol."""

    port: PublishedPort
    sockets: list[socket.socket] = field(default_factory=list)

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        self.sockets.clear()

    def meets(self, port: PublishedPort) -> bool:
        """Both want one and the same port."""
        mine = self.port
        return (
            (mine.protocol, mine.host.version) == (port.protocol, port.host.version)
            and (mine.host == port.host or mine.host.is_unspecified or port.host.is_unspecified)
            and mine.host_port < port.host_port + port.count
            and port.host_port < mine.host_port + mine.count
        )


class HostPorts:
    """The ports that endpoints have. The kernel decides who is first; nothing is called twice at once for one endpoint.

    left   the socket that somebody kept while no daemon ran, by protocol, address and port
    freed  waits for whoever shares sockets to let go of those that were given back; whether there were any
    """

    def __init__(
        self,
        left: Callable[[tuple[str, str, int]], socket.socket | None] | None = None,
        freed: Callable[[], bool] | None = None,
    ) -> None:
        self._freed = freed or (lambda: False)
        self._held: dict[str, list[_Held]] = {}
        self._left = left or (lambda _bound: None)

    def take(
        self,
        endpoint: str,
        wishes: Sequence[PortWish],
        versions: frozenset[int],
        options: Mapping[str, str] | None = None,
        proxied: frozenset[int] = frozenset(),
    ) -> tuple[PublishedPort, ...]:
        """Ports for an endpoint, all or none.

        versions  the families the container has addresses of
        proxied   families of the host whose ports lead to it all the same
        options   the network's: Docker's ``host_binding_ipv4`` is for wishes that name no address; drivers check it

        Raises ResourceExhausted in dockerd's words when one is taken, naming the holder, and when descriptors do not
        suffice.
        """
        host = (options or {}).get(_HOST_BINDING, "")
        if host and not ip_address(host).is_unspecified:
            wishes = [each if each.host else replace(each, host=host) for each in wishes]
        _check_room(wishes, versions | proxied)
        taken: list[_Held] = []
        self._held[endpoint] = taken
        try:
            for wish in wishes:
                self._take(taken, wish, versions if wish.protocol == "sctp" else versions | proxied)
        except BaseException:
            self.give_back(endpoint)
            raise
        return tuple(each.port for each in taken)

    def hold(self, endpoint: str, ports: Sequence[PublishedPort]) -> list[str]:
        """Hold ports again after a restart; what somebody else has meanwhile, in words."""
        taken, troubles = self._held.setdefault(endpoint, []), []
        for port in ports:
            held = _Held(port)
            taken.append(held)
            for number in range(port.host_port, port.host_port + port.count):
                left = self._left((port.protocol, str(port.host), number))
                if left is not None:
                    held.sockets.append(left)
                    continue
                try:
                    _bind(held, number)
                except OSError as error:
                    one = replace(port, host_port=number, count=1)
                    shown = _shown(port.host, number)
                    troubles.append(f"port {shown}/{port.protocol}: {error.strerror}{_holder(one)}")
        return troubles

    def sockets(self, endpoint: str) -> list[tuple[PublishedPort, Sequence[socket.socket]]]:
        """The ports of an endpoint and what holds them, one socket for each of a port's count; fewer where one is another's."""
        return [(each.port, each.sockets) for each in self._held.get(endpoint, ())]

    def give_back(self, endpoint: str) -> None:
        """Let the ports of an endpoint go; nothing there is fine."""
        for each in self._held.pop(endpoint, ()):
            each.close()

    # --- one wish ----------------------------------------------------------------------------------------------------

    def _take(self, taken: list[_Held], wish: PortWish, versions: frozenset[int]) -> None:
        hosts: list[IP] = [ip_address(wish.host)] if wish.host else [_ANY[version] for version in sorted(versions)]
        hosts = [host for host in hosts if host.version in versions]
        if not hosts:
            if wish.host:
                raise InvalidArgument(
                    f"publish port {wish.container_port} on {wish.host}: the container has no address of that family"
                )
            return
        last: OSError | None = None
        failed = PublishedPort(wish.protocol, hosts[0], wish.first, wish.container_port)
        for number in _numbers(wish):
            got: list[_Held] = []
            try:
                for host in hosts:
                    first = got[0].port.host_port if got else number
                    failed = PublishedPort(wish.protocol, host, first, wish.container_port, wish.count)
                    got.append(self._bound_at_last(failed))
            except OSError as error:
                for each in got:
                    each.close()
                if error.errno not in _TAKEN:
                    raise ResourceExhausted(_unbound(wish, number, error)) from error
                last = error
                continue
            taken.extend(got)
            return
        self._refuse(wish, failed, last)

    def _bound_at_last(self, port: PublishedPort) -> _Held:
        """The same as `_bound`, also of a port that was given back a moment ago."""
        try:
            return self._bound(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or self._owner(port) or not self._freed():
                raise
        return self._bound(port)

    def _bound(self, port: PublishedPort) -> _Held:
        """Sockets on *port*, all of its count. Raises OSError; nothing is held then."""
        held = _Held(port)
        try:
            if not port.host_port:
                held.port = replace(port, host_port=_bind(held, 0))
                return held
            _bind(held, port.host_port)
            if held.sockets and port.count > 1:
                _bind_more(held, range(port.host_port + 1, port.host_port + port.count))
        except BaseException:
            held.close()
            raise
        if not held.sockets and self._owner(port):  # without sockets it is us who say so
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        return held

    def _owner(self, port: PublishedPort) -> bool:
        """Some endpoint has it."""
        return any(each.meets(port) for taken in list(self._held.values()) for each in list(taken))

    def _refuse(self, wish: PortWish, failed: PublishedPort, error: OSError | None) -> None:
        """Say which port is taken, and by whom."""
        failed = self._culprit(failed)
        host = failed.host
        many = wish.last > wish.first
        number = f"{wish.first}-{wish.last}" if many else str(failed.host_port)
        place = f"{f'[{host}]' if host.version == 6 else host}:{number}"
        if error is not None and error.errno == errno.EADDRINUSE:
            if self._owner(failed):
                raise ResourceExhausted(f"Bind for {place} failed: port is already allocated") from error
            raise ResourceExhausted(
                f"listen {wish.protocol}{host.version} {place}: bind: address already in use{_holder(failed)}"
            ) from error
        said = (error.strerror or "").lower() if error else "no port is free"
        raise ResourceExhausted(f"listen {wish.protocol}{host.version} {place}: bind: {said}") from error

    @staticmethod
    def _culprit(port: PublishedPort) -> PublishedPort:
        """The first of several ports that cannot be bound."""
        for number in range(port.host_port, port.host_port + port.count if port.count > 1 else 0):
            one = replace(port, host_port=number, container_port=port.container_port + number - port.host_port, count=1)
            held = _Held(one)
            try:
                _bind(held, number)
            except OSError:
                return one
            finally:
                held.close()
        return port


def _numbers(wish: PortWish) -> Iterator[int]:
    if wish.first:
        return iter(range(wish.first, (wish.last or wish.first) + 1))
    return iter([0] * _EPHEMERAL_TRIES)


def _bind(held: _Held, number: int) -> int:
    """Add a socket on *number* to *held* and return the port; 0 where the kernel does not know the protocol. Raises OSError."""
    port = held.port
    kind, protocol = _PROTOCOLS[port.protocol]
    family = socket.AF_INET if port.host.version == 4 else socket.AF_INET6
    try:
        bound = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        if error.errno not in _UNKNOWN or not number:
            raise
        return 0
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        place = (str(port.host), number)
        try:
            bound.bind(place)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port.protocol != "tcp" or not number:
                raise
            # Connections that linger in TIME_WAIT are in nobody's way; afterwards the port is ours alone.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(place)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        bound.close()
        raise
    held.sockets.append(bound)
    return number or int(bound.getsockname()[1])


def _bind_more(held: _Held, numbers: range) -> None:
    """The same for thousands, without a step too many for each."""
    port = held.port
    kind, protocol = _PROTOCOLS[port.protocol]
    family, host, add, new = held.sockets[0].family, str(port.host), held.sockets.append, socket.socket
    for number in numbers:
        bound = new(family, kind | socket.SOCK_CLOEXEC, protocol)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            bound.bind((host, number))
        except OSError:
            bound.close()
            _bind(held, number)
        else:
            add(bound)


def _check_room(wishes: Sequence[PortWish], versions: frozenset[int]) -> None:
    """Raise ResourceExhausted when the daemon has not got the descriptors that many ports take."""
    needed = sum(wish.count * (1 if wish.host else len(versions)) for wish in wishes)
    if needed < _MANY:
        return
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    left = max(0, limit - len(os.listdir("/proc/self/fd")) - _RESERVE)
    if limit != resource.RLIM_INFINITY and needed > left:
        raise ResourceExhausted(
            f"publish {needed} ports: each takes a file descriptor of the daemon, which has {left} left of {limit} "
            "(RLIMIT_NOFILE): publish fewer, or raise LimitNOFILE of its service"
        )


def _unbound(wish: PortWish, number: int, error: OSError) -> str:
    what = f"bind {wish.protocol} port {number or 'of any number'}: {error.strerror}"
    if error.errno in _UNKNOWN:
        return (
            f"{what}: this kernel has no {wish.protocol} sockets (load its module, or name a port: -p PORT:PORT/sctp)"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{what}: raise LimitNOFILE of the daemon's service, or publish fewer ports"
    return what


def _shown(host: IP, port: int) -> str:
    return f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"


def _holder(port: PublishedPort) -> str:
    """`` (held by NAME, pid N)``: the process that has the port, where it can be found (proc_pid_net(5))."""
    inodes = {f"socket:[{each}]" for each in _listening(port)}
    if not inodes:
        return ""
    for pid in filter(re.compile(r"[0-9]+").fullmatch, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in inodes:
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as name:
                        return f" (held by {name.read().strip()}, pid {pid})"
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
    return ""


def _listening(port: PublishedPort) -> Iterator[str]:
    """Inodes of the sockets on a port that stand in the way of others, in whatever columns the protocol's table has them."""
    tables: tuple[str, ...] = ("", "6")
    columns = (1, 9)
    if port.protocol == "sctp":
        tables, columns = ("/eps",), (5, 7)  # net/sctp/proc.c: LPORT and INODE of those that listen
    for table in tables:
        try:
            with open(f"/proc/net/{port.protocol}{table}", encoding="ascii", errors="replace") as lines:
                for words in map(str.split, list(lines)[1:]):
                    number = words[columns[0]].rpartition(":")[2]
                    bound = int(number, 10 if port.protocol == "sctp" else 16) == port.host_port
                    if bound and (port.protocol != "tcp" or words[3] == _LISTEN):
                        yield words[columns[1]]
        except (OSError, IndexError, ValueError):
            continue
