"""Telling neighbours of a container's address: routers and switches that knew it elsewhere, or with another MAC address.

The kernel does it when an interface comes up (``arp_notify``, ip-sysctl.rst), and hands a copy to each interface on the same
parent: 2 µs for each, and with hundreds that is most of an attach. But neighbours on the parent know better: MAC addresses
follow from IPv4 addresses (`mac_of`). So the frame is sent on the parent, to the outside alone, unless a MAC address was
asked for, or IPv6 is there, whose addresses say nothing of MAC addresses.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterable

from pyd_contracts.values import Address, Attachment

__all__ = ["Announcer"]

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ETH_P_ARP, _ETH_P_IP, _ARPHRD_ETHER, _REQUEST = 0x0806, 0x0800, 1, 1
_BROADCAST, _NOBODY = b"\xff" * 6, b"\0" * 6


class Announcer:
    """Sends on the parents of one driver's networks."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._socket: socket.socket | None = None
        self._unlike: set[tuple[str, Address]] = set()
        """Addresses that were with a MAC address which does not follow from them: neighbours may remember it."""

    def concerns_all(self, attachment: Attachment) -> bool:
        """Whether neighbours on the same parent must be told as well: then the kernel is to do it."""
        network = attachment.network.id
        if attachment.mac is not None:
            self._unlike.update((network, each) for each in attachment.addresses)
            return True
        known = [(network, each) for each in attachment.addresses if (network, each) in self._unlike]
        self._unlike.difference_update(known)
        return bool(known) or any(each.version == 6 for each in (*attachment.addresses, *attachment.link_local))

    def tell(self, parent: str, mac: str, addresses: Iterable[Address]) -> None:
        """Send a gratuitous ARP for each address by the interface *parent* (RFC 5227 section 3). Best effort."""
        try:
            if self._socket is None:
                self._socket = socket.socket(
                    socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0
                )  # it hears nothing
            for each in addresses:
                if each.version == 4:
                    self._socket.sendto(_frame(mac, each.ip.packed), (parent, _ETH_P_ARP))
        except OSError as error:  # no CAP_NET_RAW; the parent is down: nobody is there who could be told
            self._log.debug("announce %s on %s: %s", mac, parent, error.strerror)

    def close(self) -> None:
        """Give the descriptor back; twice is once."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _frame(mac: str, address: bytes) -> bytes:
    source = bytes.fromhex(mac.replace(":", ""))
    head = _ETHERNET.pack(_BROADCAST, source, _ETH_P_ARP)
    return head + _ARP.pack(_ARPHRD_ETHER, _ETH_P_IP, 6, 4, _REQUEST, source, address, _NOBODY, address)
