"""What a network's options and subnets mean for this driver, read once and checked: pure, no kernel."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Address, NetworkSpec, Subnet
from pyd_netlink.attachments import NAME, check_subnets
from pyd_network_bridge import options
from pyd_network_bridge.options import BRIDGE

__all__ = ["Plan", "dead_group", "host_ifname", "table_name"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One network in the words of the kernel.

    bridge      name of the bridge
    alias       what the bridge is marked with: the sign that it is ours
    mtu         of the bridge and of its interfaces; 0 leaves the kernel's 1500
    icc         whether containers may reach one another
    masquerade  families (4, 6) whose outbound traffic is translated
    sources     the addresses it is translated to; without one the kernel chooses
    guarded     families whose containers can be reached from outside through published ports only
    routed      families whose published ports are the containers' own, without translation
    trusted     interfaces of the host from where containers are reached as from their own network
    addressed   whether frames that do not bear their container's addresses are dropped
    gateways    addresses the bridge itself holds
    """

    network: str
    bridge: str
    alias: str
    mtu: int
    icc: bool
    internal: bool
    masquerade: frozenset[int]
    sources: dict[int, IPv4Address | IPv6Address]
    guarded: frozenset[int]
    routed: frozenset[int]
    trusted: tuple[str, ...]
    addressed: bool
    gateways: tuple[Address, ...]
    subnets: tuple[Subnet, ...]

    @classmethod
    def of(cls, network: NetworkSpec, instance: str, default_bridge: str = "") -> Plan:
        """Read *network*. Raises InvalidArgument that names the option or the subnet that cannot work."""
        given = network.options
        options.check_known(given)
        options.host_binding(given)
        check_subnets(network)
        modes = {version: options.mode(given, version, internal=network.internal) for version in (4, 6)}
        families = {subnet.network.version for subnet in network.subnets}
        masquerade = options.flag(given, BRIDGE + "enable_ip_masquerade", True) and not network.internal
        sources = {version: options.source(given, version) for version in (4, 6)}
        bare = {version for version in (4, 6) if modes[version] == "isolated"}
        if options.flag(given, BRIDGE + "inhibit_ipv4", False):
            bare.add(4)
        return cls(
            network=network.id,
            bridge=_bridge_name(network, instance, default_bridge),
            alias=f"pyd {instance} {network.id}",
            mtu=options.mtu(given),
            icc=options.flag(given, BRIDGE + "enable_icc", True),
            internal=network.internal,
            masquerade=frozenset(v for v in families if masquerade and modes[v] != "routed"),
            sources={version: address for version, address in sources.items() if address is not None},
            guarded=frozenset(v for v in families if not network.internal and modes[v] in ("nat", "routed")),
            routed=frozenset(v for v in families if not network.internal and modes[v] == "routed"),
            trusted=options.interfaces(given),
            addressed=options.flag(given, options.ANTI_SPOOFING, False),
            gateways=tuple(
                _interface(subnet.gateway, subnet)
                for subnet in network.subnets
                if subnet.gateway is not None and subnet.network.version not in bare
            ),
            subnets=network.subnets,
        )

    @property
    def ipv6(self) -> bool:
        """Whether the network has an IPv6 subnet."""
        return any(subnet.network.version == 6 for subnet in self.subnets)

    @property
    def short(self) -> str:
        """Twelve digits of the id, for names of chains and in logs."""
        return self.network[:12]

    def mac(self) -> bytes:
        """The bridge's own address: locally administered, the same after every restart."""
        return b"\x02\x42" + hashlib.sha256(self.alias.encode()).digest()[:4]


def table_name(instance: str) -> str:
    """The nftables table of a daemon."""
    return f"pyd-{instance}"


def dead_group(instance: str) -> int:
    """The interface group that holds what this daemon has given up; the kernel keeps a group as a positive int."""
    digest = hashlib.sha256(f"pyd detached {instance}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x3FFFFFFF | 0x40000000


def host_ifname(instance: str, container: str, ifname: str) -> str:
    """The host's end of an attachment: 13 of the 15 characters an interface name may have (IFNAMSIZ, netdevice(7))."""
    return "py" + hashlib.sha256(f"{instance} {container} {ifname}".encode()).hexdigest()[:11]


def _bridge_name(network: NetworkSpec, instance: str, default_bridge: str) -> str:
    name = network.options.get(BRIDGE + "name", "")
    if name:
        if not NAME.match(name):
            raise InvalidArgument(
                f"network {network.name}: option {BRIDGE}name={name!r}: possible are 1 to 15 letters, digits, '_.-'"
            )
        return name
    if network.name == "bridge":
        return default_bridge or ("pyd0" if instance == "00000000" else f"pyd-{instance[:6]}")
    return f"br-{network.id[:12]}"


def _interface(gateway: IPv4Address | IPv6Address, subnet: Subnet) -> Address:
    return ip_interface((gateway.packed, subnet.network.prefixlen))
