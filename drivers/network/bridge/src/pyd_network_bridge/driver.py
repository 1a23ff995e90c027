"""The bridge driver: one Linux bridge a network, one veth pair an attachment, one nftables table a daemon.

An attach is two batches of netlink messages and a handful of sysctl files, about 1.7 ms, of which the kernel takes
most: the host's half runs in the caller's thread, the container's half on a thread that enters the namespace and ends
there. Rules depend on networks, not on containers, so that no attach or detach touches nftables.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack

from pyd_contracts.errors import (
    AlreadyExists,
    Conflict,
    DriverFault,
    FailedPrecondition,
    NotFound,
    PydError,
    ResourceExhausted,
    Unsupported,
)
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Attached, Attachment, NetworkSpec, Passage
from pyd_netlink.attachments import check_attachment, mac_of
from pyd_netlink.inside import configure
from pyd_netlink.namespaces import Visit, open_netns, set_sysctl
from pyd_netlink.rtnetlink import (
    Link,
    Message,
    Netlink,
    Pool,
    add_veth,
    del_link,
    set_link,
    set_port,
    sync_carrier,
    translate,
)
from pyd_network_bridge import firewall
from pyd_network_bridge.bridge import Bridges
from pyd_network_bridge.nft import Nft, NftError
from pyd_network_bridge.options import ANTI_SPOOFING
from pyd_network_bridge.plan import Plan, dead_group, host_ifname, table_name
from pyd_network_bridge.ports import Ports
from pyd_network_bridge.reaper import Reaper
from pyd_network_bridge.spoofing import Spoofing
from pyd_network_bridge.watch import Watch

__all__ = ["BridgeDriver"]


class BridgeDriver:
    """Networks as Linux bridges.

    instance     8 hex digits in the names of kernel objects
    nft          what runs nftables scripts, None for none; *missing* then says why
    bridge_name  name of the bridge of the network called ``bridge``
    """

    def __init__(
        self,
        instance: str,
        log: logging.Logger,
        nft: Nft | None,
        missing: str = "",
        bridge_name: str = "",
    ) -> None:
        # Rules are explained, or why there are none: a hook that a class has must be declared whatever the host can do.
        self.capabilities = frozenset({"rules"} if nft is None else {"masquerade", "ports", "rules"})
        self._instance = instance
        self._log = log
        self._nft = nft
        self._missing = missing
        self._bridge_name = bridge_name
        self._pool = Pool()
        self._bridges = Bridges(self._pool, log)
        self._reaper = Reaper(self._pool, dead_group(instance), log)
        self._plans: dict[str, tuple[NetworkSpec, Plan]] = {}
        self._rules = threading.Lock()
        self._ports = None if nft is None else Ports(nft, table_name(instance), log)
        self._spoofing = None if nft is None else Spoofing(nft, table_name(instance))
        self._watch: Watch | None = None

    @hookimpl
    def network_create(self, network: NetworkSpec) -> Mapping[str, str]:
        """See the contract."""
        plan = self._plan(network)
        with ExitStack() as undo:
            created = self._bridges.ensure(plan)
            if created:
                undo.callback(self._remove, plan)
            if self._nft is not None:
                with self._rules:
                    firewall.apply(self._nft, table_name(self._instance), plan)
            self._forward(plan)
            undo.pop_all()
        self._plans[network.id] = network, plan
        self._look_out()
        return self._record(plan)

    @hookimpl
    def network_delete(self, network: NetworkSpec) -> None:
        """See the contract."""
        self._remove(self._plan(network))

    @hookimpl
    def network_attach(self, attachment: Attachment) -> Attached:
        """See the contract."""
        check_attachment(attachment)
        plan = self._plan(attachment.network)
        fd = open_netns(attachment.netns)
        try:
            return self._attach(attachment, plan, fd)
        finally:
            os.close(fd)

    @hookimpl
    def network_detach(self, attachment: Attachment, attached: Attached | None) -> None:
        """See the contract."""
        if self._ports is not None:
            try:
                self._ports.withdraw(self._plan(attachment.network), attachment)
            except DriverFault as error:  # the interface goes all the same, and `network_gc` comes by again
                self._log.warning("close the ports of container %s: %s", attachment.container[:12], error)
        name = host_ifname(self._instance, attachment.container, attachment.ifname)
        self._free(name)
        with self._pool.borrow() as netlink:
            link = netlink.link(name)
        if link is None or not self._reaper.give_up(link):
            return
        if os.path.exists(attachment.netns):
            self._reaper.now()  # somebody may look: the interface is gone from the namespace when this returns
        else:
            self._reaper.later()

    @hookimpl
    def network_check(self, attachment: Attachment, attached: Attached) -> None:
        """See the contract."""
        from pyd_netlink.check import faults_inside
        from pyd_network_bridge.check import faults_outside

        plan = self._plan(attachment.network)
        fd = open_netns(attachment.netns)
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            inside = Visit(fd, lambda: faults_inside(attachment, attached))
            outside = Visit(here, lambda: faults_outside(attached.host_ifname, plan.bridge))
            faults = [*outside.result(), *inside.result()]
            if attachment.ports and self._ports is not None:
                faults += self._ports.check(plan, attachment)
        finally:
            os.close(fd)
            os.close(here)
        if faults:
            where = f"container {attachment.container[:12]} on network {attachment.network.name}"
            advice = "disconnect it from the network and connect it again"
            raise FailedPrecondition(f"{where}: {'; '.join(faults)}; {advice}")

    @hookimpl
    def network_gc(self, network: NetworkSpec, valid: Collection[Attachment]) -> Sequence[str]:
        """See the contract."""
        plan = self._plan(network)
        names = {host_ifname(self._instance, each.container, each.ifname) for each in valid}
        strangers = [link for link in self._bridges.ports(plan) if link.name not in names]
        removed = [link.name for link in strangers if self._reaper.give_up(link)]
        if removed:
            self._reaper.now()
        if self._ports is not None:
            removed += self._ports.sync(plan, valid)
        if plan.addressed and self._spoofing is not None:
            for each in valid:  # the table is of an earlier daemon, or was never made
                name = host_ifname(self._instance, each.container, each.ifname)
                self._spoofing.watch(name, mac_of(each), each)
        return sorted(removed)

    @hookimpl
    def network_rules(self, attachment: Attachment) -> Sequence[Passage]:
        """See the contract."""
        from pyd_network_bridge.explain import passages

        if self._nft is None or self._ports is None:
            raise Unsupported(f"explain rules: {self._missing}")
        plan = self._plan(attachment.network)
        missing = frozenset(self._ports.missing(plan, attachment))
        return passages(self._nft, table_name(self._instance), plan, attachment, missing)

    @hookimpl
    def network_close(self) -> None:
        """See the contract."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._reaper.close()
        for _, plan in list(self._plans.values()):
            if not self._bridges.ports(plan):
                self._remove(plan)
        self._plans.clear()
        self._pool.close()
        if self._nft is not None:
            self._nft.close()

    # --- the parts ---------------------------------------------------------------------------------------------------

    def _plan(self, network: NetworkSpec) -> Plan:
        known = self._plans.get(network.id)
        if known is not None and known[0] == network:
            return known[1]
        return Plan.of(network, self._instance, self._bridge_name)

    def _attach(self, attachment: Attachment, plan: Plan, fd: int) -> Attached:
        name = host_ifname(self._instance, attachment.container, attachment.ifname)
        mac = mac_of(attachment)
        with self._pool.borrow() as netlink:
            bridge = netlink.link(plan.bridge)
            if bridge is None and attachment.network.id in self._plans:
                self._log.warning(
                    "network %s: somebody removed its bridge %s; making it again", plan.short, plan.bridge
                )
                self.network_create(attachment.network)
                bridge = netlink.link(plan.bridge)
            if bridge is None or bridge.alias != plan.alias:
                raise NotFound(f"network {attachment.network.name} has no bridge {plan.bridge} here: create it first")
            pair = add_veth(name, bridge.index, attachment.ifname, fd, bytes.fromhex(mac.replace(":", "")), plan.mtu)
            self._create(netlink, pair, attachment, plan, name)
            gateways = tuple(
                subnet.gateway
                for subnet in plan.subnets
                if subnet.gateway is not None
                and not plan.internal
                and any(address.ip in subnet.network for address in attachment.addresses)
            )
            with ExitStack() as undo:
                undo.callback(self._undo, name)
                # One after the other: at the same time the two threads wait for the interpreter, and nothing is gained.
                port = self._raise_port(netlink, name, attachment, plan)
                Visit(fd, lambda: configure(attachment, gateways)).result()
                netlink.run(sync_carrier(port), sync_carrier(bridge.index))
                if plan.addressed:
                    self._confine(name, mac, attachment)
                    undo.callback(self._free, name)
                if attachment.ports:
                    self._publish(plan, attachment)
                undo.pop_all()
        return Attached(host_ifname=name, mac=mac, addresses=attachment.addresses, gateways=gateways)

    def _create(self, netlink: Netlink, pair: Message, attachment: Attachment, plan: Plan, name: str) -> None:
        (answer,) = netlink.send(pair)
        if answer is not None and answer.errno == errno.EEXIST:
            # Perhaps an earlier attachment of the same name is about to be deleted: hurry, and try once more.
            self._reaper.now()
            (answer,) = netlink.send(pair)
        if answer is None:
            return
        doing = f"attach {attachment.container[:12]} to network {attachment.network.name}"
        if answer.errno == errno.EEXIST:
            what = f"{name} on the host" if netlink.link(name) else f"{attachment.ifname} in the container"
            raise AlreadyExists(f"{doing}: interface {what} is there already") from answer
        if answer.errno == errno.EXFULL:
            raise ResourceExhausted(
                f"network {attachment.network.name}: bridge {plan.bridge} has no free port (the kernel's limit is 1023 "
                "a bridge): remove containers from this network or use a second one"
            ) from answer
        raise translate(answer, doing) from answer

    def _raise_port(self, netlink: Netlink, name: str, attachment: Attachment, plan: Plan) -> int:
        # The host's end is a port of the bridge and needs no addresses of its own, link-local ones included.
        set_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")
        link = netlink.link(name)
        if link is None:
            raise NotFound(f"interface {name} vanished while it was set up: the container's namespace is gone")
        alias = f"pyd {self._instance} {plan.short} {attachment.container[:12]} {attachment.ifname}"
        messages = [set_link(link.index, up=True, alias=alias)]
        if attachment.ports or not plan.icc:
            # With br_netfilter what a container sends to its own published port comes back by its own port of the bridge.
            messages.insert(0, set_port(link.index, isolated=not plan.icc, hairpin=bool(attachment.ports)))
        try:
            netlink.run(*messages)
        except OSError as error:
            raise translate(error, f"set up interface {name}") from error
        return link.index

    def _publish(self, plan: Plan, attachment: Attachment) -> None:
        if self._ports is None:
            raise Unsupported(f"publish ports of container {attachment.container[:12]}: {self._missing}")
        try:
            self._ports.publish(plan, attachment)
        except Conflict:
            # Perhaps somebody removed our rules, and `Watch` has not come to it yet.
            if firewall.has_ports(self._nft, table_name(self._instance), plan):
                raise
            self._restore_rules(missing=True)
            self._ports.publish(plan, attachment)

    def _confine(self, name: str, mac: str, attachment: Attachment) -> None:
        doing = f"network {attachment.network.name}: keep container {attachment.container[:12]} to its addresses"
        if self._spoofing is None:
            raise Unsupported(f"{doing}: {self._missing}")
        try:
            self._spoofing.watch(name, mac, attachment)
        except NftError as error:
            raise Unsupported(f"{doing} ({ANTI_SPOOFING}): this kernel does not filter bridges: {error}") from error

    def _free(self, name: str) -> None:
        if self._spoofing is not None:
            self._spoofing.forget(name)

    def _undo(self, name: str) -> None:
        with self._pool.borrow() as netlink:
            link = netlink.link(name)
            if link is not None:
                (answer,) = netlink.send(del_link(link.index))
                if answer is not None and answer.errno != errno.ENODEV:
                    self._log.warning("interface %s stays behind a failed attach: %s", name, answer.strerror)

    def _remove(self, plan: Plan) -> None:
        ports: list[Link] = self._bridges.ports(plan)
        for link in ports:
            self._reaper.give_up(link)
        if ports:
            self._reaper.now()
        self._bridges.delete(plan)
        if self._nft is not None:
            with self._rules:
                firewall.remove(self._nft, table_name(self._instance), plan)
        self._plans.pop(plan.network, None)

    def _look_out(self) -> None:
        if self._nft is None or self._watch is not None:
            return
        try:
            self._watch = Watch(self._nft, table_name(self._instance), self._restore_rules)
        except OSError as error:
            self._log.warning("rules that others remove come back at the next start only: %s", error.strerror)

    def _restore_rules(self, missing: bool) -> None:
        """Somebody deleted something of ours, or tables: were ours among them? Then everything comes back."""
        if self._nft is None or self._ports is None or self._spoofing is None:
            return
        table = table_name(self._instance)
        try:
            with self._rules:
                plans = [plan for _, plan in list(self._plans.values())]
                if not missing and firewall.is_whole(self._nft, table, plans):
                    return
                self._log.warning("somebody removed rules of table %s; setting them again", table)
                for plan in plans:
                    firewall.apply(self._nft, table, plan)
            self._ports.restore()
            self._spoofing.restore()
        except PydError as error:
            self._log.error("set the rules of table %s again: %s", table, error)

    def _forward(self, plan: Plan) -> None:
        # The option that asks for translation asks for forwarding: packets of containers cross this host as a router.
        wanted = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
        for version in sorted(plan.masquerade):
            self._bridges.forward(wanted[version], plan)

    def _record(self, plan: Plan) -> dict[str, str]:
        record = {"bridge": plan.bridge, "instance": self._instance}
        if self._nft is None:
            record["firewall"] = f"off: {self._missing}"
            record["masquerade"] = f"off: {self._missing}" if plan.masquerade else "off"
            self._log.warning("network %s (%s): no rules are written: %s", plan.short, plan.bridge, self._missing)
            return record
        record["firewall"] = f"{self._nft.name}, table {table_name(self._instance)}"
        record["masquerade"] = "on" if plan.masquerade else "off"
        if plan.masquerade and firewall.forward_policy(self._nft) == "drop":
            advice = f"iptables -I FORWARD -i {plan.bridge} -j ACCEPT; iptables -I FORWARD -o {plan.bridge} -j ACCEPT"
            record["forward"] = f"another program's FORWARD policy is DROP; to let containers out: {advice}"
            self._log.warning("network %s (%s): %s", plan.short, plan.bridge, record["forward"])
        return record
