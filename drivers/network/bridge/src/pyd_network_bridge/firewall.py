"""The rules of a network: described as nft(8) script text, then run in one transaction.

One table a family, ``pyd-<instance>``, of this daemon alone, so that neither iptables nor firewalld nor another
daemon's rules are touched. Two maps send a packet to its network's chains in constant time, however many networks
there are; a network's part is replaced or removed without a glance at the others'. Every rule is commented with the
network's id.

The chain ``operator`` is looked at before any rule of ours and never touched: what people write into it stays until they
take it out, or empty the table.

An accept in one table is not the last word in nftables: a DROP policy of another table's FORWARD chain (Docker sets
one) still drops what passes here. That chain is not ours to change; `forward_policy` finds it so that it can be
reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyd_network_bridge.nft import Nft, NftError
from pyd_network_bridge.plan import Plan

__all__ = ["FAMILIES", "OPERATOR", "apply", "forward_policy", "has_ports", "is_whole", "operator_rules", "remove"]

FAMILIES = {4: "ip", 6: "ip6"}
_ADDRESS = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}
_LOOPBACK = {"ip": "127.0.0.0/8", "ip6": "::1"}
_ECHO = {"ip": "icmp", "ip6": "icmpv6"}
_PROTOCOL = "ct original protocol"
"""What looks up a protocol among intervals. There nft(8) would have the kernel swap ``meta l4proto``, one byte, by twos, and
kernels of 2026 refuse that (6.12.117: "Operation not supported"). Where data have a port, nft takes ``meta`` alone."""
_GUARD = 'comment "loopback addresses of this host are not for containers"'
OPERATOR = "operator"
"""The chain that is people's own."""


def apply(nft: Nft, table: str, plan: Plan) -> None:
    """Set the rules of one network, in place of those it had."""
    nft.run("\n".join(line for version in _versions(plan) for line in _apply(version, table, plan)))


def remove(nft: Nft, table: str, plan: Plan) -> None:
    """Take the rules of one network away, and the table with the last of them."""
    for family in FAMILIES.values():
        if not _has_table(nft, family, table):
            continue
        nft.run("\n".join(_remove(family, table, plan, _is_listed(nft, family, table, plan))))
        if "elements" not in nft.run(f"list set {family} {table} bridges") and not operator_rules(nft, table, family):
            nft.run(f"delete table {family} {table}")


def is_whole(nft: Nft, table: str, plans: Sequence[Plan]) -> bool:
    """Whether the tables of all *plans* are there."""
    families = {FAMILIES[version] for plan in plans for version in _versions(plan)}
    return all(_has_table(nft, family, table) for family in families)


def has_ports(nft: Nft | None, table: str, plan: Plan) -> bool:
    """Whether the tables of *plan* have room for published ports, as `apply` makes it."""
    try:
        for version in _versions(plan):
            if nft is not None:
                nft.run(f"list map {FAMILIES[version]} {table} ports-any")
    except NftError:
        return False
    return True


def operator_rules(nft: Nft, table: str, family: str) -> list[str]:
    """What people wrote into their chain, as nft(8) shows it; nothing where there is no such chain."""
    try:
        lines = nft.run(f"list chain {family} {table} {OPERATOR}").splitlines()
    except NftError:
        return []
    return [line.strip() for line in lines[2:-2] if line.strip()]


def forward_policy(nft: Nft) -> str:
    """``drop`` when iptables' FORWARD chain drops by default, which no rule of another table can undo; else empty."""
    try:
        chain = nft.run("list chain ip filter FORWARD")
    except NftError:
        return ""
    return "drop" if "policy drop" in chain else ""


def _versions(plan: Plan) -> list[int]:
    return sorted({subnet.network.version for subnet in plan.subnets}) or [4]


def _apply(version: int, table: str, plan: Plan) -> Iterator[str]:
    where = f"{FAMILIES[version]} {table}"
    chains = _Chains(plan)
    comment = f'comment "network {plan.network}"'
    bridge = f'"{plan.bridge}"'
    yield from _base(FAMILIES[version], where)
    for chain in (chains.leaving, chains.entering):
        yield f"add chain {where} {chain}"
        yield f"flush chain {where} {chain}"
    family = FAMILIES[version]
    leaving, entering = f"add rule {where} {chains.leaving}", f"add rule {where} {chains.entering}"
    yield f"{leaving} oifname {bridge} {'return' if plan.icc else 'drop'} {comment}"
    if plan.internal:
        yield f"{leaving} drop {comment}"
    yield f"{leaving} ct status dnat return {comment}"  # to a published port of another network
    yield f"{leaving} oifname @bridges drop {comment}"
    yield f"{entering} iifname {bridge} return {comment}"
    if plan.internal:
        yield f"{entering} drop {comment}"
    elif version in plan.guarded:
        if plan.trusted:
            names = ", ".join(f'"{name}"' for name in plan.trusted)
            yield f"{entering} iifname {{ {names} }} return {comment}"
        yield f"{entering} ct state established,related return {comment}"
        yield f"{entering} ct status dnat return {comment}"
        if version in plan.routed:
            yield f"{entering} meta l4proto {_ECHO[family]} return {comment}"
            yield f"{entering} {family} daddr . {_PROTOCOL} . th dport @open return {comment}"
        yield f"{entering} drop {comment}"
    yield f"add element {where} bridges {{ {bridge} }}"
    yield f"add element {where} leaving {{ {bridge} : jump {chains.leaving} }}"
    yield f"add element {where} entering {{ {bridge} : jump {chains.entering} }}"
    yield f"add chain {where} {chains.nat} {{ type nat hook postrouting priority srcnat; policy accept; }}"
    yield f"flush chain {where} {chains.nat}"
    # Answers must come back here to be translated: from neighbours that asked for a published port, and from loopback.
    yield f"add rule {where} {chains.nat} oifname {bridge} {family} saddr {_LOOPBACK[family]} masquerade {comment}"
    for subnet in plan.subnets:
        if subnet.network.version == version:
            source = f"{family} saddr {subnet.network}"
            yield f"add rule {where} {chains.nat} {source} oifname {bridge} ct status dnat masquerade {comment}"
            if version in plan.masquerade:
                given = plan.sources.get(version)
                how = "masquerade" if given is None else f"snat to {given}"
                yield f"add rule {where} {chains.nat} {source} oifname != {bridge} {how} {comment}"


