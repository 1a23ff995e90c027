"""What is special to the default manager of addresses: the order in which it gives, and what it looks at on the host."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Pool, PoolRequest
from pyd_ipam_default.driver import DefaultIpam
from pyd_ipam_default.kernel import host_routes
from pyd_ipam_default.subnets import AddressPool, IPNetwork, choose

DEFAULTS: tuple[tuple[IPNetwork, int], ...] = (
    (IPv4Network("172.17.0.0/16"), 16),
    (IPv4Network("172.18.0.0/15"), 16),
    (IPv4Network("192.168.0.0/16"), 20),
)


def test_the_lowest_free_address_is_given_and_given_again() -> None:
    addresses = AddressPool(Pool("n", ip_network("10.0.0.0/29"), ip_address("10.0.0.1")), [])
    assert [str(addresses.take()) for _ in range(4)] == [f"10.0.0.{host}" for host in (2, 3, 4, 5)]

    for host in (5, 3, 3):
        addresses.give_back(ip_address(f"10.0.0.{host}"))

    assert [str(addresses.take()) for _ in range(3)] == ["10.0.0.3", "10.0.0.5", "10.0.0.6"]


@pytest.mark.parametrize(
    ("occupied", "chosen"),
    [
        ((), "172.17.0.0/16"),
        (("172.17.0.0/16", "172.18.3.0/24"), "172.19.0.0/16"),
        (("172.16.0.0/12", "192.168.0.0/24"), "192.168.16.0/20"),
    ],
)
def test_pools_are_gone_through_in_order(occupied: tuple[str, ...], chosen: str) -> None:
    request = PoolRequest("n", 4, defaults=DEFAULTS, occupied=tuple(ip_network(each) for each in occupied))

    assert str(choose(request, [])) == chosen


@pytest.mark.parametrize("more", [{"gateway": ip_address("10.0.0.1")}, {"ip_range": ip_network("10.0.0.0/25")}])
def test_a_gateway_or_range_without_a_subnet(more: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match="need a subnet"):
        DefaultIpam().ipam_request_pool(PoolRequest("n", 4, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("gateway", ["10.0.0.0", "10.0.0.255", "fd00::"])
def test_a_gateway_that_no_host_may_be(gateway: str) -> None:
    subnet = ip_network("fd00::/64" if ":" in gateway else "10.0.0.0/24")
    with pytest.raises(InvalidArgument, match="invalid gateway"):
        DefaultIpam().ipam_request_pool(PoolRequest("n", subnet.version, subnet=subnet, gateway=ip_address(gateway)))


def test_routes_of_this_host_are_read() -> None:
    for route in host_routes():
        assert route.prefixlen > 0
        assert not route.is_loopback


def test_the_gateway_is_the_first_address_of_the_range() -> None:
    pool = DefaultIpam(routes=list).ipam_request_pool(
        PoolRequest(
            "n", 4, ip_network("10.79.0.0/24"), ip_network("10.79.0.8/29"), auxiliary={"a": ip_address("10.79.0.8")}
        )
    )

    assert str(pool.gateway) == "10.79.0.9"
