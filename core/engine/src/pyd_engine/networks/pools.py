"""The managers of addresses, and which network is whose: requests go to the one that a network names.

Hooks are called with the service's lock held: they are bounded, and no address is given twice.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from pyd_contracts.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PydError,
    ResourceExhausted,
    Unavailable,
)
from pyd_contracts.ipam import IpamDriver
from pyd_contracts.values import Address, Pool, PoolRequest
from pyd_engine.networks.drivers import Manager, ready
from pyd_engine.networks.records import IP, NetworkRecord

__all__ = ["Pools"]


class Pools:
    """*managers* by name, those that are ready."""

    def __init__(self, managers: Mapping[str, Manager], log: logging.Logger) -> None:
        self._managers = managers
        self._log = log
        self._open: dict[str, NetworkRecord] = {}

    def request(self, manager: str, requests: Iterable[PoolRequest]) -> tuple[Pool, ...]:
        """A pool for each request, or none at all. Raises NotFound in dockerd's words when there is no such manager."""
        if manager not in self._managers:
            raise NotFound(
                f'plugin "{manager}" not found: no manager of addresses has that name; {ready(self._managers)}'
            )
        call = self._managers[manager].call
        pools: list[Pool] = []
        try:
            for each in requests:
                occupied = (*each.occupied, *(pool.subnet for pool in pools))
                pools.append(call.ipam_request_pool(request=replace(each, occupied=occupied)))
        except BaseException as error:
            self._give_back(call, pools)
            if isinstance(error, ResourceExhausted):  # dockerd's 400
                raise InvalidArgument(str(error)) from error
            raise
        return tuple(pools)

    def open(self, network: NetworkRecord, taken: Collection[IP]) -> None:
        """Begin to give addresses of a network; *taken* are out already."""
        manager = self._managers.get(network.ipam_driver)
        if manager is None:
            self._log.error(
                "network %s gives no addresses: its manager %r is not ready", network.name, network.ipam_driver
            )
            return
        for pool in network.pools:
            manager.call.ipam_open_pool(pool=pool, taken=[each for each in taken if each in pool.subnet])
        self._open[network.id] = network

    def shut(self, network: NetworkRecord) -> None:
        """End it; one that was never open is no error."""
        self._open.pop(network.id, None)
        manager = self._managers.get(network.ipam_driver)
        if manager is not None:
            self._give_back(manager.call, network.pools)

    def take(self, network: NetworkRecord, pool: Pool, wanted: IP | None, endpoint: str) -> IP:
        """An address. Raises what the manager raises, and Unavailable when it is not there."""
        if network.id not in self._open:
            raise Unavailable(
                f"network {network.name} needs {network.ipam_driver!r} to manage its addresses, which is not ready; "
                f"{ready(self._managers)}"
            )
        call = self._managers[network.ipam_driver].call
        try:
            return call.ipam_request_address(pool=pool, wanted=wanted, endpoint=endpoint)
        except ResourceExhausted as error:
            family = f"IPv{pool.subnet.version}"
            words = f"no available {family} addresses on this network's address pools: {network.name} ({network.id})"
            raise ResourceExhausted(f"{words}: {error}") from error
        except Conflict as error:  # dockerd's 403
            raise PermissionDenied(str(error)) from error

    def release(self, network: NetworkRecord, pool: Pool, address: IP) -> None:
        """Take an address back."""
        try:
            self._managers[network.ipam_driver].call.ipam_release_address(pool=pool, address=address)
        except PydError as error:  # the endpoint goes all the same; the engine says at each start what is out
            self._log.error("network %s: %s was not taken back: %s", network.name, address, error)

    def release_all(self, network: str, addresses: Iterable[Address]) -> None:
        """Take back what an endpoint had."""
        record = self._open.get(network)
        if record is None:
            return
        for pool in record.pools:
            for address in addresses:
                if address.ip in pool.subnet:
                    self.release(record, pool, address.ip)

    def _give_back(self, call: IpamDriver, pools: Iterable[Pool]) -> None:
        for pool in pools:
            try:
                call.ipam_release_pool(pool=pool)
            except PydError as error:
                self._log.error("pool %s of network %s was not given back: %s", pool.subnet, pool.network[:12], error)
