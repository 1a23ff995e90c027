"""What every driver with addresses asks of an attachment before it goes to the kernel: pure."""

from __future__ import annotations

import hashlib
import re

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Attachment, NetworkSpec

__all__ = ["NAME", "check_attachment", "check_subnets", "mac_of"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
"""Names of interfaces (IFNAMSIZ, netdevice(7)), without the characters that mean something in paths."""
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")


def mac_of(attachment: Attachment) -> str:
    """The address asked for, or the one Docker derives from IPv4, so that neighbours' tables stay right on reuse."""
    if attachment.mac is not None:
        return attachment.mac.lower()
    for address in attachment.addresses:
        if address.version == 4:
            return "02:42:" + address.ip.packed.hex(":")
    digest = hashlib.sha256(f"{attachment.container} {attachment.ifname}".encode()).digest()
    return "02:42:" + digest[:4].hex(":")


def check_attachment(attachment: Attachment) -> None:
    """Raise InvalidArgument when the interface name, MAC or an address can never work on this network."""
    name = attachment.ifname
    if not NAME.match(name) or name == "lo":
        raise InvalidArgument(
            f"interface name {name!r}: 1 to 15 letters, digits, '_', '.', '-' are possible, the first a letter or digit"
        )
    if attachment.mac is not None:
        mac = attachment.mac.lower()
        if not _MAC.match(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
            raise InvalidArgument(f"MAC address {attachment.mac!r}: possible are six hex pairs with ':', not multicast")
    for address in attachment.addresses:
        if not any(address.ip in subnet.network for subnet in attachment.network.subnets):
            known = ", ".join(str(subnet.network) for subnet in attachment.network.subnets) or "no subnet"
            raise InvalidArgument(f"address {address} is not of network {attachment.network.name} ({known})")
        if any(address.ip == subnet.gateway for subnet in attachment.network.subnets):
            raise InvalidArgument(f"address {address} is the gateway of network {attachment.network.name}")


def check_subnets(network: NetworkSpec) -> None:
    """Raise InvalidArgument when a gateway is outside its subnet, or two subnets overlap."""
    for place, subnet in enumerate(network.subnets):
        if subnet.gateway is not None and subnet.gateway not in subnet.network:
            raise InvalidArgument(f"network {network.name}: gateway {subnet.gateway} is not in subnet {subnet.network}")
        for other in network.subnets[:place]:
            if other.network.version == subnet.network.version and other.network.overlaps(subnet.network):
                raise InvalidArgument(f"network {network.name}: subnets {other.network} and {subnet.network} overlap")
