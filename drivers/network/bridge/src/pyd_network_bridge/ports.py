"""Published ports: elements of maps in the daemon's nftables table, looked up once a connection.

However many ports there are, a packet's way is as long; an attach adds elements and touches no rule. An element's comment names
the container and the network, so that an operator, and `Ports.sync` after a crash, see whose it is.

    ports       a host address, protocol and port                → a container's address and port
    ports-any   a protocol and port of any address of the host   → the same
    ranges      a host address, protocol and ports in sequence   → a container's address; the ports are the same there
    ranges-any  the same of any address of the host
    open        a container's address, protocol and ports: routed networks, where nothing is translated
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_address

from pyd_contracts.errors import Conflict, FailedPrecondition
from pyd_contracts.values import Attachment, PublishedPort
from pyd_netlink.namespaces import set_sysctl
from pyd_network_bridge import conntrack
from pyd_network_bridge.firewall import FAMILIES
from pyd_network_bridge.nft import Nft, NftError
from pyd_network_bridge.plan import Plan

__all__ = ["Element", "Ports", "elements_of"]

_MAPS = ("ports", "ports-any", "ranges", "ranges-any")
_ELEMENT = re.compile(
    r'((?:[0-9a-f.:]+ \. )?)(tcp|udp|sctp|[0-9]+) \. ([0-9]+(?:-[0-9]+)?) comment "([^"]*)"(?: : ([0-9a-f.:]+(?: \. [0-9]+)?))?'
)
_NUMBERS = {"6": "tcp", "17": "udp", "132": "sctp"}
"""Protocols as nft shows them where there is no /etc/protocols."""

Element = tuple[str, str, str, str]
"""Family, map, key, value: as in scripts. Elements of the set have no value."""


class Ports:
    """The ports of one daemon's networks."""

    def __init__(self, nft: Nft, table: str, log: logging.Logger) -> None:
        self._nft = nft
        self._table = table
        self._log = log
        self._lock = threading.Lock()
        self._open: dict[str, list[Element]] = {}
        """Elements by comment, for `restore`."""

    def publish(self, plan: Plan, attachment: Attachment) -> None:
        """Open the ports of an attachment, all or none. Raises Conflict when one leads elsewhere."""
        elements = elements_of(plan, attachment)
        if not elements:
            return
        self._let_loopback_through(plan, attachment.ports)
        comment = _comment(plan, attachment)
        try:
            with self._lock:
                self._nft.run("\n".join(self._add(each, comment) for each in elements))
                self._open[comment] = elements
            self._forget_old_ways(elements)
        except NftError as error:
            shown = ", ".join(f"{each.host}:{each.host_port}/{each.protocol}" for each in attachment.ports[:3])
            raise Conflict(f"publish {shown} of container {attachment.container[:12]}: {error}") from error

    def withdraw(self, plan: Plan, attachment: Attachment) -> None:
        """Close the ports of an attachment; those that are not there are fine."""
        if not attachment.ports:
            return
        comment = _comment(plan, attachment)
        with self._lock:
            closed = self._open.pop(comment, None)
            try:
                if closed is not None:
                    self._delete(closed)
            except NftError:
                closed = None  # some are gone already: look which are left
            if closed is None:
                closed = [element for element, owner in self._present() if owner == comment]
                self._delete(closed)
        self._forget_old_ways(closed)

    def restore(self) -> None:
        """Set all elements again, after the maps were removed."""
        with self._lock:
            known = dict(self._present())
            missing = [
                (element, comment)
                for comment, elements in self._open.items()
                for element in elements
                if element not in known
            ]
            if missing:
                self._nft.run("\n".join(self._add(each, comment) for each, comment in missing))
        self._forget_old_ways(element for element, _ in missing)

    def sync(self, plan: Plan, valid: Collection[Attachment]) -> list[str]:
        """Close what is open on a network for nobody in *valid*, open what is not open for them; what was closed."""
        wanted = {element: _comment(plan, each) for each in valid for element in elements_of(plan, each)}
        with self._lock:
            mine = {element: owner for element, owner in self._present() if owner.endswith(f"network {plan.short}")}
            strangers = [element for element, owner in mine.items() if wanted.get(element) != owner]
            self._delete(strangers)
            missing = [(each, owner) for each, owner in wanted.items() if mine.get(each) != owner]
            for comment in [each for each in self._open if each.endswith(f"network {plan.short}")]:
                del self._open[comment]
            for element, owner in wanted.items():
                self._open.setdefault(owner, []).append(element)
            if missing:
                self._nft.run("\n".join(self._add(each, owner) for each, owner in missing))
        self._forget_old_ways([*strangers, *(element for element, _ in missing)])
        for each in valid:
            if each.ports:
                self._let_loopback_through(plan, each.ports)
        return [f"port {key}" for _, _, key, _ in strangers]

    def check(self, plan: Plan, attachment: Attachment) -> list[str]:
        """What is not as `publish` left it."""
        return [f"port {key} is not published" for _, _, key, _ in self.missing(plan, attachment)]

    def missing(self, plan: Plan, attachment: Attachment) -> list[Element]:
        """Elements of an attachment that are not in the kernel."""
        present = dict(self._present())
        comment = _comment(plan, attachment)
        return [each for each in elements_of(plan, attachment) if present.get(each) != comment]

    def _forget_old_ways(self, elements: Iterable[Element]) -> None:
        """Datagrams to what was opened or closed go the new way, whoever sent some before."""
        try:
            conntrack.forget([place for element in elements for place in _places(element)])
        except OSError as error:
            why = error.strerror or os.strerror(error.errno or 0)
            self._log.warning("who sends datagrams to a port already goes on as before until silent for 30 s: %s", why)

    # --- scripts ---------------------------------------------------------------------------------------------------

    def _add(self, element: Element, comment: str) -> str:
        family, name, key, value = element
        leads = f" : {value}" if value else ""
        return f'add element {family} {self._table} {name} {{ {key} comment "{comment}"{leads} }}'

    def _delete(self, elements: Iterable[Element]) -> None:
        script = "\n".join(
            f"delete element {family} {self._table} {name} {{ {key} }}" for family, name, key, _ in elements
        )
        if script:
            self._nft.run(script)

    def _present(self) -> list[tuple[Element, str]]:
        """All elements with their comments."""
        found: list[tuple[Element, str]] = []
        for family in FAMILIES.values():
            for name in (*_MAPS, "open"):
                kind = "set" if name == "open" else "map"
                try:
                    text = self._nft.run(f"list {kind} {family} {self._table} {name}")
                except NftError:
                    break  # no network of this family
                for host, protocol, port, comment, value in _ELEMENT.findall(text):
                    key = f"{host}{_NUMBERS.get(protocol, protocol)} . {port}"
                    found.append(((family, name, key, value), comment))
        return found

    @staticmethod
    def _let_loopback_through(plan: Plan, ports: Iterable[PublishedPort]) -> None:
        """Packets of this host to 127.0.0.1 leave by the bridge: the kernel calls that martian unless told (ip-sysctl.rst,
        route_localnet). The chain ``guard`` drops what containers send to such addresses (CVE-2020-8558)."""
        if any(port.host.version == 4 and (port.host.is_loopback or port.host.is_unspecified) for port in ports):
            set_sysctl(f"ipv4/conf/{plan.bridge}/route_localnet", "1")