def _is_listed(nft: Nft, family: str, table: str, plan: Plan) -> bool:
    """The maps lead packets of the bridge to this network's chains. A bridge of that name may be another network's."""
    try:
        elements = nft.run(f"list map {family} {table} leaving")
    except NftError:
        return False
    return f'"{plan.bridge}" : jump {_Chains(plan).leaving}' in elements


def _remove(family: str, table: str, plan: Plan, is_listed: bool) -> Iterator[str]:
    where = f"{family} {table}"
    chains = _Chains(plan)
    bridge = f'"{plan.bridge}"'
    yield from _base(family, where)
    # nft 1.0.6 knows no "destroy": to add first makes a removal of what may be missing succeed, in one transaction.
    for name in (chains.leaving, chains.entering):
        yield f"add chain {where} {name}"
        yield f"flush chain {where} {name}"
    for name, jump in (("leaving", chains.leaving), ("entering", chains.entering)) if is_listed else ():
        yield f"add element {where} {name} {{ {bridge} : jump {jump} }}"
        yield f"delete element {where} {name} {{ {bridge} }}"
    if is_listed:
        yield f"add element {where} bridges {{ {bridge} }}"
        yield f"delete element {where} bridges {{ {bridge} }}"
    for name in (chains.leaving, chains.entering):
        yield f"delete chain {where} {name}"
    yield f"add chain {where} {chains.nat} {{ type nat hook postrouting priority srcnat; policy accept; }}"
    yield f"flush chain {where} {chains.nat}"
    yield f"delete chain {where} {chains.nat}"


def _base(family: str, where: str) -> Iterator[str]:
    yield f"add table {where}"
    yield f"add set {where} bridges {{ type ifname; }}"
    for name in ("leaving", "entering"):
        yield f"add map {where} {name} {{ type ifname : verdict; }}"
    yield f"add chain {where} forward {{ type filter hook forward priority filter; policy accept; }}"
    yield f"flush chain {where} forward"
    yield f"add chain {where} {OPERATOR}"
    yield f'add rule {where} forward jump {OPERATOR} comment "yours: pyd never changes this chain"'
    yield f'add rule {where} forward iifname vmap @leaving comment "from containers, by network"'
    yield f'add rule {where} forward oifname vmap @entering comment "to containers, by network"'
    yield from _publishing(family, where)


def _publishing(family: str, where: str) -> Iterator[str]:
    """Where published ports are looked up (`ports`): for packets from outside, and for this host's own."""
    address, loopback = _ADDRESS[family], _LOOPBACK[family]
    service = f"{address} . inet_service"
    yield f"add map {where} ports {{ type {address} . inet_proto . inet_service : {service}; }}"
    yield f"add map {where} ports-any {{ type inet_proto . inet_service : {service}; }}"
    # Many ports in sequence under the same numbers: one element, whose data say nothing of the port.
    ranged = f"inet_proto . inet_service : {address}; flags interval;"
    yield f"add map {where} ranges {{ type {address} . {ranged} }}"
    yield f"add map {where} ranges-any {{ type {ranged} }}"
    yield f"add set {where} open {{ type {address} . inet_proto . inet_service; flags interval; }}"
    yield f"add chain {where} published"
    yield f"flush chain {where} published"
    for name, protocol, to in (
        ("ports", "meta l4proto", f"{family} to"), ("ports-any", "meta l4proto", f"{family} to"),
        ("ranges", _PROTOCOL, "to"), ("ranges-any", _PROTOCOL, "to"),
    ):  # fmt: skip
        key = f"{protocol} . th dport" if name.endswith("-any") else f"{family} daddr . {protocol} . th dport"
        yield f'add rule {where} published dnat {to} {key} map @{name} comment "published ports"'
    for name, hook, priority in (("publish", "prerouting", "dstnat"), ("publish-here", "output", "-100")):
        yield f"add chain {where} {name} {{ type nat hook {hook} priority {priority}; policy accept; }}"
        yield f"flush chain {where} {name}"
    # What comes in for a loopback address is nobody's business but this host's: it is left to be dropped as martian.
    jump = 'jump published comment "published ports'
    yield f'add rule {where} publish {family} daddr != {loopback} fib daddr type local {jump}, for others"'
    own = "fib daddr type local" if family == "ip" else f"{family} daddr != {loopback} fib daddr type local"
    yield f'add rule {where} publish-here {own} {jump}, for this host"'
    yield f"add chain {where} guard {{ type filter hook prerouting priority raw; policy accept; }}"
    yield f"flush chain {where} guard"
    # The address first: every packet comes by here, and hardly one is for a loopback address.
    yield f"add rule {where} guard {family} daddr {loopback} iifname @bridges drop {_GUARD}"


def _has_table(nft: Nft, family: str, table: str) -> bool:
    return f"table {family} {table}" in nft.run(f"list tables {family}").splitlines()


class _Chains:
    """Names of a network's chains."""

    __slots__ = ("entering", "leaving", "nat")

    def __init__(self, plan: Plan) -> None:
        self.leaving = f"leaving-{plan.short}"
        self.entering = f"entering-{plan.short}"
        self.nat = f"nat-{plan.short}"
