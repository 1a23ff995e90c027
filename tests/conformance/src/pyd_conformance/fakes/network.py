"""A network driver in memory: the whole contract, no packets. The engine is tested on it in milliseconds, without root.

A namespace "is there" while its path exists: tests use plain files.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pyd_contracts.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Attached, Attachment, NetworkSpec, Passage, PublishedPort

__all__ = ["FakeNetwork"]

_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}\Z")


class FakeNetwork:
    """Networks and attachments as dictionaries.

    capabilities  what it declares; ``single`` and ``no-addresses`` change what it refuses
    networks      id to description
    attachments   (container, ifname) to the attachment and the answer
    """

    def __init__(self, capabilities: Collection[str] = ("masquerade", "ports", "rules")) -> None:
        self.capabilities = frozenset(capabilities)
        self.networks: dict[str, NetworkSpec] = {}
        self.attachments: dict[tuple[str, str], tuple[Attachment, Attached]] = {}
        self._lock = threading.Lock()

    @hookimpl
    def network_create(self, network: NetworkSpec) -> Mapping[str, str]:
        """See the contract."""
        for subnet in network.subnets:
            if "no-addresses" in self.capabilities:
                raise InvalidArgument(f"network {network.name}: subnet {subnet.network}: this driver has no addresses")
            if subnet.gateway is not None and subnet.gateway not in subnet.network:
                raise InvalidArgument(f"network {network.name}: gateway {subnet.gateway} is not in {subnet.network}")
        with self._lock:
            others = [each.name for each in self.networks.values() if each.id != network.id]
            if "single" in self.capabilities and others:
                raise Conflict(f"only one network of this driver is possible, and {others[0]} is there")
            self.networks[network.id] = network
        return {"fake": network.name}

    @hookimpl
    def network_delete(self, network: NetworkSpec) -> None:
        """See the contract."""
        with self._lock:
            self.networks.pop(network.id, None)
            for key in [key for key, (each, _) in self.attachments.items() if each.network.id == network.id]:
                del self.attachments[key]

    @hookimpl
    def network_attach(self, attachment: Attachment) -> Attached:
        """See the contract."""
        network = attachment.network
        if not Path(attachment.netns).exists():
            raise NotFound(f"no network namespace at {attachment.netns}")
        for address in attachment.addresses:
            if not any(address.ip in subnet.network for subnet in network.subnets):
                raise InvalidArgument(f"address {address} is not of network {network.name}")
        if attachment.mac is not None and ("no-addresses" in self.capabilities or not _possible(attachment.mac)):
            raise InvalidArgument(f"MAC address {attachment.mac!r} cannot be an interface's here")
        key = (attachment.container, attachment.ifname)
        with self._lock:
            if network.id not in self.networks:
                raise NotFound(f"network {network.name} is not there: create it first")
            taken = {place for each, _ in self.attachments.values() for port in each.ports for place in _places(port)}
            for port in attachment.ports:
                if taken & set(_places(port)):
                    raise Conflict(f"port {port.host_port} of {port.host} leads elsewhere")
            if key in self.attachments:
                raise AlreadyExists(f"{attachment.container[:12]} has an interface {attachment.ifname} already")
            attached = Attached(
                host_ifname=f"fake-{attachment.container[:6]}",
                mac=attachment.mac or _mac(attachment),
                addresses=attachment.addresses,
                gateways=()
                if network.internal
                else tuple(subnet.gateway for subnet in network.subnets if subnet.gateway is not None),
            )
            self.attachments[key] = attachment, attached
        return attached

    @hookimpl
    def network_detach(self, attachment: Attachment, attached: Attached | None) -> None:
        """See the contract."""
        with self._lock:
            self.attachments.pop((attachment.container, attachment.ifname), None)

    @hookimpl
    def network_check(self, attachment: Attachment, attached: Attached) -> None:
        """See the contract."""
        with self._lock:
            found = self.attachments.get((attachment.container, attachment.ifname))
        if found is None or found[1] != attached:
            raise FailedPrecondition(f"{attachment.container[:12]}: {attachment.ifname} is not as attach left it")

    @hookimpl
    def network_gc(self, network: NetworkSpec, valid: Collection[Attachment]) -> Sequence[str]:
        """See the contract."""
        keep = {(each.container, each.ifname) for each in valid}
        with self._lock:
            for each in valid:
                known = self.attachments.get((each.container, each.ifname))
                if known is not None:
                    self.attachments[each.container, each.ifname] = each, known[1]
            strangers = {
                key: attached.host_ifname
                for key, (each, attached) in self.attachments.items()
                if each.network.id == network.id and key not in keep
            }
            for key in strangers:
                del self.attachments[key]
        return sorted(strangers.values())

    @hookimpl
    def network_rules(self, attachment: Attachment) -> Sequence[Passage]:
        """See the contract."""
        with self._lock:
            known, _ = self.attachments.get((attachment.container, attachment.ifname), (None, None))
        there = known.ports if known is not None else ()
        found = [
            Passage("anybody", f"port {port.host_port}", port in there, "published", port=port)
            for port in attachment.ports
        ]
        return [*found, Passage("other hosts", "other ports", False, "there are no packets")]

    @hookimpl
    def network_close(self) -> None:
        """See the contract; what is attached stays."""


def _possible(mac: str) -> bool:
    return bool(_MAC.match(mac.lower())) and mac.strip("0:") != ""


def _places(port: PublishedPort) -> list[tuple[str, object, int]]:
    return [(port.protocol, port.host, port.host_port + step) for step in range(port.count)]


def _mac(attachment: Attachment) -> str:
    packed = next((each.ip.packed for each in attachment.addresses if each.version == 4), b"\0\0\0\1")
    return "02:42:" + packed.hex(":")
