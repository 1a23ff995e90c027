"""How a published port leads to its container: through the driver, or, where packet filters cannot, through the userland proxy.

No rule turns an IPv6 packet into an IPv4 one, and none leads what this host sends to ``[::1]`` over a bridge: the answers
cannot come back. So IPv6 addresses of the host lead to containers without IPv6, and ``[::1]`` to any, by a process that
accepts connections itself. dockerd has one for each port.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyd_contracts.errors import ResourceExhausted, from_oserror
from pyd_contracts.values import Address, Passage, PublishedPort
from pyd_engine.networks.ports import HostPorts
from pyd_engine.networks.records import EndpointRecord, NetworkRecord
from pyd_engine.proxy.service import Proxy, Way

__all__ = ["Publishing", "passages", "proxied"]

_MODE = "com.docker.network.bridge.gateway_mode_ipv"
_NONE: frozenset[int] = frozenset()


def proxied(
    ports: Iterable[PublishedPort], addresses: Sequence[Address], options: Mapping[str, str]
) -> list[PublishedPort]:
    """The ports that take the proxy, alone or beside the driver. *options* are the network's."""
    versions = {each.version for each in addresses}
    if not versions or _is_routed(options, max(versions)):
        return []
    return [
        each
        for each in ports
        if each.host.version == 6
        and each.protocol != "sctp"
        and (6 not in versions or each.host.is_unspecified or each.host.is_loopback)
    ]


class Publishing:
    """The ports of endpoints. *proxy* is None where the configuration wants none."""

    def __init__(self, proxy: Proxy | None) -> None:
        self._proxy = proxy
        self.held = HostPorts() if proxy is None else HostPorts(proxy.left, proxy.freed)

    def take(self, record: EndpointRecord, network: NetworkRecord) -> tuple[PublishedPort, ...]:
        """Ports of this host for an endpoint, all or none; see `HostPorts.take`. ResourceExhausted says for whom."""
        versions = frozenset(each.version for each in record.addresses)
        crossing = versions == {4} and self._proxy is not None and not _is_routed(network.options, 4)
        more = frozenset({6}) if crossing and _has_ipv6() else _NONE
        try:
            return self.held.take(record.id, record.requested.ports, versions, network.options, more)
        except ResourceExhausted as error:
            where = f"endpoint {record.container_name} ({record.id})"
            raise ResourceExhausted(f"driver failed programming external connectivity on {where}: {error}") from error

    def hold(self, record: EndpointRecord) -> list[str]:
        """Hold an endpoint's ports again after a restart; troubles in words."""
        return self.held.hold(record.id, record.ports)

    def lead(self, record: EndpointRecord, network: NetworkRecord, netns: Path) -> None:
        """Let the proxy lead what is its to lead. Raises what starting a process raises."""
        if self._proxy is None or not record.ports:
            return
        chosen = proxied(record.ports, record.addresses, network.options)
        target = max(record.addresses, key=lambda each: each.version).ip if chosen else None
        ways = [
            Way(port.protocol, bound, str(target), port.container_port + bound.getsockname()[1] - port.host_port)
            for port, sockets in self.held.sockets(record.id)
            if port in chosen
            for bound in sockets
        ]
        if ways:
            try:
                self._proxy.lead(record.id, ways, netns)
            except OSError as error:
                raise from_oserror(error, f"lead ports to {record.container_name} by the userland proxy") from error

    def leave(self, endpoint: str) -> None:
        """The container's interface goes; the ports stay held."""
        if self._proxy is not None:
            self._proxy.leave(endpoint)

    def give_back(self, endpoint: str) -> None:
        """Let the ports of an endpoint go; nothing there is fine."""
        self.leave(endpoint)
        self.held.give_back(endpoint)

    def close_to(self, networks: Iterable[NetworkRecord]) -> None:
        """Containers of internal networks reach no published port, by the proxy as little as by the kernel."""
        if self._proxy is not None:
            self._proxy.close_to(
                [str(each.subnet) for network in networks if network.internal for each in network.subnets]
            )

    def settle(self, networks: Iterable[NetworkRecord]) -> None:
        """All endpoints have said what they want after a restart."""
        self.close_to(networks)
        if self._proxy is not None:
            self._proxy.settle()


def passages(record: EndpointRecord, network: NetworkRecord) -> list[Passage]:
    """What the proxy lets in, in words."""
    found = []
    for port in proxied(record.ports, record.addresses, network.options):
        target = max(record.addresses, key=lambda each: each.version).ip
        loopback = port.host.is_loopback or target.version == 6  # else a driver leads what is for other addresses
        host = "[::1]" if loopback else f"[{port.host}]"
        numbers = _span(port.host_port, port.count)
        reason = (
            f"published: the userland proxy leads it to port {_span(port.container_port, port.count)} of {target}; for packet "
            "filters it is input of this host"
        )
        sender = "this host" if loopback else "anybody but containers of internal networks"
        found.append(Passage(sender, f"{port.protocol} port {numbers} of {host}", True, reason, "", port))
    return found


def _is_routed(options: Mapping[str, str], version: int) -> bool:
    """Ports of routed networks are open at the container's own address, and this host's lead nowhere."""
    return options.get(f"{_MODE}{version}") == "routed"


def _has_ipv6() -> bool:
    """Whether anybody here can listen on ``[::1]``; else only what names an IPv6 address asks for one."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _span(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first} to {first + count - 1}"
