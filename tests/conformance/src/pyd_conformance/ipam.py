"""The suite for managers of addresses. A driver's author writes::

    class TestCloudIpam(IpamContract):
        def make(self) -> IpamDriver:
            return CloudIpam(routes=lambda: self.routes)

and runs pytest. Clauses are those of `pyd_contracts.ipam`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import pytest

from pyd_conformance.clauses import clause
from pyd_contracts.errors import Conflict, InvalidArgument, NotFound, PermissionDenied, PydError, ResourceExhausted
from pyd_contracts.ipam import IpamDriver
from pyd_contracts.values import Pool, PoolRequest

__all__ = ["IpamContract"]

IP = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
_NETWORK, _OTHER, _ENDPOINT = "1" * 64, "2" * 64, "e" * 64
_DEFAULTS: tuple[tuple[IPNetwork, int], ...] = ((IPv4Network("10.9.0.0/28"), 29), (IPv4Network("10.8.0.0/29"), 29))
_MANY = 60_000


class IpamContract:
    """Base of a driver's test class; ``subject`` names the driver in the report (default: the class's name).

    ``routes`` is where this host's routes lead: a driver that looks at the host is to see these instead.
    """

    capabilities: frozenset[str] = frozenset()
    routes: tuple[IPNetwork, ...] = ()

    def make(self) -> IpamDriver:
        """Make the driver under test. It may be called again: that is a restart."""
        raise TypeError(f"{type(self).__name__} must override make()")

    @pytest.fixture
    def driver(self) -> IpamDriver:
        """The driver under test."""
        return self.make()

    def request(self, subnet: str = "", network: str = _NETWORK, **more: Any) -> PoolRequest:
        """A request for *subnet*, or for any."""
        wanted = ip_network(subnet) if subnet else None
        return PoolRequest(network, wanted.version if wanted else more.pop("version", 4), wanted, **more)

    def pool(self, driver: IpamDriver, subnet: str, **more: Any) -> Pool:
        """A pool that is open."""
        pool = driver.ipam_request_pool(request=self.request(subnet, **more))
        driver.ipam_open_pool(pool=pool, taken=[])
        return pool

    def drained(self, driver: IpamDriver, pool: Pool) -> list[str]:
        """All addresses the driver gives of *pool*, which are few."""
        found = []
        while True:
            try:
                found.append(str(self.take(driver, pool)))
            except ResourceExhausted:
                return found

    def take(self, driver: IpamDriver, pool: Pool, wanted: str = "") -> IP:
        """One address."""
        asked = ip_address(wanted) if wanted else None
        return driver.ipam_request_address(pool=pool, wanted=asked, endpoint=_ENDPOINT)

    def test_declares_the_capabilities_it_is_tested_for(self, driver: IpamDriver) -> None:
        assert getattr(driver, "capabilities", None) == self.capabilities

    # --- pools -------------------------------------------------------------------------------------------------------

    @clause("IPA-10", "the subnet asked for")
    @pytest.mark.parametrize("subnet", ["10.1.0.0/16", "10.1.0.0/30", "10.1.0.0/31", "fd00:7::/64"])
    def test_the_subnet_asked_for(self, driver: IpamDriver, subnet: str) -> None:
        pool = driver.ipam_request_pool(request=self.request(subnet))

        assert (pool.network, str(pool.subnet)) == (_NETWORK, subnet)

    @clause("IPA-10", "without one, a subnet of the defaults that overlaps with nothing")
    def test_a_subnet_of_the_defaults(self, driver: IpamDriver) -> None:
        found: list[IPNetwork] = []
        for number in range(3):
            request = self.request(network=f"{number:064x}", defaults=_DEFAULTS, occupied=tuple(found))
            found.append(driver.ipam_request_pool(request=request).subnet)

        assert [str(each) for each in found] == ["10.9.0.0/29", "10.9.0.8/29", "10.8.0.0/29"]

    @clause("IPA-10", "nor with where this host's routes lead")
    def test_a_subnet_beside_the_hosts_routes(self) -> None:
        self.routes = (ip_network("10.9.0.0/29"), ip_network("10.9.0.12/32"))
        driver = self.make()

        pool = driver.ipam_request_pool(request=self.request(defaults=_DEFAULTS))
        asked = driver.ipam_request_pool(request=self.request("10.9.0.0/29", network=_OTHER))

        assert str(pool.subnet) == "10.8.0.0/29"
        assert str(asked.subnet) == "10.9.0.0/29", "what is asked for may be where routes lead"

    @clause("IPA-10", "for IPv6 without defaults, a unique local one, each another")
    def test_unique_local_subnets(self, driver: IpamDriver) -> None:
        first = driver.ipam_request_pool(request=self.request(version=6)).subnet
        again = driver.ipam_request_pool(request=self.request(version=6, occupied=(first,))).subnet

        assert first.subnet_of(IPv6Network("fd00::/8"))  # type: ignore[arg-type]
        assert first.prefixlen == 64
        assert not first.overlaps(again)

    @clause("IPA-10", "for IPv6 with defaults, one of them")
    def test_a_subnet_of_the_ipv6_defaults(self, driver: IpamDriver) -> None:
        defaults = (*_DEFAULTS, (ip_network("fd00:99::/56"), 64))

        pool = driver.ipam_request_pool(request=self.request(version=6, defaults=defaults))

        assert str(pool.subnet) == "fd00:99::/64"

    @clause("IPA-11", "the gateway asked for")
    def test_the_gateway_asked_for(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "10.1.0.0/29", gateway=ip_address("10.1.0.5"))

        assert str(pool.gateway) == "10.1.0.5"
        assert "10.1.0.5" not in self.drained(driver, pool)

    @clause("IPA-11", "without one, an address that is no auxiliary one")
    def test_a_gateway_beside_auxiliary_addresses(self, driver: IpamDriver) -> None:
        pool = driver.ipam_request_pool(request=self.request("10.1.0.0/29", auxiliary={"a": ip_address("10.1.0.1")}))

        assert pool.gateway is not None
        assert pool.gateway in pool.subnet
        assert str(pool.gateway) != "10.1.0.1"

    @clause("IPA-12", "what cannot be is quoted")
    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"ip_range": ip_network("10.2.0.0/30")}, r"10\.2\.0\.0/30"),
            ({"ip_range": ip_network("10.1.0.0/28")}, r"10\.1\.0\.0/28"),
            ({"gateway": ip_address("10.2.0.1")}, r"10\.2\.0\.1"),
            ({"auxiliary": {"a": ip_address("10.2.0.1")}}, r"10\.2\.0\.1"),
            ({"gateway": ip_address("10.1.0.2"), "auxiliary": {"a": ip_address("10.1.0.2")}}, r"10\.1\.0\.2"),
            ({"options": {"nope": "1"}}, "nope"),
        ],
        ids=["range-elsewhere", "range-too-large", "gateway", "auxiliary", "twice", "option"],
    )
    def test_what_cannot_be_is_quoted(self, driver: IpamDriver, more: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidArgument, match=words):
            driver.ipam_request_pool(request=self.request("10.1.0.0/29", **more))

    @clause("IPA-12", "what it overlaps with is named")
    @pytest.mark.parametrize("occupied", ["10.1.0.0/16", "10.1.0.4/31", "10.1.0.0/29"])
    def test_an_overlap_is_named(self, driver: IpamDriver, occupied: str) -> None:
        with pytest.raises(PermissionDenied, match=occupied):
            driver.ipam_request_pool(request=self.request("10.1.0.0/29", occupied=(ip_network(occupied),)))

    @clause("IPA-12", "defaults that are used up")
    def test_defaults_end(self, driver: IpamDriver) -> None:
        occupied = (ip_network("10.9.0.0/28"), ip_network("10.8.0.0/16"))

        with pytest.raises(ResourceExhausted):
            driver.ipam_request_pool(request=self.request(defaults=_DEFAULTS, occupied=occupied))

    @clause("IPA-15", "what is out already is given to nobody else")
    def test_open_with_what_is_out(self, driver: IpamDriver) -> None:
        pool = driver.ipam_request_pool(request=self.request("10.1.0.0/29", gateway=ip_address("10.1.0.1")))
        driver.ipam_open_pool(pool=pool, taken=[ip_address("10.1.0.2"), ip_address("10.1.0.4")])

        with pytest.raises(Conflict, match=r"10\.1\.0\.4"):
            self.take(driver, pool, "10.1.0.4")
        assert sorted(self.drained(driver, pool)) == ["10.1.0.3", "10.1.0.5", "10.1.0.6"]

    @clause("IPA-15", "twice is once")
    def test_open_twice(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "10.1.0.0/29")
        first = self.take(driver, pool)

        driver.ipam_open_pool(pool=pool, taken=[first])

        assert str(first) not in self.drained(driver, pool)

    @clause("IPA-15", "after a restart the engine says what is out")
    def test_open_after_a_restart(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "10.1.0.0/29", gateway=ip_address("10.1.0.1"))
        out = [self.take(driver, pool) for _ in range(2)]
        driver.ipam_close()
        again = self.make()

        again.ipam_open_pool(pool=pool, taken=out)

        assert len(self.drained(again, pool)) == 3

    @clause("IPA-20", "its subnet may be given to another network")
    def test_a_released_pool(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "10.1.0.0/29", gateway=ip_address("10.1.0.1"))
        self.drained(driver, pool)

        driver.ipam_release_pool(pool=pool)

        other = self.pool(driver, "10.1.0.0/29", network=_OTHER, gateway=ip_address("10.1.0.1"))
        assert len(self.drained(driver, other)) == 5
        with pytest.raises(NotFound):
            self.take(driver, pool)

    @clause("IPA-20", "what is not there is no error")
    def test_a_pool_that_is_not_there(self, driver: IpamDriver) -> None:
        pool = driver.ipam_request_pool(request=self.request("10.1.0.0/29"))

        driver.ipam_release_pool(pool=pool)
        driver.ipam_release_pool(pool=pool)

    # --- addresses ---------------------------------------------------------------------------------------------------

    @clause("IPA-25", "every address once, and never those of the subnet, the gateway and others")
    def test_every_address_once(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "10.1.0.0/29", gateway=ip_address("10.1.0.2"), auxiliary={"a": ip_address("10.1.0.4")})

        assert sorted(self.drained(driver, pool)) == ["10.1.0.1", "10.1.0.3", "10.1.0.5", "10.1.0.6"]

    @clause("IPA-25", "two hosts of a point-to-point subnet")
    def test_a_subnet_of_two(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "10.1.0.0/31", gateway=ip_address("10.1.0.0"))

        assert self.drained(driver, pool) == ["10.1.0.1"]

    @clause("IPA-25", "those of the range where there is one")
    def test_a_range(self, driver: IpamDriver) -> None:
        gateway = ip_address("10.1.0.1")
        pool = self.pool(driver, "10.1.0.0/16", ip_range=ip_network("10.1.5.0/30"), gateway=gateway)

        assert sorted(self.drained(driver, pool)) == ["10.1.5.0", "10.1.5.1", "10.1.5.2", "10.1.5.3"]

    @clause("IPA-25", "IPv6")
    def test_ipv6(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "::/64")

        first, second = self.take(driver, pool), self.take(driver, pool)

        assert (first.version, second.version) == (6, 6)
        assert first != second
        assert pool.gateway not in (first, second)

    @clause("IPA-26", "the one that is wanted, also outside the range")
    def test_a_wanted_address(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "10.1.0.0/16", ip_range=ip_network("10.1.5.0/30"))

        assert str(self.take(driver, pool, "10.1.9.9")) == "10.1.9.9"
        with pytest.raises(Conflict, match=r"10\.1\.9\.9"):
            self.take(driver, pool, "10.1.9.9")
        driver.ipam_release_address(pool=pool, address=ip_address("10.1.9.9"))
        assert "10.1.9.9" not in self.drained(driver, pool)

    @clause("IPA-26", "one that nobody may have")
    @pytest.mark.parametrize(
        ("wanted", "error"),
        [
            ("10.1.0.0", Conflict), ("10.1.0.1", Conflict), ("10.1.0.6", Conflict), ("10.1.0.7", Conflict),
            ("10.1.0.8", InvalidArgument), ("fd00::1", InvalidArgument),
        ],
    )  # fmt: skip
    def test_addresses_that_nobody_may_have(self, driver: IpamDriver, wanted: str, error: type[PydError]) -> None:
        pool = self.pool(driver, "10.1.0.0/29", gateway=ip_address("10.1.0.1"), auxiliary={"a": ip_address("10.1.0.6")})

        with pytest.raises(error, match=wanted.replace(".", r"\.")):
            self.take(driver, pool, wanted)
        assert len(self.drained(driver, pool)) == 4

    @clause("IPA-27", "all are out, and then one is not")
    @clause("IPA-30", "what comes back is given again")
    def test_all_are_out(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "10.1.0.0/30")
        only = self.take(driver, pool)
        with pytest.raises(ResourceExhausted, match=r"10\.1\.0\.0/30"):
            self.take(driver, pool)

        driver.ipam_release_address(pool=pool, address=only)

        assert self.take(driver, pool) == only

    @clause("IPA-27", "a pool that is not open")
    def test_a_pool_that_is_not_open(self, driver: IpamDriver) -> None:
        pool = driver.ipam_request_pool(request=self.request("10.1.0.0/29"))

        with pytest.raises(NotFound):
            self.take(driver, pool)

    @clause("IPA-30", "one that is free, or of a pool that is not there, is no error")
    def test_release_of_what_is_free(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "10.1.0.0/29")
        free = ip_address("10.1.0.3")

        driver.ipam_release_address(pool=pool, address=free)
        driver.ipam_release_address(pool=Pool(_OTHER, pool.subnet), address=free)

        given = self.drained(driver, pool)
        assert len(given) == len(set(given)) == 5

    # --- all of it ---------------------------------------------------------------------------------------------------

    @clause("IPA-1", "a pool that is refused occupies nothing, an address that is refused is not out")
    def test_what_is_refused_leaves_nothing(self, driver: IpamDriver) -> None:
        with pytest.raises(InvalidArgument):
            driver.ipam_request_pool(request=self.request("10.1.0.0/29", gateway=ip_address("10.9.9.9")))
        pool = self.pool(driver, "10.1.0.0/29", network=_OTHER, gateway=ip_address("10.1.0.1"))
        with pytest.raises(Conflict):
            self.take(driver, pool, "10.1.0.1")

        assert len(self.drained(driver, pool)) == 5

    @clause("IPA-2", "many ask at once, and no two get the same")
    def test_many_at_once(self, driver: IpamDriver) -> None:
        pool = self.pool(driver, "10.1.0.0/22")

        with ThreadPoolExecutor(8) as threads:
            given = list(threads.map(lambda _: self.take(driver, pool), range(1000)))

        assert len(set(given)) == 1000

    @clause("IPA-3", "a large subnet that is nearly full")
    @pytest.mark.timeout(60)
    def test_sixty_thousand_are_out(self, driver: IpamDriver) -> None:
        pool = driver.ipam_request_pool(request=self.request("10.1.0.0/16"))
        first = int(pool.subnet.network_address) + 2
        driver.ipam_open_pool(pool=pool, taken=[IPv4Address(first + step) for step in range(_MANY)])

        given = [self.take(driver, pool) for _ in range(5000)]
        for _ in range(5000):  # what is looked for again and again would be looked for for minutes
            driver.ipam_release_address(pool=pool, address=given.pop())
            given.append(self.take(driver, pool))

        assert len(set(given)) == 5000
        assert min(int(each) for each in given) == first + _MANY

    @clause("IPA-40", "twice is once")
    def test_close_twice(self, driver: IpamDriver) -> None:
        self.pool(driver, "10.1.0.0/29")

        driver.ipam_close()
        driver.ipam_close()
