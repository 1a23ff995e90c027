"""The rtnetlink messages that make stacked interfaces and their parents (linux/if_link.h)."""

from __future__ import annotations

from pyd_netlink.rtnetlink import Message
from pyd_netlink.wire import attr, link_head, number, short, text

__all__ = ["add_parent", "add_stacked", "vlan_data"]

_NEWLINK, _CREATE_EXCL = 16, 0x600
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_LINKINFO = 1, 3, 4, 5, 18
_IFLA_GROUP, _IFLA_NET_NS_FD = 27, 28


def add_parent(name: str, kind: str, data: bytes = b"", trunk: int = 0) -> Message:
    """RTM_NEWLINK of an interface that others are to be stacked on; *trunk* is what it is stacked on itself, 0 for nothing."""
    body = link_head() + text(_IFLA_IFNAME, name) + (number(_IFLA_LINK, trunk) if trunk else b"")
    info = attr(1, kind.encode()) + (attr(2, data) if data else b"")
    return Message(_NEWLINK, _CREATE_EXCL, body + attr(_IFLA_LINKINFO, info), f"create interface {name} of kind {kind}")


def add_stacked(
    name: str,
    kind: str,
    data: bytes,
    parent: int,
    netns_fd: int = -1,
    *,
    mac: bytes = b"",
    mtu: int = 0,
    group: int = 0,
) -> Message:
    """RTM_NEWLINK of an interface on *parent* that is born, down, in the namespace of *netns_fd* (-1: in this one)."""
    body = link_head() + text(_IFLA_IFNAME, name) + number(_IFLA_LINK, parent)
    body += number(_IFLA_NET_NS_FD, netns_fd) if netns_fd >= 0 else b""
    body += attr(_IFLA_ADDRESS, mac) if mac else b""
    body += number(_IFLA_MTU, mtu) if mtu else b""
    body += number(_IFLA_GROUP, group)
    body += attr(_IFLA_LINKINFO, attr(1, kind.encode()) + attr(2, data))
    return Message(_NEWLINK, _CREATE_EXCL, body, f"create the {kind} interface {name}")


def vlan_data(tag: int) -> bytes:
    """IFLA_VLAN_ID."""
    return short(1, tag)
