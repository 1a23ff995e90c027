"""Rtnetlink as network drivers speak it: messages built with struct, sent many at a time, each acknowledged.

A container start pays for every round trip and every import, so this is 250 lines of wire format in place of a
library that takes 250 ms to load. Layouts are those of rtnetlink(7), linux/if_link.h, linux/if_addr.h and
linux/rtnetlink.h. A netlink socket belongs for ever to the network namespace of the thread that made it: that is how
one process works in several.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, ip_address, ip_interface

from pyd_contracts.errors import PydError, from_oserror
from pyd_contracts.values import Address
from pyd_netlink.wire import attr, attributes, link_head, number, text

__all__ = [
    "Link",
    "Message",
    "Netlink",
    "Pool",
    "Way",
    "add_address",
    "add_bridge",
    "add_default_route",
    "add_veth",
    "del_address",
    "del_group",
    "del_link",
    "parse_link",
    "set_link",
    "set_port",
    "sync_carrier",
    "translate",
]

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _DELADDR, _GETADDR, _NEWROUTE, _GETROUTE = 20, 21, 22, 24, 26
_REQUEST, _ACK, _DUMP, _CREATE_EXCL, _CREATE_REPLACE, _DUMP_INTR = 0x1, 0x4, 0x300, 0x600, 0x500, 0x10
_ROUTE = struct.Struct("BBBBBBBBI")
_MAIN, _LINK_SCOPE = 254, 253
_ERROR, _DONE = 2, 3
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_PROTINFO, _IFLA_LINKINFO = 12, 18
_IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_GROUP, _IFLA_NET_NS_FD, _IFLA_EXT_MASK = 20, 26, 27, 28, 29
_BRPORT_STATE, _BRPORT_MODE, _BRPORT_FLUSH, _BRPORT_ISOLATED = 1, 4, 24, 33
# IFLA_INET_CONF { IPV4_DEVCONF_ARP_NOTIFY }: as the file below /proc/sys, whose name takes the longer to look up the more
# namespaces have an interface of that name
_ARP_NOTIFY = attr(_IFLA_AF_SPEC | 0x8000, attr(socket.AF_INET | 0x8000, attr(1 | 0x8000, number(22, 1))))
_SKIP_STATS = struct.pack("I", 1 << 3)  # RTEXT_FILTER_SKIP_STATS: two thirds of a link's description are counters
_NESTED = 0x8000
_IFF_UP = 1
_NODAD = 0x02
_HEAD = struct.Struct("IHHII")
Way = IPv4Address | IPv6Address | int
"""Where a default route leads: to a gateway, or (the number of a family) out by the interface itself."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request and the words for it that an error message uses."""

    type: int
    flags: int
    body: bytes
    doing: str


@dataclass(frozen=True, slots=True)
class Link:
    """What the kernel tells of an interface, as far as drivers look.

    link  index of the interface it is stacked on (perhaps in another namespace), 0 for none
    data  what its kind has to say, as the kernel wrote it (IFLA_INFO_DATA)
    """

    index: int
    name: str
    up: bool
    mac: str
    mtu: int
    master: int
    group: int
    alias: str
    kind: str
    link: int = 0
    data: bytes = b""


