"""The contract for managing addresses, `pyd.ipam.v1`: which subnet a network gets, and which address an endpoint."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from pyd_contracts.markers import hookspec
from pyd_contracts.values import Pool, PoolRequest

__all__ = ["GROUP", "IpamDriver"]

GROUP = "pyd.ipam.v1"


class IpamDriver(Protocol):
    """Subnets, and the addresses in them.

    A *pool* is one subnet of one network; (network, subnet) is its identity. The engine writes down what it was given, and
    says so again after a restart (`ipam_open_pool`): a driver need not remember anything.

    Life cycle::

        request_pool ── open_pool ── request_address ── release_address ── release_pool
                        (again at each start)

    IPA-1  Each hook happens whole or raises and leaves everything as it was.
    IPA-2  Hooks are called from several threads; no address is given to two endpoints of a pool at a time.
    IPA-3  What a hook costs does not grow with the number of addresses that are out.

    Capabilities: none are defined.
    """

    @hookspec(firstresult=True)
    def ipam_request_pool(self, request: PoolRequest) -> Pool:
        """Choose a subnet, or check the one asked for.

        IPA-10  The subnet asked for; without one, a subnet cut from *request.defaults* (or, for IPv6 without any, a unique
                local one) that overlaps with nothing in *request.occupied*, nor with where this host's routes lead.
        IPA-11  The gateway asked for; without one, an address of the subnet that is no auxiliary one.
        IPA-12  InvalidArgument quotes the range, gateway, auxiliary address or option that cannot be; PermissionDenied names
                the occupied subnet that the one asked for overlaps with; ResourceExhausted when the defaults are used up.
        """

    @hookspec(firstresult=True)
    def ipam_open_pool(self, pool: Pool, taken: Collection[IPv4Address | IPv6Address]) -> None:
        """Begin to give addresses of a pool that this driver gave, perhaps before a restart.

        IPA-15  Addresses in *taken* are out already and given to nobody else. Twice is once.
        """

    @hookspec(firstresult=True)
    def ipam_release_pool(self, pool: Pool) -> None:
        """End it.

        IPA-20  Its subnet may be given to another network; a pool that is not there is no error.
        """

    @hookspec(firstresult=True)
    def ipam_request_address(
        self, pool: Pool, wanted: IPv4Address | IPv6Address | None, endpoint: str
    ) -> IPv4Address | IPv6Address:
        """Give an address to *endpoint*, 64 hex digits.

        IPA-25  Of the pool's range where it has one, else of its subnet; never the subnet's own or its broadcast address,
                the gateway, or an auxiliary one.
        IPA-26  The one that is *wanted*, also outside the range. InvalidArgument when it is not of the subnet, Conflict when
                somebody has it or nobody may.
        IPA-27  ResourceExhausted when all are out; NotFound when the pool is not open.
        """

    @hookspec(firstresult=True)
    def ipam_release_address(self, pool: Pool, address: IPv4Address | IPv6Address) -> None:
        """Take it back.

        IPA-30  It may be given again; one that is free, or of a pool that is not there, is no error.
        """

    @hookspec(firstresult=True)
    def ipam_close(self) -> None:
        """Let go of what the driver holds.

        IPA-40  Twice is once. What was given stays given.
        """
