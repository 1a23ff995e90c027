"""What a network's options and subnets mean, read once and checked: pure, no kernel.

Option names are Docker's (https://docs.docker.com/engine/network/drivers/macvlan/ and .../ipvlan/).
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Attachment, NetworkSpec
from pyd_netlink.attachments import NAME, check_subnets
from pyd_netlink.stacked.flavour import Flavour

__all__ = ["Parent", "Plan"]

_PARENT = "parent"
_MTU = "com.docker.network.driver.mtu"
_LAST_VLAN = 4094


class Parent(enum.Enum):
    """What the parent interface is when it is not there."""

    HOST = "host"
    VLAN = "vlan"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Plan:
    """One network in the words of the kernel.

    parent  name of the interface that the others are stacked on
    made    HOST: it must be there; VLAN: of *trunk* with the tag *vlan*, made when it is missing; OWN: the network's own
    mtu     of the interfaces; 0 leaves their parent's
    group   number that all interfaces of the network carry: they are recognised by it
    """

    network: str
    name: str
    instance: str
    parent: str
    made: Parent
    flavour: Flavour
    internal: bool
    mtu: int
    group: int
    trunk: str = ""
    vlan: int = 0

    @classmethod
    def of(cls, network: NetworkSpec, instance: str, flavour: Flavour) -> Plan:
        """Read *network*. Raises InvalidArgument that names the option or the subnet that cannot work."""
        check_subnets(network)
        parent = network.options.get(_PARENT, "")
        made, trunk, vlan = Parent.OWN, "", 0
        if parent:
            if parent == "lo":
                raise InvalidArgument(f"loopback interface is not a valid {flavour.kind} parent link")
            if not NAME.match(parent):
                raise InvalidArgument(
                    f"network {network.name}: option parent={parent!r}: names of interfaces have 1 to 15 letters, digits, '_.-'"
                )
            made, trunk, vlan = _vlan(parent)
        return cls(
            network=network.id,
            name=network.name,
            instance=instance,
            parent=parent or f"dm-{network.id[:12]}",
            made=made,
            flavour=flavour,
            internal=network.internal,
            mtu=_mtu(network.options),
            group=_group(instance, network.id),
            trunk=trunk,
            vlan=vlan,
        )

    @property
    def short(self) -> str:
        """Twelve digits of the id."""
        return self.network[:12]

    @property
    def mark(self) -> str:
        """The alias of a parent of ours: the sign that this daemon made it, and may remove it."""
        return f"pyd {self.instance} {self.network if self.made is Parent.OWN else 'vlan'}"

    def alias(self, attachment: Attachment) -> str:
        """The alias of a container's interface."""
        return f"pyd {self.instance} {self.short} {attachment.container[:12]} {attachment.ifname}"


def _vlan(parent: str) -> tuple[Parent, str, int]:
    """``eth0.50`` is what we can make when it is missing; any other name must be there."""
    trunk, _, tag = parent.partition(".")
    if tag.isascii() and tag.isdigit() and trunk and 1 <= int(tag) <= _LAST_VLAN:
        return Parent.VLAN, trunk, int(tag)
    return Parent.HOST, "", 0


def _group(instance: str, network: str) -> int:
    """The kernel keeps a group as a positive int; small ones are what people use."""
    digest = hashlib.sha256(f"pyd network {instance} {network}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x3FFFFFFF | 0x40000000


def _mtu(options: Mapping[str, str]) -> int:
    value = options.get(_MTU, "")
    if not value:
        return 0
    if not value.isascii() or not value.isdigit() or not (int(value) == 0 or 68 <= int(value) <= 65535):
        raise InvalidArgument(f"option {_MTU}={value!r}: a number of bytes between 68 and 65535 is possible")
    return int(value)
