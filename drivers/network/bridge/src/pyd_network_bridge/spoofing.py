"""Frames that do not bear their container's addresses are dropped, on networks that ask for it.

A table of the family ``bridge`` sees what comes in by a port of a bridge before the bridge does: a sender that claims a
neighbour's MAC or IP address, or answers for it (ARP, neighbour advertisements), is not heard. Sets of what each port
may send make it one lookup, however many containers there are. The table is there while a network asks for it.

    guarded  ports of bridges that are watched
    macs     a port and the MAC address it may send from
    four     the same and an IPv4 address
    six      the same and an IPv6 address
    targets  the same addresses as numbers: whom it may answer for (RFC 4861)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

from pyd_contracts.values import Attachment
from pyd_network_bridge.nft import Nft, NftError

__all__ = ["Spoofing"]


@dataclass(frozen=True, slots=True)
class _Port:
    name: str
    mac: str
    four: tuple[str, ...]
    six: tuple[str, ...]


class Spoofing:
    """What the containers of a daemon may send."""

    def __init__(self, nft: Nft, table: str) -> None:
        self._nft = nft
        self._where = f"bridge {table}"
        self._lock = threading.Lock()
        self._ports: dict[str, _Port] = {}

    def watch(self, name: str, mac: str, attachment: Attachment) -> None:
        """Let the port *name* send as *attachment* alone. Raises what nftables raises: the kernel may lack the family."""
        port = _Port(
            name,
            mac,
            tuple(str(each.ip) for each in attachment.addresses if each.version == 4),
            (*(str(each.ip) for each in attachment.addresses if each.version == 6), str(_link_local(mac))),
        )
        with self._lock:
            self._forget(name)
            self._nft.run("\n".join([*_base(self._where), *_elements("add", self._where, port)]))
            self._ports[name] = port

    def forget(self, name: str) -> None:
        """The port goes; one that is not watched is fine."""
        if self._ports:
            with self._lock:
                self._forget(name)

    def restore(self) -> None:
        """Set everything again, after somebody removed it."""
        with self._lock:
            if self._ports:
                lines = [line for port in self._ports.values() for line in _elements("add", self._where, port)]
                self._nft.run("\n".join([*_base(self._where), *lines]))

    def clear(self) -> None:
        """Remove the table."""
        with self._lock:
            self._ports.clear()
            self._nft.run(f"add table {self._where}\ndelete table {self._where}")

    def _forget(self, name: str) -> None:
        port = self._ports.pop(name, None)
        if port is None:
            return
        lines = list(_elements("delete", self._where, port))
        if not self._ports:
            lines = [f"delete table {self._where}"]
        try:
            self._nft.run("\n".join(lines))
        except NftError:  # somebody else removed it: what is left belongs to nobody that is watched
            if self._ports:
                self._nft.run("\n".join(_base(self._where)))


_TARGET = "@th,64,128"
"""The target of a neighbour advertisement: 8 bytes into the ICMPv6 message (RFC 4861 4.4)."""


def _base(where: str) -> Iterator[str]:
    yield f"add table {where}"
    yield f"add set {where} guarded {{ type ifname; }}"
    yield f"add set {where} macs {{ type ifname . ether_addr; }}"
    yield f"add set {where} four {{ type ifname . ether_addr . ipv4_addr; }}"
    yield f"add set {where} six {{ type ifname . ether_addr . ipv6_addr; }}"
    yield f"add set {where} targets {{ typeof meta iifname . ether saddr . {_TARGET}; }}"
    yield f"add chain {where} port"
    yield f"flush chain {where} port"
    sender = "iifname . ether saddr"
    for rule in (
        f"{sender} != @macs drop",
        f"ether type arp {sender} . arp saddr ip != @four drop",
        "ether type arp iifname . arp saddr ether != @macs drop",
        f"ether type ip {sender} . ip saddr != @four drop",
        "ether type ip6 ip6 saddr :: return",  # duplicate address detection (RFC 4862)
        f"ether type ip6 {sender} . ip6 saddr != @six drop",
        f"icmpv6 type nd-neighbor-advert meta {sender} . {_TARGET} != @targets drop",
    ):
        yield f'add rule {where} port {rule} comment "not its own address"'
    yield f"add chain {where} ports {{ type filter hook prerouting priority filter; policy accept; }}"
    yield f"flush chain {where} ports"
    yield f'add rule {where} ports iifname @guarded jump port comment "networks with pyd.bridge.anti_spoofing"'


def _elements(verb: str, where: str, port: _Port) -> Iterator[str]:
    yield f'{verb} element {where} guarded {{ "{port.name}" }}'
    yield f'{verb} element {where} macs {{ "{port.name}" . {port.mac} }}'
    for name, addresses in (("four", port.four), ("six", port.six)):
        for address in addresses:
            yield f'{verb} element {where} {name} {{ "{port.name}" . {port.mac} . {address} }}'
    for address in port.six:
        number = f"0x{IPv6Address(address).packed.hex()}"
        yield f'{verb} element {where} targets {{ "{port.name}" . {port.mac} . {number} }}'


def _link_local(mac: str) -> IPv6Address:
    """The address the kernel gives an interface with *mac* (RFC 4291, modified EUI-64)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    middle = bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    return IPv6Address(b"\xfe\x80" + b"\0" * 6 + middle)
