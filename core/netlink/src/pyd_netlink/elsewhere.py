"""Interfaces of other namespaces, seen and removed from here: the kernel has numbers for namespaces it was asked about.

A number (RTM_NEWNSID) belongs to the namespace that gave it, lives as long as both, and is found again after a restart.
With it a socket of this namespace lists and deletes interfaces of that one (IFLA_TARGET_NETNSID, Linux 4.20): no thread
has to enter it, and no path to it has to be known. A number whose namespace is dying is no number any more.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from pyd_netlink.rtnetlink import Link, Message, Netlink, parse_link
from pyd_netlink.wire import attr, attributes, link_head, number, text

__all__ = ["HERE", "Place", "assign_number", "del_link_in", "links_in", "number_of", "numbers", "over"]

_DELLINK, _GETLINK, _NEWNSID, _GETNSID = 17, 18, 88, 90
_NSID, _NSFD = 1, 3
_IFLA_LINKINFO, _IFLA_EXT_MASK, _IFLA_TARGET_NETNSID = 18, 29, 46
_SKIP_STATS = struct.pack("I", 1 << 3)
_HEAD = b"\0\0\0\0"  # struct rtgenmsg, padded
_NONE = -1
HERE = -1
"""In place of a number: the socket's own namespace."""


@dataclass(frozen=True, slots=True)
class Place:
    """An interface and the number of the namespace it is in; `HERE` is this one."""

    where: int
    link: Link


def assign_number(fd: int) -> Message:
    """RTM_NEWNSID: a number of the kernel's choice for the namespace of *fd*; EEXIST when it has one."""
    body = _HEAD + attr(_NSID, struct.pack("i", _NONE)) + number(_NSFD, fd)
    return Message(_NEWNSID, 0, body, "give the container's namespace a number")


def number_of(netlink: Netlink, fd: int) -> int | None:
    """The number of the namespace of *fd*, None when it has none (RTM_GETNSID)."""
    question = Message(_GETNSID, 0, _HEAD + number(_NSFD, fd), "ask for the number of the container's namespace")
    return _number(netlink.ask(question))


def numbers(netlink: Netlink) -> list[int]:
    """All numbers there are."""
    found = [_number(body) for body in netlink.dump(_GETNSID, _HEAD)]
    return [each for each in found if each is not None]


def links_in(netlink: Netlink, where: int, kind: str = "") -> list[Link]:
    """The interfaces of namespace *where*, all or those of one *kind*; none when it is gone."""
    request = link_head() + attr(_IFLA_EXT_MASK, _SKIP_STATS)
    if kind:
        request += attr(_IFLA_LINKINFO, text(1, kind))
    if where != HERE:
        request += attr(_IFLA_TARGET_NETNSID, struct.pack("i", where))
    try:
        found = [parse_link(body) for body in netlink.dump(_GETLINK, request)]
    except OSError as error:
        if error.errno in (
            errno.EINVAL,
            errno.ENODEV,
            errno.EOPNOTSUPP,
        ):  # its last process ended meanwhile; no such kind
            return []
        raise
    return [link for link in found if not kind or link.kind == kind]


def del_link_in(place: Place) -> Message:
    """RTM_DELLINK of an interface that may be elsewhere."""
    body = link_head(place.link.index)
    if place.where != HERE:
        body += attr(_IFLA_TARGET_NETNSID, struct.pack("i", place.where))
    return Message(_DELLINK, 0, body, f"delete interface {place.link.name}")


def over(netlink: Netlink, parent: int, kinds: tuple[str, ...]) -> list[Place]:
    """Interfaces of *kinds* that are stacked on interface *parent* of this namespace, wherever a number leads."""
    return [
        Place(where, link)
        for where in (HERE, *numbers(netlink))
        for kind in kinds
        for link in links_in(netlink, where, kind)
        if link.link == parent
    ]


def _number(body: bytes) -> int | None:
    raw = dict(attributes(body[4:])).get(_NSID)
    found = int(struct.unpack("i", raw)[0]) if raw else _NONE
    return found if found >= 0 else None
