"""Values of networks, addresses and ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

__all__ = [
    "Address",
    "Attached",
    "Attachment",
    "NetworkSpec",
    "Passage",
    "Pool",
    "PoolRequest",
    "PublishedPort",
    "Subnet",
]

Address = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Subnet:
    """One range of addresses of a network and the address its gateway holds (None: no gateway)."""

    network: IPv4Network | IPv6Network
    gateway: IPv4Address | IPv6Address | None


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network as the engine knows it. *id* is 64 hex digits and never changes; *name* is for messages."""

    id: str
    name: str
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A port of this host that leads to a port of a container, or as many in sequence on both sides.

    protocol  ``tcp``, ``udp`` or ``sctp``
    host      an address of this host, or the unspecified one of a family: all of them
    host_port, container_port  the first ones
    count     how many: 3 ports from 8000 to 80 are 8000 to 80, 8001 to 81, 8002 to 82
    """

    protocol: str
    host: IPv4Address | IPv6Address
    host_port: int
    container_port: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one container on one network; (container, ifname) is its identity.

    netns      a path that names the container's network namespace, valid during the call
    mac        ``02:42:ac:11:00:02``, or None: the driver or the kernel chooses
    addresses  given by the engine's IPAM; drivers never choose addresses
    ports      given by the engine, which holds them on the host; empty without the capability ``ports``
    gateway_priority  where its gateway stands among those of the container's networks: the highest leads out
    default_route     whether it is the first of them now; the engine says so, who breaks ties
    link_local        further addresses that mean something on this link alone
    """

    container: str
    network: NetworkSpec
    ifname: str
    netns: Path
    mac: str | None = None
    addresses: tuple[Address, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PublishedPort, ...] = ()
    gateway_priority: int = 0
    default_route: bool = True
    link_local: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """What becomes of some packets to or from a container, for people: one line of ``pyd network rules``.

    sender   who sends: ``other hosts``, ``this host``, ``containers of other networks``
    target   where to: ``tcp port 8080 of every address of this host``
    allowed  whether they arrive
    reason   why, in words
    rule     where the rule that decides can be seen, as the tool that lists it shows it; empty where there is none
    port     the published port that it is about, if it is about one
    """

    sender: str
    target: str
    allowed: bool
    reason: str
    rule: str = ""
    port: PublishedPort | None = None


@dataclass(frozen=True, slots=True)
class Attached:
    """What a driver did: enough to check it, to show it in inspect, and to undo it after a restart."""

    host_ifname: str
    mac: str
    addresses: tuple[Address, ...]
    gateways: tuple[IPv4Address | IPv6Address, ...]


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """What a network needs of one family (4, 6); None is the driver's choice.

    network    id of the network
    ip_range   the part of *subnet* that addresses are given from
    auxiliary  addresses that others have, by name: they are given to nobody
    options    the client's (``--ipam-opt``)
    defaults   what subnets are cut from where none is asked for: base, and prefix length of a subnet
    occupied   subnets of all networks of this engine, whoever manages them
    """

    network: str
    version: int
    subnet: IPv4Network | IPv6Network | None = None
    ip_range: IPv4Network | IPv6Network | None = None
    gateway: IPv4Address | IPv6Address | None = None
    auxiliary: Mapping[str, IPv4Address | IPv6Address] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    defaults: tuple[tuple[IPv4Network | IPv6Network, int], ...] = ()
    occupied: tuple[IPv4Network | IPv6Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """One subnet of one network; (network, subnet) is its identity. The fields are those of `PoolRequest`."""

    network: str
    subnet: IPv4Network | IPv6Network
    gateway: IPv4Address | IPv6Address | None = None
    ip_range: IPv4Network | IPv6Network | None = None
    auxiliary: Mapping[str, IPv4Address | IPv6Address] = field(default_factory=dict)
