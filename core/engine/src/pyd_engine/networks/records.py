"""What the engine knows of networks and endpoints, and what callers may ask for: frozen values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface
from pathlib import Path

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Address, Attached, Attachment, NetworkSpec, Pool, PublishedPort, Subnet

__all__ = [
    "IP",
    "EndpointRecord",
    "EndpointRequest",
    "EndpointState",
    "IPNetwork",
    "NetworkRecord",
    "NetworkState",
    "PortWish",
    "SubnetRecord",
    "SubnetRequest",
    "interface",
    "link_local",
]

IP = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class SubnetRequest:
    """One entry of ``IPAM.Config`` as a client writes it; empty strings are what was left out."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubnetRecord:
    """One subnet of a network. Addresses are given from *ip_range* where there is one, never those of *auxiliary*."""

    subnet: IPNetwork
    gateway: IP | None
    ip_range: IPNetwork | None = None
    auxiliary: Mapping[str, IP] = field(default_factory=dict)


class NetworkState(enum.Enum):
    """Where a network stands between the store and the kernel."""

    CREATING = "creating"
    READY = "ready"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """One network.

    id          64 hex digits
    driver      name of the driver as composition knows it
    created     seconds since the epoch
    ipv4, ipv6  whether it has addresses of the family
    configured  the client chose the subnets; only then may containers choose addresses
    predefined  the engine made it at its first start; it cannot be removed
    config_only, config_from, wishes  as in `creation.NetworkRequest`; *wishes* is what a configuration asks of subnets
    report      what the driver said when it made the network (name of the bridge and the like)
    """

    id: str
    name: str
    driver: str
    created: float
    subnets: tuple[SubnetRecord, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    configured: bool = False
    predefined: bool = False
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)
    config_only: bool = False
    config_from: str = ""
    wishes: tuple[SubnetRequest, ...] = ()
    report: Mapping[str, str] = field(default_factory=dict)
    state: NetworkState = NetworkState.READY

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The subnets as managers of addresses see them."""
        return tuple(
            Pool(self.id, each.subnet, each.gateway, each.ip_range, dict(each.auxiliary)) for each in self.subnets
        )

    def spec(self) -> NetworkSpec:
        """The network as drivers see it."""
        return NetworkSpec(
            id=self.id,
            name=self.name,
            subnets=tuple(Subnet(each.subnet, each.gateway) for each in self.subnets),
            internal=self.internal,
            options=dict(self.options),
        )


@dataclass(frozen=True, slots=True)
class PortWish:
    """A port of a container that is to be reached at this host.

    host         an address of the host; empty: all
    first, last  ports of the host of which one will do, 0: any
    count        how many in sequence on both sides, from *container_port* and *first* on; then *last* is *first*
    """

    protocol: str
    container_port: int
    host: str = ""
    first: int = 0
    last: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """What a client asks of a container's place on a network; empty strings leave the choice to the engine."""

    ipv4: str = ""
    ipv6: str = ""
    link_local: tuple[str, ...] = ()
    mac: str = ""
    aliases: tuple[str, ...] = ()
    hostname: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortWish, ...] = ()
    gateway_priority: int = 0


class EndpointState(enum.Enum):
    """Where an endpoint stands: addresses taken, the kernel being asked (to attach, or to detach), the interface there."""

    RESERVED = "reserved"
    ATTACHING = "attaching"
    ATTACHED = "attached"


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """One container's place on one network.

    id         64 hex digits
    ifname     the interface in the container
    addresses  given by the engine, at most one a family and subnet
    gateways   where the default routes lead; none on internal networks
    mac        empty until it is known
    aliases    what the client asked for beside the container's name
    dns_names  all names the container answers to on this network: its name, aliases, short id, host name
    netns      the namespace of the last attach; empty before
    attached   what the driver did; None unless *state* is ATTACHED
    ports      ports of this host that lead to it
    """

    id: str
    network: str
    container: str
    container_name: str
    ifname: str
    addresses: tuple[Address, ...] = ()
    gateways: tuple[IP, ...] = ()
    mac: str = ""
    requested: EndpointRequest = field(default_factory=EndpointRequest)
    netns: str = ""
    attached: Attached | None = None
    ports: tuple[PublishedPort, ...] = ()
    state: EndpointState = EndpointState.RESERVED

    @property
    def aliases(self) -> tuple[str, ...]:
        """The names the client asked for."""
        return self.requested.aliases

    @property
    def dns_names(self) -> tuple[str, ...]:
        """All names, each once, the container's own first."""
        names = (self.container_name, *self.aliases, self.container[:12], self.requested.hostname)
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def ipv4(self) -> Address | None:
        """The IPv4 address with its prefix, None where there is none."""
        return next((each for each in self.addresses if each.version == 4), None)

    @property
    def ipv6(self) -> Address | None:
        """The IPv6 address with its prefix, None where there is none."""
        return next((each for each in self.addresses if each.version == 6), None)

    def gateway(self, version: int) -> str:
        """The gateway of a family (4, 6) as text, empty where there is none."""
        return next((str(each) for each in self.gateways if each.version == version), "")

    def attachment(self, network: NetworkSpec, netns: Path | None = None, *, default_route: bool = True) -> Attachment:
        """The endpoint as drivers see it: of its ports those that a packet filter can lead, which stay in their family."""
        versions = {each.version for each in self.addresses}
        return Attachment(
            container=self.container,
            network=network,
            ifname=self.ifname,
            netns=netns or Path(self.netns or "/proc/0/ns/net"),
            mac=self.requested.mac or None,
            addresses=self.addresses,
            options=dict(self.requested.options),
            ports=tuple(each for each in self.ports if each.host.version in versions),
            gateway_priority=self.requested.gateway_priority,
            default_route=default_route,
            link_local=tuple(link_local(each) for each in self.requested.link_local),
        )


def link_local(text: str) -> Address:
    """A link-local address with the prefix of its block (RFC 3927, RFC 4291). Raises InvalidArgument in dockerd's words."""
    try:
        address = ip_address(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid link-local IP address: {text}") from error
    if not address.is_link_local:
        raise InvalidArgument(f"invalid link-local IP address: {text}: 169.254.0.0/16 and fe80::/10 are possible")
    return ip_interface((address.packed, 16 if address.version == 4 else 64))


def interface(address: IP, subnet: IPNetwork) -> Address:
    """An address together with the prefix of its subnet."""
    return ip_interface((address.packed, subnet.prefixlen))
