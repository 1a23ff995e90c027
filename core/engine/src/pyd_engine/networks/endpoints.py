"""The book of endpoints: who is where with which addresses, in memory and in the store at once.

Not thread-safe: the service holds its lock around every call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address

from pyd_contracts.errors import InvalidArgument, NotFound, PermissionDenied
from pyd_contracts.values import Address, Pool
from pyd_engine.identities import new_id
from pyd_engine.networks.pools import Pools
from pyd_engine.networks.records import (
    IP,
    EndpointRecord,
    EndpointRequest,
    EndpointState,
    NetworkRecord,
    interface,
    link_local,
)
from pyd_engine.networks.store import NetworkStore

__all__ = ["PRIVATE", "Book", "check"]

PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) or host mode"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_IFNAME = "com.docker.network.endpoint.ifname"
_PREFIX = "com.docker.network.container_iface_prefix"
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}\Z")


class Book:
    """Endpoints and the pools their addresses come from."""

    def __init__(
        self, store: NetworkStore, pools: Pools, networks: Iterable[NetworkRecord], endpoints: Iterable[EndpointRecord]
    ) -> None:
        self._store = store
        self._pools = pools
        self._endpoints: dict[str, EndpointRecord] = {}
        self._by_network: dict[str, dict[str, None]] = {}
        self._by_container: dict[str, dict[str, None]] = {}
        for record in endpoints:
            self._enter(record)
        for network in networks:
            self.open(network)

    def open(self, network: NetworkRecord) -> None:
        """Begin to give addresses of a network; those of its endpoints are out already."""
        taken = [each.ip for key in self._by_network.get(network.id, ()) for each in self._endpoints[key].addresses]
        self._pools.open(network, taken)

    def find(self, endpoint: str) -> EndpointRecord | None:
        """The endpoint of that id, None when there is none."""
        return self._endpoints.get(endpoint)

    def get(self, endpoint: str) -> EndpointRecord:
        """The endpoint of that id. Raises NotFound."""
        found = self._endpoints.get(endpoint)
        if found is None:
            raise NotFound(f"endpoint {endpoint} not found")
        return found

    def all(self) -> list[EndpointRecord]:
        """Every endpoint, oldest first."""
        return list(self._endpoints.values())

    def of_network(self, network: str) -> list[EndpointRecord]:
        """The endpoints of a network, oldest first."""
        return [self._endpoints[key] for key in self._by_network.get(network, ())]

    def of_container(self, container: str) -> list[EndpointRecord]:
        """The endpoints of a container, oldest first."""
        return [self._endpoints[key] for key in self._by_container.get(container, ())]

    def leads(self, record: EndpointRecord, names: Mapping[str, str]) -> bool:
        """Whether a container's default route leads through this network: priority first, then the network's name."""
        others = [each for each in self.of_container(record.container) if each.gateways]
        first = min(others, key=lambda each: (-each.requested.gateway_priority, names[each.network]), default=record)
        return first.id == record.id

    def reserve(
        self, network: NetworkRecord, container: str, container_name: str, requested: EndpointRequest
    ) -> EndpointRecord:
        """Enter an endpoint with its addresses; see `Networks.reserve`."""
        mine = self.of_container(container)
        present = next((each for each in mine if each.network == network.id), None)
        if present is not None:
            if present.state is not EndpointState.RESERVED:
                raise PermissionDenied(f"endpoint with name {container_name} already exists in network {network.name}")
            if present.requested == requested and present.container_name == container_name:
                return present
            if not present.ports and replace(present.requested, ports=requested.ports) == requested:
                return self.put(replace(present, requested=requested))  # its addresses are as good for more ports
        check(network, requested)
        if present is not None:  # asked again in other words, as after a crash between reserve and attach
            self.drop(present)
            mine.remove(present)
        taken: list[tuple[Pool, IP]] = []
        try:
            identity = new_id()
            addresses = self._take(network, requested, identity, taken)
            record = EndpointRecord(
                id=identity,
                network=network.id,
                container=container,
                container_name=container_name,
                ifname=_ifname(network, requested, {each.ifname for each in mine}),
                addresses=addresses,
                gateways=_gateways(network, addresses),
                mac=requested.mac.lower(),
                requested=requested,
            )
            self._store.add_endpoint(record)
        except BaseException:
            for pool, address in taken:
                self._pools.release(network, pool, address)
            raise
        self._enter(record)
        return record

    def put(self, record: EndpointRecord) -> EndpointRecord:
        """Replace an endpoint; its addresses are the same."""
        self._store.put_endpoint(record)
        self._endpoints[record.id] = record
        return record

    def drop(self, record: EndpointRecord) -> None:
        """Strike an endpoint out and free its addresses; one that is gone is no error."""
        self._store.drop_endpoint(record.id)
        if self._endpoints.pop(record.id, None) is None:
            return
        self._by_network[record.network].pop(record.id, None)
        self._by_container[record.container].pop(record.id, None)
        if not self._by_container[record.container]:
            del self._by_container[record.container]
        self._pools.release_all(record.network, record.addresses)

    def _enter(self, record: EndpointRecord) -> None:
        self._endpoints[record.id] = record
        self._by_network.setdefault(record.network, {})[record.id] = None
        self._by_container.setdefault(record.container, {})[record.id] = None

    def _take(
        self, network: NetworkRecord, requested: EndpointRequest, endpoint: str, taken: list[tuple[Pool, IP]]
    ) -> tuple[Address, ...]:
        pools = network.pools
        addresses: list[Address] = []
        for version, wish in ((4, requested.ipv4), (6, requested.ipv6)):
            family = [pool for pool in pools if pool.subnet.version == version]
            wanted = _wanted(wish, version) if wish else None
            pool = next((each for each in family if wanted is None or wanted in each.subnet), None)
            if pool is None and wanted is None:
                continue
            if pool is None:
                known = ", ".join(str(each.subnet) for each in family) or "no subnet of that family"
                raise InvalidArgument(f"no configured subnet of network {network.name} contains {wanted}: {known}")
            address = self._pools.take(network, pool, wanted, endpoint)
            taken.append((pool, address))
            addresses.append(interface(address, pool.subnet))
        return tuple(addresses)


def check(network: NetworkRecord, requested: EndpointRequest) -> None:
    """Raise InvalidArgument, in dockerd's words, for what a place on *network* cannot have."""
    if requested.mac and not _MAC.match(requested.mac):
        raise InvalidArgument(f"invalid MAC address {requested.mac!r}: six hex pairs with ':' are possible")
    for text in requested.link_local:
        link_local(text)
    if requested.link_local and not network.subnets:
        raise InvalidArgument(f"network {network.name} has no interfaces: no link-local addresses")
    wishes = bool(requested.ipv4 or requested.ipv6)
    if wishes and network.predefined:
        raise InvalidArgument("user specified IP address is supported on user defined networks only")
    if wishes and not network.configured:
        raise InvalidArgument(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )
    if requested.aliases and network.predefined:
        raise InvalidArgument("network-scoped alias is supported only for containers in user defined networks")