class Netlink:
    """One netlink socket in the network namespace of the thread that makes it, NETLINK_ROUTE if nothing else is said."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._sequence = 0

    def close(self) -> None:
        """Give the descriptor back; twice is once."""
        self._socket.close()

    def send(self, *messages: Message) -> list[OSError | None]:
        """Send all in one system call and return one answer a message, in order.

        The kernel works on every message whatever became of the ones before, and does so inside this call: a process
        that is killed has sent all or nothing.
        """
        first = self._sequence + 1
        batch = bytearray()
        for message in messages:
            self._sequence += 1
            flags = message.flags | _REQUEST | _ACK
            batch += _HEAD.pack(16 + len(message.body), message.type, flags, self._sequence, 0)
            batch += message.body
        self._socket.send(batch)
        answers: list[OSError | None] = [None] * len(messages)
        missing = len(messages)
        while missing:
            for kind, flags, sequence, body in self._receive():
                if kind == _ERROR and first <= sequence <= self._sequence:
                    answers[sequence - first] = _error(messages[sequence - first], flags, body)
                    missing -= 1
        return answers

    def run(self, *messages: Message) -> None:
        """Send all; raise the first failure as an OSError whose ``strerror`` says what was tried."""
        for answer in self.send(*messages):
            if answer is not None:
                raise answer

    def link(self, name: str) -> Link | None:
        """The interface of that name, None when there is none."""
        request = link_head() + attr(_IFLA_EXT_MASK, _SKIP_STATS) + text(_IFLA_IFNAME, name)
        try:
            return parse_link(self.ask(Message(_GETLINK, 0, request, f"look up interface {name}")))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def ask(self, question: Message) -> bytes:
        """The body of the one message that answers *question*. Raises OSError as `run` does."""
        self._sequence += 1
        head = _HEAD.pack(16 + len(question.body), question.type, _REQUEST | question.flags, self._sequence, 0)
        self._socket.send(head + question.body)
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                error = _error(question, flags, body) if kind == _ERROR else None
                if error is not None:
                    raise error
                return body

    def links(self) -> list[Link]:
        """All interfaces of the namespace."""
        return [parse_link(body) for body in self.dump(_GETLINK, link_head() + attr(_IFLA_EXT_MASK, _SKIP_STATS))]

    def addresses(self) -> list[tuple[int, Address]]:
        """All addresses of the namespace with the index of their interface."""
        found: list[tuple[int, Address]] = []
        for body in self.dump(_GETADDR, struct.pack("BBBBI", 0, 0, 0, 0, 0)):
            _, prefix, _, _, index = struct.unpack_from("BBBBI", body)
            held = dict(attributes(body[8:]))
            raw = held.get(2) or held.get(1)  # IFA_LOCAL, and IFA_ADDRESS where IPv6 has no local one
            if raw is not None:
                found.append((index, ip_interface((raw, prefix))))
        return found

    def default_routes(self, version: int) -> list[tuple[int, int, IPv4Address | IPv6Address | None]]:
        """(interface, metric, gateway) of the default routes of a family."""
        found = []
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        for body in self.dump(_GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
            _, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
            held = dict(attributes(body[_ROUTE.size :]))
            if (length, table, kind) == (0, _MAIN, 1) and 4 in held:
                metric = int.from_bytes(held.get(6, b"\0"), sys.byteorder)
                gateway = ip_address(held[5]) if 5 in held else None
                found.append((int.from_bytes(held[4], sys.byteorder), metric, gateway))
        return found

    def dump(self, kind: int, request: bytes, doing: str = "list interfaces or addresses") -> list[bytes]:
        """The bodies of all messages that answer *request*. Raises OSError as `run` does."""
        for _ in range(8):
            found, whole = self._dump_once(kind, request, doing)
            if whole:
                return found
        return found  # eight times interrupted: the list is complete but for what changed meanwhile

    def _dump_once(self, wanted: int, request: bytes, doing: str) -> tuple[list[bytes], bool]:
        self._sequence += 1
        self._socket.send(_HEAD.pack(16 + len(request), wanted, _REQUEST | _DUMP, self._sequence, 0) + request)
        found: list[bytes] = []
        whole = True
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _DUMP_INTR
                if kind == _DONE:
                    return found, whole
                if kind == _ERROR:
                    error = _error(Message(wanted, 0, b"", doing), flags, body)
                    if error is not None:
                        raise error
                found.append(body)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._socket.recv(1 << 16)
        at = 0
        while at + 16 <= len(data):
            length, kind, flags, sequence, _ = _HEAD.unpack_from(data, at)
            if length < 16:
                return
            yield kind, flags, sequence, data[at + 16 : at + length]
            at += (length + 3) & ~3


class Pool:
    """Sockets of one namespace, kept open: a thread borrows one and is alone on it meanwhile."""

    def __init__(self) -> None:
        self._idle: list[Netlink] = [Netlink()]

    @contextmanager
    def borrow(self) -> Iterator[Netlink]:
        """A socket; it goes back when the block ends well, and is closed when it fails in the middle of a talk."""
        try:
            netlink = self._idle.pop()  # list.pop is atomic: no lock
        except IndexError:
            try:
                netlink = Netlink()
            except OSError as error:
                raise from_oserror(error, "open a rtnetlink socket") from error
        try:
            yield netlink
        except OSError as error:
            netlink.close()
            raise translate(error, "rtnetlink") from error
        except BaseException:
            netlink.close()
            raise
        self._idle.append(netlink)

    def close(self) -> None:
        """Close what is idle; a later borrow opens afresh."""
        while self._idle:
            self._idle.pop().close()


def translate(error: OSError, doing: str) -> PydError:
    """Say in contract terms what the kernel refused, in its own words: it often tells more than the number does."""
    return type(from_oserror(error, doing))(f"{doing}: {error.strerror}")


# --- messages ----------------------------------------------------------------------------------------------------


def add_bridge(name: str, mac: bytes, mtu: int) -> Message:
    """RTM_NEWLINK of kind bridge, down, with a fixed address (else it takes the lowest of its ports' and changes)."""
    body = link_head() + text(_IFLA_IFNAME, name) + attr(_IFLA_ADDRESS, mac)
    body += number(_IFLA_MTU, mtu) if mtu else b""
    return Message(_NEWLINK, _CREATE_EXCL, body + attr(_IFLA_LINKINFO, attr(1, b"bridge")), f"create bridge {name}")


def add_veth(name: str, master: int, peer: str, netns_fd: int, mac: bytes, mtu: int) -> Message:
    """RTM_NEWLINK of a veth pair whose *peer* is born in the namespace of *netns_fd*; both ends are down (veth(4))."""
    size = number(_IFLA_MTU, mtu) if mtu else b""
    other = link_head() + text(_IFLA_IFNAME, peer) + attr(_IFLA_ADDRESS, mac) + size
    other += number(_IFLA_NET_NS_FD, netns_fd)
    info = attr(1, b"veth") + attr(2, attr(1, other))  # IFLA_INFO_DATA { VETH_INFO_PEER }
    body = link_head() + text(_IFLA_IFNAME, name) + number(_IFLA_MASTER, master) + size + attr(_IFLA_LINKINFO, info)
    return Message(_NEWLINK, _CREATE_EXCL, body, f"create the veth pair {name} and {peer}")


def set_link(
    link: int | str,
    *,
    up: bool = False,
    group: int | None = None,
    alias: str | None = None,
    mtu: int = 0,
    arp_notify: bool = False,
) -> Message:
    """RTM_SETLINK by index or by name. *arp_notify*: when it comes up neighbours are told of its addresses (ip-sysctl.rst)."""
    body = link_head(link if isinstance(link, int) else 0, _IFF_UP if up else 0, _IFF_UP if up else 0)
    body += text(_IFLA_IFNAME, link) if isinstance(link, str) else b""
    body += number(_IFLA_GROUP, group) if group is not None else b""
    body += attr(_IFLA_IFALIAS, alias.encode()) if alias is not None else b""
    body += number(_IFLA_MTU, mtu) if mtu else b""
    body += _ARP_NOTIFY if arp_notify else b""
    return Message(_SETLINK, 0, body, f"set up interface {link}" if up else f"configure interface {link}")


def set_port(index: int, *, disabled: bool = False, isolated: bool = False, hairpin: bool = False) -> Message:
    """RTM_SETLINK of a bridge port: *disabled* lets nothing through (bridge(8), state 0), *isolated* no neighbour, *hairpin*
    sends out where it came from.

    The bridge forgets at once what it has learned on a disabled port: the same address may come up on another.
    """
    port = attr(_BRPORT_STATE, b"\0") + attr(_BRPORT_FLUSH, b"") if disabled else b""
    port += attr(_BRPORT_MODE, b"\1") if hairpin else b""
    port += attr(_BRPORT_ISOLATED, b"\1") if isolated else b""
    body = link_head(index, family=socket.AF_BRIDGE) + attr(_IFLA_PROTINFO | _NESTED, port)
    return Message(_SETLINK, 0, body, f"configure bridge port {index}")


def sync_carrier(index: int) -> Message:
    """RTM_GETLINK for its side effect: since Linux 6.9 it waits until a carrier that came up is honoured.

    Without it a worker of the kernel enables the port, and the queue of the other end, some time after both are up; what
    is sent before is lost, and TCP repeats after a second.
    """
    body = link_head(index) + attr(_IFLA_EXT_MASK, _SKIP_STATS)
    return Message(_GETLINK, 0, body, f"wait for the carrier of interface {index}")


def del_link(index: int) -> Message:
    """RTM_DELLINK of one interface; 15 to 50 ms of waiting for readers in the kernel."""
    return Message(_DELLINK, 0, link_head(index), f"delete interface {index}")


def del_group(group: int) -> Message:
    """RTM_DELLINK of all interfaces of a group at the price of one; ENODEV when there are none."""
    body = link_head() + number(_IFLA_GROUP, group)
    return Message(_DELLINK, 0, body, f"delete the interfaces of group {group:#x}")


def add_address(index: int, address: Address) -> Message:
    """RTM_NEWADDR; IPv6 without duplicate detection: the engine's IPAM gave the address, and it is usable at once."""
    raw = address.ip.packed
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = struct.pack("BBBBI", family, address.network.prefixlen, 0, 0, index) + attr(2, raw) + attr(1, raw)
    if address.version == 6:
        body += number(8, _NODAD)
    elif isinstance(address, IPv4Interface) and address.network.prefixlen < 31:
        body += attr(4, address.network.broadcast_address.packed)
    return Message(_NEWADDR, _CREATE_EXCL, body, f"give interface {index} the address {address}")


def del_address(index: int, address: Address) -> Message:
    """RTM_DELADDR."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = struct.pack("BBBBI", family, address.network.prefixlen, 0, 0, index) + attr(2, address.ip.packed)
    return Message(_DELADDR, 0, body, f"take the address {address} from interface {index}")


def add_default_route(
    index: int, gateway: Way, metric: int = 0, *, onlink: bool = False, replace: bool = False
) -> Message:
    """RTM_NEWROUTE of the default route through *gateway*; EEXIST when one with that metric is there.

    gateway  an address, or a family (4, 6): out by the interface itself
    onlink   the gateway is on this link although no address of it says so (RTNH_F_ONLINK)
    replace  take the place of the one that is there
    """
    version = gateway if isinstance(gateway, int) else gateway.version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    scope = _LINK_SCOPE if gateway == 4 else 0
    body = _ROUTE.pack(family, 0, 0, 0, _MAIN, 3, scope, 1, 4 if onlink else 0)  # RTPROT_BOOT, unicast
    body += b"" if isinstance(gateway, int) else attr(5, gateway.packed)
    body += number(4, index) + (number(6, metric) if metric else b"")
    flags = _CREATE_REPLACE if replace else _CREATE_EXCL
    return Message(_NEWROUTE, flags, body, f"add the default route through {gateway}")


def parse_link(body: bytes) -> Link:
    """An interface as an answer to RTM_GETLINK describes it."""
    _, _, index, flags, _ = struct.unpack_from("BxHiII", body)
    found = dict(attributes(body[16:]))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))

    def value(kind: int) -> int:
        raw = found.get(kind)
        return int(struct.unpack("I", raw)[0]) if raw else 0

    return Link(
        index=index,
        name=found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        up=bool(flags & _IFF_UP),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=value(_IFLA_MTU),
        master=value(_IFLA_MASTER),
        group=value(_IFLA_GROUP),
        alias=found.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
        kind=info.get(1, b"").rstrip(b"\0").decode(errors="replace"),
        link=value(_IFLA_LINK),
        data=info.get(2, b""),
    )


def _error(message: Message, flags: int, body: bytes) -> OSError | None:
    (number,) = struct.unpack_from("i", body)
    if not number:
        return None
    told = ""
    if flags & 0x200:  # NLM_F_ACK_TLVS; with NETLINK_CAP_ACK they follow the 16 bytes of the request's header
        told = dict(attributes(body[20:])).get(1, b"").rstrip(b"\0").decode(errors="replace")
    reason = os.strerror(-number) + (f" ({told})" if told else "")
    return OSError(-number, f"{message.doing}: {reason}")
