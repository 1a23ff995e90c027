"""Who is called what on which network. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["Table"]

IP = IPv4Address | IPv6Address


@dataclass(slots=True)
class _Network:
    names: dict[str, dict[str, None]] = field(default_factory=dict)
    """Lower-case names and the endpoints that have them."""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    network: str
    network_name: str
    names: tuple[str, ...]
    addresses: tuple[IP, ...]


class Table:
    """Endpoints by name and by address."""

    def __init__(self) -> None:
        self._endpoints: dict[str, _Endpoint] = {}
        self._networks: dict[str, _Network] = {}
        self._by_address: dict[tuple[str, IP], str] = {}
        self._turn = 0

    def add(
        self, endpoint: str, network: str, network_name: str, names: Iterable[str], addresses: Iterable[str]
    ) -> None:
        """Enter an endpoint, in place of what it was."""
        self.drop(endpoint)
        entry = _Endpoint(network, network_name.lower(), tuple(names), tuple(map(ip_address, addresses)))
        self._endpoints[endpoint] = entry
        known = self._networks.setdefault(network, _Network()).names
        for name in entry.names:
            known.setdefault(name.lower(), {})[endpoint] = None
        for address in entry.addresses:
            self._by_address[network, address] = endpoint

    def drop(self, endpoint: str) -> None:
        """Strike an endpoint out; one that is not there is fine."""
        entry = self._endpoints.pop(endpoint, None)
        if entry is None:
            return
        known = self._networks[entry.network].names
        for name in {name.lower() for name in entry.names}:
            known[name].pop(endpoint, None)
            if not known[name]:
                del known[name]
        if not known:
            del self._networks[entry.network]
        for address in entry.addresses:
            self._by_address.pop((entry.network, address), None)

    def addresses(self, networks: Sequence[str], name: str) -> list[IP] | None:
        """All addresses of *name* on the first of *networks* that knows it, another one first each time; None: unknown.

        ``name.network`` is one on that network alone.
        """
        for network in networks:
            known = self._networks.get(network)
            endpoints = known.names.get(name) if known else None
            if not endpoints:
                endpoints = self._qualified(network, name)
            if endpoints:
                found = [address for each in endpoints for address in self._endpoints[each].addresses]
                self._turn += 1
                turn = self._turn % len(found) if found else 0
                return found[turn:] + found[:turn]
        return None

    def _qualified(self, network: str, name: str) -> dict[str, None] | None:
        known = self._networks.get(network)
        host, dot, suffix = name.rpartition(".")
        endpoints = known.names.get(host) if known and dot else None
        if not endpoints or self._endpoints[next(iter(endpoints))].network_name != suffix:
            return None
        return endpoints

    def name_of(self, networks: Sequence[str], address: IP) -> str | None:
        """``name.network`` of an address; None: unknown."""
        for network in networks:
            endpoint = self._by_address.get((network, address))
            if endpoint is not None:
                entry = self._endpoints[endpoint]
                return f"{entry.names[0]}.{entry.network_name}" if entry.names else None
        return None
