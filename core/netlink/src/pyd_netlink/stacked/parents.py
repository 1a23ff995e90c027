"""The interfaces that others are stacked on: found, or made and removed again when they are ours.

Ours are VLAN interfaces that were missing, and interfaces that lead nowhere, for networks without a parent. The alias
says so; it is written in the same system call that makes them, so that no crash can fall between.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterable

from pyd_contracts.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound, PydError, Unsupported
from pyd_netlink.elsewhere import HERE, Place, over
from pyd_netlink.rtnetlink import Link, Message, Netlink, Pool, del_link, set_link, translate
from pyd_netlink.stacked.links import add_parent, vlan_data
from pyd_netlink.stacked.plan import Parent, Plan

__all__ = ["Parents"]

_KINDS = ("macvlan", "macvtap", "ipvlan", "ipvtap")
_NOWHERE = ("dummy", "ifb")
"""Kinds of interfaces that swallow what is sent; a kernel may lack the first (both: dummy.c, ifb.c in Linux)."""


class Parents:
    """The parents of one driver's networks."""

    def __init__(self, pool: Pool, log: logging.Logger) -> None:
        self._pool = pool
        self._log = log

    def ensure(self, plan: Plan, others: Collection[Plan]) -> bool:
        """Find or make the parent of *plan*; True when it was made.

        others  the driver's other networks. Raises InvalidArgument and Conflict in dockerd's words; nothing is left then.
        """
        for other in others:
            if other.parent == plan.parent and not plan.flavour.bears(other.flavour):
                raise Conflict(_taken(plan, other))
        with self._pool.borrow() as netlink:
            found = netlink.link(plan.parent)
            if found is None:
                self._make(netlink, plan)
                return True
            self._check(netlink, plan, found, others)
            if self._ours(plan, found) and not found.up:
                netlink.run(set_link(found.index, up=True))
        return False

    def find(self, netlink: Netlink, plan: Plan) -> Link:
        """The parent of a network that was created. Raises NotFound."""
        found = netlink.link(plan.parent)
        if found is None or (plan.made is Parent.OWN and found.alias != plan.mark):
            raise NotFound(f"network {plan.name} has no parent interface {plan.parent} here: create it first")
        return found

    def delete(self, plan: Plan, others: Iterable[Plan]) -> None:
        """Remove the parent of *plan* when it is ours and nothing else is stacked on it."""
        if plan.made is Parent.HOST or any(other.parent == plan.parent for other in others):
            return
        with self._pool.borrow() as netlink:
            link = netlink.link(plan.parent)
            if link is None or not self._ours(plan, link):
                return
            used = over(netlink, link.index, _KINDS)
            if used:
                self._log.warning("interface %s stays: %s is stacked on it", link.name, _seen(used[0]))
                return
            (answer,) = netlink.send(del_link(link.index))
        if answer is not None and answer.errno != errno.ENODEV:
            raise translate(answer, f"delete interface {plan.parent}") from answer

    def _ours(self, plan: Plan, link: Link) -> bool:
        return plan.made is not Parent.HOST and link.alias == plan.mark

    def _make(self, netlink: Netlink, plan: Plan) -> None:
        if plan.made is Parent.OWN:
            self._make_nowhere(netlink, plan)
            return
        if plan.made is Parent.HOST:
            raise InvalidArgument(_no_parent(plan))
        trunk = netlink.link(plan.trunk)
        if trunk is None:
            raise InvalidArgument(f"-o parent interface does not exist on the host: {plan.trunk}")
        if not trunk.up:
            raise FailedPrecondition(
                f"network {plan.name}: interface {plan.trunk} is down: bring it up with: ip link set {plan.trunk} up"
            )
        error = self._add(netlink, plan, add_parent(plan.parent, "vlan", vlan_data(plan.vlan), trunk.index))
        if error is not None:
            raise error

    def _make_nowhere(self, netlink: Netlink, plan: Plan) -> None:
        for kind in _NOWHERE:
            error = self._add(netlink, plan, add_parent(plan.parent, kind))
            if error is None:
                return
            if not isinstance(error, Unsupported):
                raise error
        raise Unsupported(
            f"network {plan.name}: without a parent it needs an interface of kind {' or '.join(_NOWHERE)}, and this kernel "
            "has neither: name a parent with -o parent=INTERFACE"
        )

    def _add(self, netlink: Netlink, plan: Plan, message: Message) -> PydError | None:
        made, marked = netlink.send(message, set_link(plan.parent, alias=plan.mark, up=True))
        if made is not None:
            if made.errno == errno.EOPNOTSUPP:
                return Unsupported(f"network {plan.name}: {made.strerror}: this kernel has no such kind")
            return translate(made, f"network {plan.name}")
        if marked is not None:
            link = netlink.link(plan.parent)
            if link is not None:
                netlink.send(del_link(link.index))
            return translate(marked, f"network {plan.name}")
        return None

    def _check(self, netlink: Netlink, plan: Plan, link: Link, others: Collection[Plan]) -> None:
        if plan.made is Parent.OWN and link.alias != plan.mark:
            raise Conflict(
                f"an interface {link.name} is there that this daemon did not make, and network {plan.name} needs the name: "
                f"remove it with: ip link delete {link.name}"
            )
        if link.master:
            raise Conflict(
                f"network {plan.name}: interface {link.name} is a port of another one (a bridge or a bond): nothing can be "
                f"stacked on it; name that one as the parent, or take it out with: ip link set {link.name} nomaster"
            )
        if plan.mtu > link.mtu:
            raise InvalidArgument(
                f"network {plan.name}: an MTU of {plan.mtu} is above the {link.mtu} of its parent {link.name}"
            )
        ours = {plan.group, *(other.group for other in others)}
        for place in over(netlink, link.index, _KINDS):
            if place.link.group not in ours and not plan.flavour.bears_link(place.link):
                raise Conflict(
                    f"network {plan.name}: parent interface {link.name} carries {_seen(place)} already, and "
                    f"{plan.flavour.kind} in mode {plan.flavour.mode} cannot be beside it: name another parent"
                )


def _taken(plan: Plan, other: Plan) -> str:
    kind = plan.flavour.kind
    if plan.flavour.alone:
        return f"cannot use mode passthru, {kind} network {other.name} is already using parent interface {plan.parent}"
    if other.flavour.alone:
        return f"{kind} network {other.name} is already using parent interface {plan.parent} in mode passthru"
    return (
        f"network {other.name} is already using parent interface {plan.parent} in mode {other.flavour.mode}: "
        f"all {kind} networks on one parent have the same mode, not {plan.flavour.mode}"
    )


def _no_parent(plan: Plan) -> str:
    """dockerd's words for a name that is no interface of this host and no VLAN's."""
    parent = plan.parent
    _, dot, tag = parent.partition(".")
    if not dot:
        return f"invalid subinterface vlan name {parent}, example formatting is eth0.10: no interface {parent} is on this host"
    if "." in tag:
        return f"required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {parent}"
    if tag.isascii() and tag.isdigit():
        return f"vlan id must be between 1-4094, received: {int(tag)}"
    return f"unable to parse a valid vlan id from: {tag} (ex. eth0.10 for vlan 10)"


def _seen(place: Place) -> str:
    where = "this host" if place.where == HERE else "a container"
    return f"the {place.link.kind} interface {place.link.name} of {where}"
