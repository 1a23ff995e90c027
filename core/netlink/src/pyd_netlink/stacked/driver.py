"""The driver that macvlan and ipvlan are: an interface on a parent of the host's for each attachment, and nothing else.

An attach is two batches of netlink messages: the interface is born in the container's namespace, down, and a thread
that enters it and ends there gives it addresses and routes. There is no end on the host and no rule, and so nothing that
could be left when a namespace dies. An interface is recognised by its group, which it has from birth, and its alias.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack

from pyd_contracts.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, PydError
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Attached, Attachment, NetworkSpec
from pyd_netlink.attachments import check_attachment, mac_of
from pyd_netlink.elsewhere import assign_number, number_of
from pyd_netlink.inside import configure
from pyd_netlink.namespaces import Visit, open_netns
from pyd_netlink.rtnetlink import Netlink, Pool, Way, translate
from pyd_netlink.stacked.announcing import Announcer
from pyd_netlink.stacked.flavour import Flavour
from pyd_netlink.stacked.links import add_stacked
from pyd_netlink.stacked.parents import Parents
from pyd_netlink.stacked.places import Places
from pyd_netlink.stacked.plan import Parent, Plan
from pyd_netlink.wire import attributes

__all__ = ["StackedDriver"]


class StackedDriver(ABC):
    """Networks as interfaces on a parent.

    kind      of the interfaces
    instance  8 hex digits in the marks of kernel objects
    """

    capabilities: frozenset[str] = frozenset()

    def __init__(self, kind: str, instance: str, log: logging.Logger) -> None:
        self._kind = kind
        self._instance = instance
        self._log = log
        self._pool = Pool()
        self._parents = Parents(self._pool, log)
        self._places = Places(self._pool, kind, instance, log)
        self._announcer = Announcer(log)
        self._plans: dict[str, tuple[NetworkSpec, Plan]] = {}
        self._making = threading.Lock()  # networks share parents: one is created or deleted at a time

    @abstractmethod
    def flavour(self, network: NetworkSpec) -> Flavour:
        """What the options of *network* say. Raises InvalidArgument."""

    @hookimpl
    def network_create(self, network: NetworkSpec) -> Mapping[str, str]:
        """See the contract."""
        plan = self._plan(network)
        with self._making:
            self._parents.ensure(plan, self._others(plan))
            self._plans[network.id] = network, plan
        record = {"parent": plan.parent, "mode": plan.flavour.mode}
        if plan.made is Parent.OWN:
            record["reach"] = "containers of this network only: it has no parent on the host"
        return record

    @hookimpl
    def network_delete(self, network: NetworkSpec) -> None:
        """See the contract."""
        plan = self._plan(network)
        with self._making:
            self._remove(plan)
            self._plans.pop(network.id, None)

    @hookimpl
    def network_attach(self, attachment: Attachment) -> Attached:
        """See the contract."""
        check_attachment(attachment)
        plan = self._plan(attachment.network)
        if attachment.mac is not None and not plan.flavour.own_mac:
            raise InvalidArgument(
                f"{self._kind} interfaces do not support custom mac address assignment: they share their parent's"
            )
        fd = open_netns(attachment.netns)
        try:
            return self._attach(attachment, plan, fd)
        finally:
            os.close(fd)

    @hookimpl
    def network_detach(self, attachment: Attachment, attached: Attached | None) -> None:
        """See the contract."""
        plan = self._plan(attachment.network)
        fd = _open(attachment)
        try:
            with self._pool.borrow() as netlink:
                place = self._places.find(netlink, plan, attachment, fd)
                if place is not None:
                    self._places.remove(netlink, place)
        finally:
            if fd is not None:
                os.close(fd)
        self._places.forget(attachment)

    @hookimpl
    def network_check(self, attachment: Attachment, attached: Attached) -> None:
        """See the contract."""
        from pyd_netlink.check import faults_inside

        plan = self._plan(attachment.network)
        fd = open_netns(attachment.netns)
        try:
            faults = [*self._faults_outside(plan, attachment, fd)]
            faults += Visit(fd, lambda: faults_inside(attachment, attached)).result()
        finally:
            os.close(fd)
        if faults:
            where = f"container {attachment.container[:12]} on network {attachment.network.name}"
            advice = "disconnect it from the network and connect it again"
            raise FailedPrecondition(f"{where}: {'; '.join(faults)}; {advice}")

    @hookimpl
    def network_gc(self, network: NetworkSpec, valid: Collection[Attachment]) -> Sequence[str]:
        """See the contract."""
        plan = self._plan(network)
        keep = {plan.alias(each) for each in valid}
        with self._pool.borrow() as netlink:
            strangers = [place for place in self._places.of(netlink, plan) if place.link.alias not in keep]
            removed = [place.link for place in strangers if self._places.remove(netlink, place)]
        return sorted(f"{self._kind} {link.name} ({link.alias or 'half made'})" for link in removed)

    @hookimpl
    def network_close(self) -> None:
        """See the contract."""
        with self._making:
            for _, plan in list(self._plans.values()):
                with self._pool.borrow() as netlink:
                    idle = not self._places.of(netlink, plan)
                if idle:
                    self._remove(plan)
                self._plans.pop(plan.network, None)
        self._announcer.close()
        self._pool.close()

    # --- the parts ---------------------------------------------------------------------------------------------------

    def _plan(self, network: NetworkSpec) -> Plan:
        known = self._plans.get(network.id)
        if known is not None and known[0] == network:
            return known[1]
        return Plan.of(network, self._instance, self.flavour(network))

    def _others(self, plan: Plan) -> list[Plan]:
        return [each for _, each in list(self._plans.values()) if each.network != plan.network]

    def _remove(self, plan: Plan) -> None:
        with self._pool.borrow() as netlink:
            for place in self._places.of(netlink, plan):
                self._places.remove(netlink, place)
        self._parents.delete(plan, self._others(plan))

    def _attach(self, attachment: Attachment, plan: Plan, fd: int) -> Attached:
        flavour = plan.flavour
        gateways = tuple(
            subnet.gateway
            for subnet in attachment.network.subnets
            if subnet.gateway is not None
            and not plan.internal
            and not flavour.routed
            and any(address.ip in subnet.network for address in attachment.addresses)
        )
        versions = sorted({each.version for each in attachment.addresses})
        ways: Sequence[Way] = versions if flavour.routed and not plan.internal else gateways
        with self._pool.borrow() as netlink, ExitStack() as undo:
            parent = self._parents.find(netlink, plan)
            mac = _mac(attachment, flavour)
            self._make(netlink, attachment, plan, parent.index, fd, mac)
            undo.callback(self._undo, netlink, plan, attachment, fd)
            where = number_of(netlink, fd)
            alias = plan.alias(attachment)
            try:
                notify = self._announcer.concerns_all(attachment) if flavour.own_mac else None
                Visit(fd, lambda: configure(attachment, ways, alias=alias, notify=notify)).result()
            except PydError as error:
                if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
                    raise Conflict(
                        f"attach {attachment.container[:12]} to network {plan.name}: the MAC address {mac} is taken on "
                        f"{plan.parent}: choose another one"
                    ) from error
                raise
            if where is not None:
                self._places.enter(attachment, where)
            undo.pop_all()
        if notify is False and plan.made is not Parent.OWN:
            self._announcer.tell(plan.parent, mac or parent.mac, attachment.addresses)
        return Attached(
            host_ifname=plan.parent, mac=mac or parent.mac, addresses=attachment.addresses, gateways=gateways
        )

    def _make(self, netlink: Netlink, attachment: Attachment, plan: Plan, parent: int, fd: int, mac: str) -> None:
        flavour = plan.flavour
        raw = bytes.fromhex(mac.replace(":", ""))
        link = add_stacked(
            attachment.ifname, flavour.kind, flavour.data, parent, fd, mac=raw, mtu=plan.mtu, group=plan.group
        )
        # The number first: whatever happens next, what is in that namespace can be found again.
        numbered, made = netlink.send(assign_number(fd), link)
        doing = f"attach {attachment.container[:12]} to network {plan.name}"
        if numbered is not None and numbered.errno != errno.EEXIST:
            self._log.warning("%s: %s", doing, numbered.strerror)
        if made is None:
            return
        if made.errno == errno.EEXIST:
            raise AlreadyExists(f"{doing}: interface {attachment.ifname} in the container is there already") from made
        if made.errno == errno.EBUSY:
            raise Conflict(
                f"{doing}: parent interface {plan.parent} is in use in another way ({made.strerror}): a bridge's port, or "
                "with interfaces of another kind on it"
            ) from made
        if made.errno == errno.EINVAL and flavour.kind == "macvlan":
            raise Conflict(
                f"{doing}: parent interface {plan.parent} carries an interface in mode passthru, which is alone there, or is "
                f"to carry one beside others ({made.strerror})"
            ) from made
        raise translate(made, doing) from made

    def _undo(self, netlink: Netlink, plan: Plan, attachment: Attachment, fd: int) -> None:
        try:
            place = self._places.find(netlink, plan, attachment, fd)
            if place is not None:
                self._places.remove(netlink, place)
        except (PydError, OSError) as error:
            self._log.warning("interface %s stays behind a failed attach: %s", attachment.ifname, error)

    def _faults_outside(self, plan: Plan, attachment: Attachment, fd: int) -> list[str]:
        with self._pool.borrow() as netlink:
            parent = netlink.link(plan.parent)
            place = self._places.find(netlink, plan, attachment, fd)
        if parent is None:
            return [f"parent interface {plan.parent} is not there"]
        faults = [] if parent.up else [f"parent interface {plan.parent} is down"]
        if place is not None and place.link.link != parent.index:
            faults.append(f"interface {place.link.name} is not on parent {plan.parent}")
        if place is not None and place.link.data and not _same_mode(plan.flavour.data, place.link.data):
            faults.append(f"interface {place.link.name} is not in mode {plan.flavour.mode}")
        return faults


def _mac(attachment: Attachment, flavour: Flavour) -> str:
    """Interfaces that are alone on their parent keep its address, so that the host's is not changed unasked."""
    if not flavour.own_mac or (flavour.alone and attachment.mac is None):
        return ""
    return mac_of(attachment)


def _same_mode(wanted: bytes, found: bytes) -> bool:
    held = dict(attributes(found))
    return all(held.get(kind) == value for kind, value in attributes(wanted))


def _open(attachment: Attachment) -> int | None:
    try:
        return os.open(attachment.netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # the namespace is gone, or lives on without this name
