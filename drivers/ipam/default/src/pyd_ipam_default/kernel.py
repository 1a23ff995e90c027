"""Where this host's routes lead, so that no network of ours takes a range that is somebody's already."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from pyd_ipam_default.subnets import IPNetwork

__all__ = ["host_routes"]

_IPV4 = "/proc/thread-self/net/route"
_IPV6 = "/proc/thread-self/net/ipv6_route"


def host_routes() -> list[IPNetwork]:
    """Destinations of all routes but default, loopback, link-local and multicast ones (proc_pid_net(5))."""
    return [each for each in (*_ipv4(), *_ipv6()) if not (each.is_loopback or each.is_link_local or each.is_multicast)]


def _lines(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="ascii") as file:
            return [line.split() for line in file]
    except FileNotFoundError:  # a kernel without this family has no routes of it
        return []


def _ipv4() -> Iterator[IPNetwork]:
    for fields in _lines(_IPV4)[1:]:
        destination, mask = int(fields[1], 16), int(fields[7], 16)
        if mask:
            # The kernel prints the number as it lies in memory; the bytes are in network order.
            address, bits = socket.inet_ntoa(struct.pack("=I", destination)), bin(mask).count("1")
            yield IPv4Network((address, bits), strict=False)


def _ipv6() -> Iterator[IPNetwork]:
    for fields in _lines(_IPV6):
        prefix = int(fields[1], 16)
        if prefix:
            yield IPv6Network((bytes.fromhex(fields[0]), prefix), strict=False)
