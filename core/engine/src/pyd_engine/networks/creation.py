"""From what a client asks for to the record of a network: names, drivers, subnets. Nothing is changed here."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, ip_address, ip_network

from pyd_contracts.errors import InvalidArgument, PermissionDenied, Unavailable
from pyd_contracts.values import Pool, PoolRequest
from pyd_engine.networks.records import IP, IPNetwork, NetworkRecord, NetworkState, SubnetRecord, SubnetRequest

__all__ = [
    "PREDEFINED",
    "NetworkConfig",
    "NetworkRequest",
    "check",
    "configured_from",
    "driver_name",
    "planned",
    "pool_requests",
    "predefined",
]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_BRIDGE = "com.docker.network.bridge."
PREDEFINED = ("bridge", "host", "none")
"""Networks that are always there, each of the driver of the same name."""
_ALSO_RESERVED = ("default", "container")
"""Words of ``--network`` that can be no network's name."""
_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and '
    "try again."
)
_DRIVER_WORDS = {"": "bridge", "default": "bridge", "null": "none"}
_DEFAULT_POOLS: tuple[tuple[IPNetwork, int], ...] = (
    *((IPv4Network(f"172.{second}.0.0/16"), 16) for second in range(17, 32)),
    (IPv4Network("192.168.0.0/16"), 20),
)
"""Base and prefix length of the subnets cut from it; those of Docker (libnetwork/ipamutils)."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What the configuration says of networks.

    pools          where subnets are cut from: base, and prefix length of a subnet
    bridge_subnet  of the network ``bridge``, written as its gateway (``172.17.0.1/16``); empty: one of the pools'
    mtu            of the network ``bridge``; 0 leaves the kernel's
    """

    pools: tuple[tuple[IPNetwork, int], ...] = _DEFAULT_POOLS
    bridge_subnet: str = ""
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """What a client asks for.

    config_only  no network, only words that others are made of
    config_from  the name or id of one of those
    """

    name: str
    driver: str = "bridge"
    subnets: tuple[SubnetRequest, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)
    ingress: bool = False
    scope: str = ""
    config_only: bool = False
    config_from: str = ""


def predefined(name: str, config: NetworkConfig) -> NetworkRequest:
    """What the engine asks for itself at its first start."""
    if name != "bridge":
        return NetworkRequest(name=name, driver=name)
    subnets: tuple[SubnetRequest, ...] = ()
    if config.bridge_subnet:
        gateway, _, _ = config.bridge_subnet.partition("/")
        try:
            subnet = str(IPv4Network(config.bridge_subnet, strict=False))
        except ValueError as error:
            raise InvalidArgument(f"the subnet of the network bridge, {config.bridge_subnet!r}: {error}") from error
        subnets = (SubnetRequest(subnet=subnet, gateway=gateway),)
    options = {
        _BRIDGE + "default_bridge": "true",
        _BRIDGE + "enable_icc": "true",
        _BRIDGE + "enable_ip_masquerade": "true",
        _BRIDGE + "host_binding_ipv4": "0.0.0.0",  # noqa: S104 - shown to clients, bound by nobody
    }
    if config.mtu:
        options["com.docker.network.driver.mtu"] = str(config.mtu)
    return NetworkRequest(name=name, driver=name, subnets=subnets, options=options)


