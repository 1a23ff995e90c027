"""In which way interfaces are stacked: what one driver differs from another in, and one network from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyd_contracts.errors import InvalidArgument
from pyd_netlink.rtnetlink import Link

__all__ = ["Flavour", "choose"]


@dataclass(frozen=True, slots=True)
class Flavour:
    """How a network's interfaces are stacked.

    kind     of the interfaces, as ip-link(8) says it
    mode     how they are separated, for people
    data     the same for the kernel (IFLA_INFO_DATA)
    own_mac  each has a MAC address of its own; else they share their parent's
    routed   packets are routed to them by address: their default route names no gateway
    alone    the parent carries one interface and no other
    common   what all interfaces of *kind* on one parent must have the same; empty: nothing
    """

    kind: str
    mode: str
    data: bytes
    own_mac: bool = True
    routed: bool = False
    alone: bool = False
    common: bytes = b""

    def bears(self, other: Flavour) -> bool:
        """Whether networks of both can be on one parent."""
        return self.kind == other.kind and not self.alone and not other.alone and self.common == other.common

    def bears_link(self, link: Link) -> bool:
        """Whether an interface that is there, and was made by others, leaves room on its parent for ours."""
        family = {"macvtap": "macvlan", "ipvtap": "ipvlan"}.get(link.kind, link.kind)
        return family == self.kind and not self.alone


def choose(options: Mapping[str, str], key: str, values: Mapping[str, int], default: str, words: str) -> str:
    """The value of an option that has a few. Raises InvalidArgument in dockerd's *words*, and names the values there are."""
    value = options.get(key, "") or default
    if value not in values:
        raise InvalidArgument(f"{words.format(value)} (option {key}: {', '.join(values)} are possible)")
    return value
