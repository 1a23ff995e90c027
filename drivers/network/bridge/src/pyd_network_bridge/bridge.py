"""The bridges: made, brought back into line, found again, removed.

A bridge is ours when its alias says so (``ip link`` shows it): names can be chosen by people, and a name is no proof.
The alias is written in the same system call that makes the bridge, so that no crash can fall between.
"""

from __future__ import annotations

import errno
import logging
import re
from contextlib import ExitStack
from ipaddress import IPv6Address

from pyd_contracts.errors import Conflict
from pyd_contracts.values import Address
from pyd_netlink.namespaces import set_sysctl, sysctl
from pyd_netlink.rtnetlink import (
    Link,
    Message,
    Pool,
    add_address,
    add_bridge,
    del_address,
    del_link,
    set_link,
    translate,
)
from pyd_network_bridge.plan import Plan

__all__ = ["Bridges"]

_END = re.compile(r"py[0-9a-f]{11}\Z")


class Bridges:
    """The bridges of one daemon."""

    def __init__(self, pool: Pool, log: logging.Logger) -> None:
        self._pool = pool
        self._log = log

    def ensure(self, plan: Plan) -> bool:
        """Make the bridge of *plan*, or set right what is there; True when it was made.

        Raises Conflict when the name or the addresses are another's. A failure leaves nothing that was not there
        before.
        """
        with self._pool.borrow() as netlink, ExitStack() as undo:
            links = netlink.links()
            found = next((link for link in links if link.name == plan.bridge), None)
            if found is not None and found.alias != plan.alias:
                raise Conflict(_taken(found, plan))
            addresses = netlink.addresses()
            self._check_room(plan, links, addresses, found)
            try:
                if found is None:
                    netlink.run(add_bridge(plan.bridge, plan.mac(), plan.mtu), set_link(plan.bridge, alias=plan.alias))
                    undo.callback(self.delete, plan)
                bridge = found or netlink.link(plan.bridge)
                if bridge is None:
                    raise Conflict(f"bridge {plan.bridge} vanished while it was set up: another program removed it")
                self._quieten(plan)
                held = {address for index, address in addresses if index == bridge.index and not _link_local(address)}
                netlink.run(*_readdress(bridge, plan, held))
            except OSError as error:
                raise translate(error, f"set up bridge {plan.bridge}") from error
            undo.pop_all()
            return found is None

    def delete(self, plan: Plan) -> None:
        """Remove the bridge of *plan* when it is there and ours."""
        with self._pool.borrow() as netlink:
            link = netlink.link(plan.bridge)
            if link is None or link.alias != plan.alias:
                return
            (answer,) = netlink.send(del_link(link.index))
            if answer is not None and answer.errno != errno.ENODEV:
                raise translate(answer, f"delete bridge {plan.bridge}") from answer

    def ports(self, plan: Plan) -> list[Link]:
        """Our ends of attachments to *plan*'s network, also those that lost their bridge."""
        instance = plan.alias.split()[1]
        orphan = f"pyd {instance} {plan.short} "
        with self._pool.borrow() as netlink:
            links = netlink.links()
        bridge = next((link.index for link in links if link.name == plan.bridge and link.alias == plan.alias), -1)
        return [link for link in links if _is_end(link) and (link.master == bridge or link.alias.startswith(orphan))]

    def forward(self, key: str, plan: Plan) -> None:
        """Switch forwarding on in this namespace, and say so."""
        if sysctl(key) == "0":
            set_sysctl(key, "1")
            self._log.info("network %s asks for translation: net.%s is 1 now", plan.short, key.replace("/", "."))

    def _check_room(
        self, plan: Plan, links: list[Link], addresses: list[tuple[int, Address]], bridge: Link | None
    ) -> None:
        names = {link.index: link.name for link in links}
        for index, address in addresses:
            if (bridge is not None and index == bridge.index) or _link_local(address):
                continue
            for subnet in plan.subnets:
                if address.version != subnet.network.version:
                    continue
                # A wider network elsewhere is no harm, ours is the more specific route; else one would hide the other.
                hidden = address.ip in subnet.network and address.network.prefixlen >= subnet.network.prefixlen
                if hidden or address.ip == subnet.gateway:
                    raise Conflict(
                        f"subnet {subnet.network} of network {plan.short} overlaps with {address} on interface "
                        f"{names.get(index, index)} of this host: choose another subnet"
                    )

    def _quieten(self, plan: Plan) -> None:
        set_sysctl(f"ipv6/conf/{plan.bridge}/accept_ra", "0")  # CVE-2020-13401: a container is no router of the host
        set_sysctl(f"ipv6/conf/{plan.bridge}/disable_ipv6", "0" if plan.ipv6 else "1")


def _readdress(bridge: Link, plan: Plan, held: set[Address]) -> list[Message]:
    wanted = dict.fromkeys(plan.gateways)
    messages = [del_address(bridge.index, address) for address in sorted(held - set(wanted), key=str)]
    messages += [add_address(bridge.index, address) for address in wanted if address not in held]
    return [*messages, set_link(bridge.index, up=True, mtu=plan.mtu)]


def _taken(link: Link, plan: Plan) -> str:
    owner = link.alias.split()
    if len(owner) == 3 and owner[0] == "pyd":
        return f"bridge {link.name} belongs to network {owner[2][:12]} of daemon {owner[1]}: choose another bridge name"
    return (
        f"an interface {link.name} is there that this daemon did not make: choose another bridge name for network "
        f"{plan.short}, or remove the interface with: ip link delete {link.name}"
    )


def _link_local(address: Address) -> bool:
    return isinstance(address.ip, IPv6Address) and address.ip.is_link_local


def _is_end(link: Link) -> bool:
    return link.kind == "veth" and _END.match(link.name) is not None
