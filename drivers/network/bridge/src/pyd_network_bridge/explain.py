"""Which rule lets a packet in, or keeps it out: read from the kernel, said in words.

A rule of ours that somebody took out is not there, and then the answer is what becomes of packets without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pyd_contracts.values import Attachment, Passage, PublishedPort
from pyd_network_bridge import firewall
from pyd_network_bridge.firewall import FAMILIES, OPERATOR
from pyd_network_bridge.nft import Nft, NftError
from pyd_network_bridge.plan import Plan
from pyd_network_bridge.ports import Element, elements_of

__all__ = ["passages"]


def passages(
    nft: Nft, table: str, plan: Plan, attachment: Attachment, missing: frozenset[Element]
) -> Sequence[Passage]:
    """The answer of `network_rules`. *missing*: elements of its ports that the kernel does not have."""
    found: list[Passage] = []
    for version in sorted({address.version for address in attachment.addresses}):
        found += _View(nft, table, plan, attachment, version, missing).passages()
    return found


@dataclass(frozen=True)
class _View:
    """One family's part."""

    nft: Nft
    table: str
    plan: Plan
    attachment: Attachment
    version: int
    missing: frozenset[Element]
    chains: dict[str, list[str]] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"{FAMILIES[self.version]} {self.table}"

    @property
    def address(self) -> str:
        return next(str(each.ip) for each in self.attachment.addresses if each.version == self.version)

    def passages(self) -> Iterator[Passage]:
        yield from self._operator()
        for port in self.attachment.ports:
            if port.host.version == self.version:
                yield self._published(port)
        yield from self._from_outside()
        yield self._neighbours()
        yield self._other_networks()
        yield self._this_host()
        yield self._outwards()

    def _operator(self) -> Iterator[Passage]:
        rules = firewall.operator_rules(self.nft, self.table, FAMILIES[self.version])
        if rules:
            yield Passage(
                "anybody else than this host",
                self.address,
                True,
                f"before all of the following the operator's own rules decide: {'; '.join(rules)}",
                f"nft list chain {self.where} {OPERATOR}",
            )

    def _published(self, port: PublishedPort) -> Passage:
        elements = elements_of(self.plan, replace(self.attachment, ports=(port,)))
        _, name, key, value = elements[0]
        rule = (
            f"nft list {'set' if name == 'open' else 'map'} {self.where} {name}: {key}{f' : {value}' if value else ''}"
        )
        if len(elements) > 1:
            rule += f" and {len(elements) - 1} more"
        gone = [each for each in elements if each in self.missing]
        inside = _span(port.container_port, port.count)
        if self.version in self.plan.routed:
            sender = "anybody"
            target = f"{port.protocol} port {inside} of {self.address}"
            reason = "published on a routed network: open at the container's own address, nothing is translated"
        else:
            every = "every address of this host" if port.host.is_unspecified else str(port.host)
            sender = "this host" if port.host.is_loopback else "anybody"
            target = f"{port.protocol} port {_span(port.host_port, port.count)} of {every}"
            reason = f"published: led to port {inside} of {self.address}; what is led on is let through"
        if gone:
            reason = f"published, but somebody removed {len(gone)} of {len(elements)} elements that lead it on"
        elif policy := self._foreign_drop():
            reason += f", but other hosts do not get through: {policy}"
        return Passage(sender, target, not gone, reason, rule, port)

    def _from_outside(self) -> Iterator[Passage]:
        target = f"unpublished ports of {self.address}"
        entering = f"entering-{self.plan.short}"
        if self.plan.trusted and self._rule(entering, "iifname {", 'iifname "'):
            names = ", ".join(self.plan.trusted)
            reason = f"from interface {names} everything is let in (trusted_host_interfaces)"
            yield Passage("other hosts", target, True, reason, self._rule(entering, "iifname {", 'iifname "'))
        drop = self._rule(entering, "drop")
        if self.plan.internal:
            reason = "the network is internal"
        elif self.version in self.plan.guarded:
            reason = "from outside only answers and published ports are let in"
        else:
            reason = "the gateway mode nat-unprotected lets in what is routed here"
        if not drop and (self.plan.internal or self.version in self.plan.guarded):
            reason = "the rule that drops this is missing"
        yield Passage("other hosts", target, not drop, reason, drop)

    def _neighbours(self) -> Passage:
        target = f"every port of {self.address}"
        if self.plan.icc:
            return Passage(
                "containers of this network", target, True, "they share a bridge", f"bridge {self.plan.bridge}"
            )
        reason = "communication between containers is off (enable_icc): the bridge's ports are isolated"
        return Passage(
            "containers of this network", target, False, reason, f"bridge -d link show dev {self.plan.bridge}"
        )

    def _other_networks(self) -> Passage:
        drop = self._rule("forward", "vmap @leaving")
        reason = "what leaves one network for another is dropped, unless it was led to a published port"
        if not drop:
            reason = "the rule that keeps networks apart is missing"
        return Passage("containers of other networks", f"unpublished ports of {self.address}", not drop, reason, drop)

    def _this_host(self) -> Passage:
        target = f"every port of {self.address}"
        if any(gateway.version == self.version for gateway in self.plan.gateways):
            return Passage("this host", target, True, "it holds the gateway's address; no rule looks at what it sends")
        return Passage("this host", target, False, "the bridge has no address: nothing leads there")

    def _outwards(self) -> Passage:
        target, sender = "other hosts", self.address
        if self.plan.internal:
            drop = self._rule(f"leaving-{self.plan.short}", "drop")
            return Passage(sender, target, not drop, "the network is internal", drop)
        if policy := self._foreign_drop():
            return Passage(sender, target, False, policy, "nft list chain ip filter FORWARD")
        nat = self._rule(f"nat-{self.plan.short}", "oifname !=")
        if self.version in self.plan.masquerade and nat:
            given = self.plan.sources.get(self.version)
            reason = f"translated to {given or 'the address of the interface it leaves by'}"
        else:
            reason = "not translated: other hosts must know the way back"
        return Passage(sender, target, True, reason, nat)

    def _foreign_drop(self) -> str:
        if self.version == 4 and firewall.forward_policy(self.nft) == "drop":
            return "the FORWARD chain of another program drops what nobody accepts"
        return ""

    def _rule(self, chain: str, *words: str) -> str:
        """The first rule of a chain that has one of *words*, with the command that shows it; empty: none."""
        if chain not in self.chains:
            try:
                lines = self.nft.run(f"list chain {self.where} {chain}").splitlines()[2:]
            except NftError:
                lines = []
            self.chains[chain] = [line.strip() for line in lines]
        for line in self.chains[chain]:
            if any(word in line.partition(" comment ")[0] for word in words):
                return f"nft list chain {self.where} {chain}: {line.partition(' comment ')[0]}"
        return ""


def _span(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first} to {first + count - 1}"