def check(request: NetworkRequest) -> None:
    """Raise InvalidArgument and PermissionDenied, in dockerd's words, for what can be no network's whatever there is."""
    if not request.name.strip():
        raise InvalidArgument("invalid network name: name is empty")
    if not _NAME.match(request.name):
        raise InvalidArgument(f"invalid network name {request.name!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    if request.name in _ALSO_RESERVED:
        raise InvalidArgument(f"invalid network name {request.name!r}: the word means something else after --network")
    if request.scope in ("swarm", "global"):
        raise Unavailable(_NO_SWARM)
    if request.scope not in ("", "local"):
        raise InvalidArgument(f"network {request.name}: scope {request.scope!r}: networks here are local; leave it out")
    if request.ingress:
        raise PermissionDenied("Ingress network can only be global scope network")
    if not request.ipv4 and not request.ipv6:
        raise InvalidArgument("IPv4 or IPv6 must be enabled")
    if request.config_only:
        if request.config_from:
            raise PermissionDenied("a configuration network cannot depend on another configuration network")
        if request.internal or request.attachable or request.scope:
            raise PermissionDenied(
                "configuration network can only contain network specific fields. Network operator fields like "
                "[ ingress | internal | attachable | scope ] are not supported."
            )
    words = (request.subnets, request.options, request.labels, request.ipam_options, request.ipv6, not request.ipv4)
    if request.config_from and (any(words) or request.ipam_driver not in ("", "default")):
        raise PermissionDenied(
            "user specified configurations are not supported if the network depends on a configuration network"
        )


def configured_from(request: NetworkRequest, source: NetworkRecord) -> NetworkRequest:
    """*request* with the words of a configuration network. A subnet it names can be one network's only."""
    return replace(
        request,
        subnets=source.wishes,
        options=dict(source.options),
        labels=dict(source.labels),
        ipv4=source.ipv4,
        ipv6=source.ipv6,
        ipam_driver=source.ipam_driver,
        ipam_options=dict(source.ipam_options),
        config_from=source.name,
    )


def pool_requests(
    request: NetworkRequest,
    identity: str,
    capabilities: Collection[str],
    defaults: tuple[tuple[IPNetwork, int], ...],
    occupied: Iterable[IPNetwork],
) -> list[PoolRequest]:
    """What the manager of addresses is asked for: the client's subnets, and one of each family that it names none of.

    Raises InvalidArgument that quotes what cannot be.
    """
    if "no-addresses" in capabilities:
        if request.subnets:
            raise InvalidArgument(f"network {request.name}: driver {request.driver} gives no addresses: no subnets")
        return []
    taken = tuple(occupied)
    wishes = [_wish(each, request, identity, defaults, taken) for each in request.subnets if each != SubnetRequest()]
    asked = {each.version for each in wishes}
    for version, enabled in ((4, request.ipv4), (6, request.ipv6)):
        if version in asked and not enabled:
            subnet = next(each.subnet for each in wishes if each.version == version)
            flag = "(--ipv6)" if version == 6 else "(--ipv4)"
            raise InvalidArgument(f"network {request.name}: subnet {subnet} needs IPv{version} to be enabled {flag}")
    some = [
        PoolRequest(identity, version, options=dict(request.ipam_options), defaults=defaults, occupied=taken)
        for version, enabled in ((4, request.ipv4), (6, request.ipv6))
        if enabled and version not in asked
    ]
    return sorted([*some, *wishes], key=lambda each: each.version)


def planned(request: NetworkRequest, identity: str, pools: Iterable[Pool]) -> NetworkRecord:
    """The record of a new network with the pools it was given."""
    return NetworkRecord(
        id=identity,
        name=request.name,
        driver="none" if request.config_only else request.driver,
        created=time.time(),
        subnets=tuple(SubnetRecord(each.subnet, each.gateway, each.ip_range, dict(each.auxiliary)) for each in pools),
        options=dict(request.options),
        labels=dict(request.labels),
        internal=request.internal,
        attachable=request.attachable,
        ipv4=request.ipv4,
        ipv6=request.ipv6,
        configured=any(each.subnet for each in request.subnets),
        ipam_driver=request.ipam_driver or "default",
        ipam_options=dict(request.ipam_options),
        config_only=request.config_only,
        config_from=request.config_from,
        wishes=request.subnets if request.config_only else (),
        state=NetworkState.READY if request.config_only else NetworkState.CREATING,
    )


def driver_name(word: str) -> str:
    """A driver's name as composition knows it, for the words clients use."""
    return _DRIVER_WORDS.get(word, word)


def _wish(
    wish: SubnetRequest,
    request: NetworkRequest,
    identity: str,
    defaults: tuple[tuple[IPNetwork, int], ...],
    occupied: tuple[IPNetwork, ...],
) -> PoolRequest:
    subnet = _network(wish.subnet, "subnet") if wish.subnet else None
    area = _network(wish.ip_range, "ip-range") if wish.ip_range else None
    gateway = _address(wish.gateway, "gateway") if wish.gateway else None
    first = subnet or area or gateway
    return PoolRequest(
        network=identity,
        version=4 if first is None else first.version,
        subnet=subnet,
        ip_range=area,
        gateway=gateway,
        auxiliary={name: _address(text, "auxiliary address") for name, text in wish.auxiliary.items()},
        options=dict(request.ipam_options),
        defaults=defaults,
        occupied=occupied,
    )


def _network(text: str, what: str) -> IPNetwork:
    try:
        return ip_network(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid {what} {text!r}: {error}") from error


def _address(text: str, what: str) -> IP:
    try:
        return ip_address(text.partition("/")[0])
    except ValueError as error:
        raise InvalidArgument(f"invalid {what} {text!r}: {error}") from error