def _wanted(text: str, version: int) -> IP:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid IPv{version} address {text!r}: {error}") from error
    if address.version != version:
        raise InvalidArgument(f"invalid IPv{version} address: {text}")
    return address


def _gateways(network: NetworkRecord, addresses: tuple[Address, ...]) -> tuple[IP, ...]:
    if network.internal:
        return ()
    return tuple(
        subnet.gateway
        for subnet in network.subnets
        if subnet.gateway is not None and any(each.ip in subnet.subnet for each in addresses)
    )


def _ifname(network: NetworkRecord, requested: EndpointRequest, taken: set[str]) -> str:
    """The interface's name in the container: what was asked for, or the network's prefix and the first free number."""
    name = requested.options.get(_IFNAME, "")
    if name:
        if not _NAME.match(name) or name == "lo":
            raise InvalidArgument(f"option {_IFNAME}={name!r}: an interface has 1 to 15 letters, digits, '_', '.', '-'")
        if name in taken:
            raise InvalidArgument(f"option {_IFNAME}={name}: the container has an interface of that name")
        return name
    prefix = network.options.get(_PREFIX, "") or "eth"
    if not _NAME.match(prefix) or len(prefix) > 12:
        raise InvalidArgument(f"option {_PREFIX}={prefix!r} of network {network.name}: 1 to 12 letters, digits, '_.-'")
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"
