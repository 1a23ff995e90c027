"""What the kernel remembers of datagrams' ways (conntrack): forgotten where a published port leads elsewhere from now on.

Translation is decided by a connection's first packet. Whoever sends datagrams again and again from one socket is one
connection for ever: to a container that is gone, or to nobody, if the first packet came before the port led anywhere. TCP
needs none of this, for its connections end.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from pyd_netlink.rtnetlink import Message, Netlink
from pyd_netlink.wire import attr, attributes, number

__all__ = ["Place", "forget"]

IP = IPv4Address | IPv6Address

_NETLINK_NETFILTER = 12
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK: IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE
_TUPLE_ORIG, _ID, _ZONE, _FILTER = 1, 12, 18, 25  # linux/netfilter/nfnetlink_conntrack.h
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_DESTINATION = (2, 4)  # CTA_IP_V4_DST, CTA_IP_V6_DST
_PROTO_NUM, _PROTO_DST_PORT = 1, 3
_ORIG_FLAGS, _BY_PROTOCOL = 1, 1 << 3  # CTA_FILTER_ORIG_FLAGS; CTA_FILTER_FLAG(CTA_PROTO_NUM)
_NESTED = 0x8000
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_BATCH = 200


@dataclass(frozen=True, slots=True)
class Place:
    """UDP ports of this host from *first* to *last*. *host*: None is any address."""

    version: int
    host: IP | None
    first: int
    last: int


def forget(places: Collection[Place]) -> int:
    """Let the next datagram to each of *places* be a first one; how many connections were forgotten.

    Raises OSError where the kernel does not let conntrack be asked.
    """
    if not places:
        return 0
    netlink = Netlink(_NETLINK_NETFILTER)
    try:
        return sum(
            _forget(netlink, version, [each for each in places if each.version == version])
            for version in sorted({each.version for each in places})
        )
    finally:
        netlink.close()


def _forget(netlink: Netlink, version: int, places: Collection[Place]) -> int:
    head = struct.pack("=BBH", _FAMILIES[version], 0, 0)  # struct nfgenmsg
    # What a kernel before 5.8 does not know of this it leaves unread, and lists connections of every protocol.
    protocol = attr(_TUPLE_PROTO | _NESTED, attr(_PROTO_NUM, bytes((socket.IPPROTO_UDP,))))
    only = attr(_TUPLE_ORIG | _NESTED, protocol) + attr(_FILTER | _NESTED, number(_ORIG_FLAGS, _BY_PROTOCOL))
    doomed = [
        Message(_DELETE, 0, head + body, "forget a connection of datagrams")
        for body in _to(places, netlink.dump(_GET, head + only, "list connections of datagrams"))
    ]
    for first in range(0, len(doomed), _BATCH):
        for answer in netlink.send(*doomed[first : first + _BATCH]):
            if answer is not None and answer.errno != errno.ENOENT:  # it has ended by itself
                raise answer
    return len(doomed)


def _to(places: Collection[Place], connections: Collection[bytes]) -> Iterator[bytes]:
    """What names each of the connections that were to one of *places* when they began."""
    for connection in connections:
        found = dict(attributes(connection[4:]))
        way = dict(attributes(found.get(_TUPLE_ORIG, b"")))
        kind = dict(attributes(way.get(_TUPLE_PROTO, b"")))
        hosts = [value for key, value in attributes(way.get(_TUPLE_IP, b"")) if key in _DESTINATION]
        if kind.get(_PROTO_NUM, b"") != bytes((socket.IPPROTO_UDP,)) or not hosts or _PROTO_DST_PORT not in kind:
            continue
        if _is_one(places, ip_address(hosts[0]), int.from_bytes(kind[_PROTO_DST_PORT], "big")):
            more = b"".join(attr(key, found[key]) for key in (_ZONE, _ID) if key in found)
            yield attr(_TUPLE_ORIG | _NESTED, found[_TUPLE_ORIG]) + more


def _is_one(places: Collection[Place], host: IP, port: int) -> bool:
    return any(each.first <= port <= each.last and each.host in (None, host) for each in places)
