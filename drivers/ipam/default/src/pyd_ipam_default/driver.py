"""The default manager of addresses: a picture in memory of what the engine has written down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable

from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Pool, PoolRequest
from pyd_ipam_default.kernel import host_routes
from pyd_ipam_default.subnets import IP, AddressPool, IPNetwork, choose, refuse_overlap, settle

__all__ = ["DefaultIpam"]


class DefaultIpam:
    """*routes* says where the host's routes lead; what is chosen keeps away from there, what is asked for need not."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, routes: Callable[[], Iterable[IPNetwork]] = host_routes) -> None:
        self._routes = routes
        self._pools: dict[tuple[str, IPNetwork], AddressPool] = {}
        self._lock = threading.Lock()

    @hookimpl
    def ipam_request_pool(self, request: PoolRequest) -> Pool:
        """See the contract."""
        for name in request.options:
            raise InvalidArgument(f"IPAM option {name}: the driver default has no options")
        if request.subnet is None:
            if request.ip_range is not None or request.gateway is not None or request.auxiliary:
                raise InvalidArgument("gateway, range and auxiliary addresses need a subnet: name one")
            return settle(request, choose(request, self._routes()))
        refuse_overlap(request.subnet, request.occupied)
        return settle(request, request.subnet)

    @hookimpl
    def ipam_open_pool(self, pool: Pool, taken: Collection[IP]) -> None:
        """See the contract."""
        opened = AddressPool(pool, taken)
        with self._lock:
            self._pools.setdefault((pool.network, pool.subnet), opened)

    @hookimpl
    def ipam_release_pool(self, pool: Pool) -> None:
        """See the contract."""
        with self._lock:
            self._pools.pop((pool.network, pool.subnet), None)

    @hookimpl
    def ipam_request_address(self, pool: Pool, wanted: IP | None, endpoint: str) -> IP:
        """See the contract."""
        with self._lock:
            opened = self._pools.get((pool.network, pool.subnet))
            if opened is None:
                raise NotFound(f"no pool {pool.subnet} of network {pool.network[:12]} is open")
            return opened.take() if wanted is None else opened.claim(wanted)

    @hookimpl
    def ipam_release_address(self, pool: Pool, address: IP) -> None:
        """See the contract."""
        with self._lock:
            opened = self._pools.get((pool.network, pool.subnet))
            if opened is not None:
                opened.give_back(address)

    @hookimpl
    def ipam_close(self) -> None:
        """See the contract; nothing is held."""