def _comment(plan: Plan, attachment: Attachment) -> str:
    return f"container {attachment.container[:12]} network {plan.short}"


def elements_of(plan: Plan, attachment: Attachment) -> list[Element]:
    """What publishes the ports of an attachment. Raises FailedPrecondition for a family without an address."""
    found: dict[Element, None] = {}
    for port in attachment.ports:
        version = port.host.version
        address = next((each.ip for each in attachment.addresses if each.version == version), None)
        if address is None:
            raise FailedPrecondition(
                f"publish {port.host} port {port.host_port}: the container has no IPv{version} address on this network"
            )
        family = FAMILIES[version]
        if version in plan.routed:
            key = f"{address} . {port.protocol} . {_span(port.container_port, port.count)}"
            found[family, "open", key, ""] = None
            continue
        suffix, prefix = ("-any", "") if port.host.is_unspecified else ("", f"{port.host} . ")
        if port.count > 1 and port.host_port == port.container_port:
            key = f"{prefix}{port.protocol} . {_span(port.host_port, port.count)}"
            found[family, "ranges" + suffix, key, str(address)] = None
            continue
        for step in range(port.count):
            key = f"{prefix}{port.protocol} . {port.host_port + step}"
            found[family, "ports" + suffix, key, f"{address} . {port.container_port + step}"] = None
    return list(found)


def _places(element: Element) -> Iterator[conntrack.Place]:
    """The UDP ports of this host that an element is for."""
    family, name, key, _ = element
    *host, protocol, ports = key.split(" . ")
    if protocol == "udp" and name in _MAPS:
        first, _, last = ports.partition("-")
        version = next(number for number, word in FAMILIES.items() if word == family)
        yield conntrack.Place(version, ip_address(host[0]) if host else None, int(first), int(last or first))


def _span(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"
