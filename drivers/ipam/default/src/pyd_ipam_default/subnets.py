"""Subnets and the addresses in them: pure.

Networks without a subnet of their own get one of the engine's pools that no other network has and no route of the
host leads to, so that an engine beside this one (docker0) is left alone. Within a subnet the lowest free address is
given, as Docker does: a container that is started again finds its address again.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from pyd_contracts.errors import Conflict, InvalidArgument, PermissionDenied, ResourceExhausted
from pyd_contracts.values import Pool, PoolRequest

__all__ = ["IP", "AddressPool", "IPNetwork", "choose", "refuse_overlap", "settle"]

IP = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


class AddressPool:
    """The addresses of one subnet. Taking and giving back cost next to nothing, however many are out.

    >>> pool = AddressPool(Pool("", IPv4Network("10.0.0.0/29"), ip_address("10.0.0.1")), [])
    >>> [str(pool.take()) for _ in range(2)]
    ['10.0.0.2', '10.0.0.3']
    >>> pool.give_back(ip_address("10.0.0.2"))
    >>> str(pool.take())
    '10.0.0.2'
    """

    def __init__(self, record: Pool, taken: Iterable[IP]) -> None:
        self.record = record
        area = record.ip_range or record.subnet
        self._first, self._last = int(area.network_address), int(area.broadcast_address)
        self._reserved = {int(each) for each in _unusable(record)}
        self._taken = {int(each) for each in taken}
        self._mark = self._first  # nothing below was ever free but what is on the heap
        self._freed: list[int] = []

    def take(self) -> IP:
        """The lowest free address. Raises ResourceExhausted when all are out."""
        while self._freed:
            number = heapq.heappop(self._freed)
            if number not in self._taken:
                return self._give(number)
        while self._mark <= self._last:
            number = self._mark
            self._mark += 1
            if number not in self._taken and number not in self._reserved:
                return self._give(number)
        raise ResourceExhausted(
            f"no available addresses in {self.record.ip_range or self.record.subnet}: {len(self._taken)} are in use; "
            "remove containers from the network or use one with a larger subnet"
        )

    def claim(self, address: IP) -> IP:
        """This very address. Raises InvalidArgument when it can be nobody's, Conflict when it is somebody's."""
        number = int(address)
        if address not in self.record.subnet:
            raise InvalidArgument(f"address {address} is not in subnet {self.record.subnet}")
        if number in self._reserved:
            raise Conflict(f"Address already in use: {address} is reserved in subnet {self.record.subnet}")
        if number in self._taken:
            raise Conflict(f"Address already in use: {address}")
        return self._give(number)

    def give_back(self, address: IP) -> None:
        """Make an address free again; a free one stays free."""
        number = int(address)
        if number in self._taken:
            self._taken.discard(number)
            if self._first <= number < self._mark:
                heapq.heappush(self._freed, number)

    def _give(self, number: int) -> IP:
        self._taken.add(number)
        return ip_address(number) if self.record.subnet.version == 4 else ip_address(number.to_bytes(16, "big"))


def choose(request: PoolRequest, routes: Iterable[IPNetwork]) -> IPNetwork:
    """The first subnet of the defaults that overlaps with nothing occupied and no route; for IPv6 without any, a unique
    local one. Raises ResourceExhausted."""
    version = request.version
    taken = [each for each in (*request.occupied, *routes) if each.version == version]
    bases = [(base, prefix) for base, prefix in request.defaults if base.version == version]
    if version == 6 and not bases:
        return _unique_local(request.network, taken)
    for base, prefix in bases:
        near = [each for each in taken if _overlaps(each, base)]
        for candidate in base.subnets(new_prefix=max(prefix, base.prefixlen)):
            if not any(_overlaps(candidate, each) for each in near):
                return candidate
    raise ResourceExhausted(
        "all predefined address pools have been fully subnetted: name a subnet, remove networks, or widen "
        "default-address-pools"
    )


def refuse_overlap(wanted: IPNetwork, occupied: Iterable[IPNetwork]) -> None:
    """Raise PermissionDenied, in Docker's words, that names what *wanted* overlaps with."""
    other = next((each for each in occupied if _overlaps(wanted, each)), None)
    if other is not None:
        raise PermissionDenied(
            f"invalid pool request: Pool overlaps with other one on this address space: {wanted} and {other}"
        )


def settle(request: PoolRequest, subnet: IPNetwork) -> Pool:
    """The pool of *subnet*; the gateway is the first address of its range that is no auxiliary one, unless another is named.

    Raises InvalidArgument that quotes what cannot be.
    """
    area = request.ip_range
    if area is not None and not _within(area, subnet):
        raise InvalidArgument(f"invalid ip-range {area}: it is not part of subnet {subnet}")
    auxiliary = dict(request.auxiliary)
    for name, address in auxiliary.items():
        if address not in subnet:
            raise InvalidArgument(f"invalid auxiliary address {address} ({name}): it is not in subnet {subnet}")
    gateway = request.gateway
    if gateway is None:
        others = set(auxiliary.values())
        gateway = next((each for each in _hosts(subnet, area or subnet) if each not in others), None)
    elif gateway not in subnet:
        raise InvalidArgument(f"invalid gateway {gateway}: it is not in subnet {subnet}")
    elif gateway in _bounds(subnet):
        raise InvalidArgument(
            f"invalid gateway {gateway}: it is the network's own or its broadcast address in subnet {subnet}"
        )
    if gateway in auxiliary.values():
        raise InvalidArgument(f"gateway {gateway} is an auxiliary address as well: choose another one")
    return Pool(request.network, subnet, gateway, area, auxiliary)


def _unique_local(network: str, taken: list[IPNetwork]) -> IPv6Network:
    """A /64 that the network's id decides (RFC 4193, 3.2.2)."""
    for attempt in range(64):
        digest = hashlib.sha256(f"{network} {attempt}".encode()).digest()
        candidate = IPv6Network((b"\xfd" + digest[:5] + b"\0" * 10, 64))
        if not any(_overlaps(candidate, each) for each in taken):
            return candidate
    raise ResourceExhausted("no unique local IPv6 subnet is free: name one")


def _hosts(subnet: IPNetwork, area: IPNetwork) -> Iterator[IP]:
    """The addresses of *area* that hosts of *subnet* may have."""
    if area == subnet:
        return iter(subnet.hosts())
    bounds = () if subnet.prefixlen >= subnet.max_prefixlen - 1 else (subnet.network_address, subnet.broadcast_address)
    return (each for each in area if each not in bounds)


def _bounds(subnet: IPNetwork) -> tuple[IP, ...]:
    """The addresses that no host may have: RFC 3021, a /31 is two hosts; a /32 is one. IPv6 knows no broadcast."""
    if subnet.prefixlen >= subnet.max_prefixlen - 1:
        return ()
    return (subnet.network_address,) if subnet.version == 6 else (subnet.network_address, subnet.broadcast_address)


def _unusable(record: Pool) -> Iterator[IP]:
    subnet = record.subnet
    if record.gateway is not None:
        yield record.gateway
    yield from record.auxiliary.values()
    yield from _bounds(subnet)


def _overlaps(one: IPNetwork, two: IPNetwork) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(two, IPv4Network) and one.overlaps(two)
    return isinstance(two, IPv6Network) and one.overlaps(two)


def _within(one: IPNetwork, two: IPNetwork) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(two, IPv4Network) and one.subnet_of(two)
    return isinstance(two, IPv6Network) and one.subnet_of(two)
