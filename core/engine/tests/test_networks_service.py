"""The service over the fake driver: words, phases, crashes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyd_conformance.fakes.network import FakeNetwork
from pyd_contracts.errors import (
    Conflict,
    DriverFault,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from pyd_contracts.network import NetworkDriver
from pyd_contracts.values import Attached, Attachment, NetworkSpec
from pyd_engine.networks.creation import NetworkConfig, NetworkRequest
from pyd_engine.networks.records import EndpointRequest, EndpointState, SubnetRequest
from pyd_engine.networks.service import Networks
from pyd_engine.networks.views import endpoint_settings, network_resource
from pyd_engine.store.database import Database
from pyd_ipam_default.driver import DefaultIpam

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)
POOLS = tuple((IPv4Network(f"10.{second}.0.0/16"), 24) for second in (201, 202))


class Loaded:
    """A driver as composition holds it."""

    def __init__(self, driver: FakeNetwork) -> None:
        self.capabilities = driver.capabilities
        self.call: NetworkDriver = driver


class Crash(BaseException):
    """The process ends here."""


class Kernel:
    """Fakes that outlive the services on top of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        alone = {"no-addresses", "single", "exclusive"}
        self.fakes = {
            "bridge": FakeNetwork(),
            "none": FakeNetwork(alone),
            "host": FakeNetwork({*alone, "host-namespace"}),
        }
        self.open: list[Database] = []

    def start(self, *drivers: str) -> Networks:
        database = Database(self.path / "pyd.db")
        self.open.append(database)
        loaded = {name: Loaded(self.fakes[name]) for name in drivers or self.fakes}
        managers = {"default": SimpleNamespace(call=DefaultIpam(routes=list))}
        config = NetworkConfig(pools=POOLS)
        networks = Networks(database, loaded, managers, self.path, config, logging.getLogger("pyd.test"))
        networks.ensure_defaults()
        return networks

    def netns(self) -> Path:
        path = self.path / "netns"
        path.touch()
        return path


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path)
    yield kernel
    for database in kernel.open:
        database.close()


@pytest.fixture
def networks(kernel: Kernel) -> Networks:
    return kernel.start()


def small(networks: Networks, name: str = "small", prefix: str = "10.9.0.0/29") -> str:
    return networks.create(NetworkRequest(name, subnets=(SubnetRequest(subnet=prefix),))).id


# --- networks --------------------------------------------------------------------------------------------------------


def test_defaults_are_made_once(kernel: Kernel) -> None:
    first = kernel.start().list()
    second = kernel.start().list()

    assert [each.name for each in first] == ["bridge", "host", "none"]
    assert second == first
    assert all(each.predefined for each in first)


def test_defaults_need_their_drivers(kernel: Kernel) -> None:
    assert [each.name for each in kernel.start("none").list()] == ["none"]
    assert [each.name for each in kernel.start().list()] == ["none", "bridge", "host"]


def test_a_network_whose_driver_is_gone_stays_and_says_so(kernel: Kernel) -> None:
    kernel.start()
    networks = kernel.start("none")

    assert {each.name for each in networks.list()} == {"bridge", "host", "none"}
    with pytest.raises(Unavailable, match="'bridge', which is not ready"):
        networks.reserve(ONE, "one", "bridge")


def test_a_network_that_was_in_somebodys_way_recovers(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    small(kernel.start())

    def refuse(network: NetworkSpec) -> dict[str, str]:
        raise Conflict(f"{network.name} is in the way of docker0")

    monkeypatch.setattr(kernel.fakes["bridge"], "network_create", refuse)
    networks = kernel.start()
    assert networks.ensure_defaults() == {name: f"{name} is in the way of docker0" for name in ("bridge", "small")}
    with pytest.raises(Unavailable, match="small is in the way of docker0"):
        networks.reserve(ONE, "one", "small")
    monkeypatch.undo()

    assert str(networks.reserve(ONE, "one", "small").ipv4) == "10.9.0.2/29"
    assert set(networks.ensure_defaults()) == set()


def test_an_empty_entry_is_no_wish(networks: Networks) -> None:
    record = networks.create(NetworkRequest("app", subnets=(SubnetRequest(),)))

    assert (len(record.subnets), record.configured) == (1, False)


def test_references(networks: Networks) -> None:
    record = networks.create(NetworkRequest("app", labels={"a": "b"}))

    assert networks.get("app") == networks.get(record.id) == networks.get(record.id[:12]) == record
    with pytest.raises(NotFound, match=r"^network nope not found$"):
        networks.get("nope")
    with pytest.raises(NotFound):
        networks.get("")


def test_an_ambiguous_reference(networks: Networks) -> None:
    first = {each.id[0] for each in networks.list()}
    while len(first) == len(networks.list()):
        first = {each.id[0] for each in [*networks.list(), networks.create(NetworkRequest(f"n{len(networks.list())}"))]}
    counts = [each.id[0] for each in networks.list()]
    twice = next(digit for digit in counts if counts.count(digit) > 1)

    with pytest.raises(InvalidArgument, match="ambiguous"):
        networks.get(twice)


def test_dockers_words_of_refusal(networks: Networks) -> None:
    small(networks)

    with pytest.raises(Conflict, match=r"^network with name small already exists$"):
        networks.create(NetworkRequest("small"))
    with pytest.raises(PermissionDenied, match=r"^operation is not permitted on predefined bridge network"):
        networks.create(NetworkRequest("bridge"))
    with pytest.raises(PermissionDenied, match=r'^only one instance of "host" network is allowed$'):
        networks.create(NetworkRequest("mine", driver="host"))
    with pytest.raises(PermissionDenied, match=r"Pool overlaps with other one on this address space"):
        networks.create(NetworkRequest("other", subnets=(SubnetRequest(subnet="10.9.0.0/16"),)))
    with pytest.raises(PermissionDenied, match=r"^bridge is a pre-defined network and cannot be removed$"):
        networks.remove("bridge")
    with pytest.raises(NotFound, match='"weave" not found'):
        networks.create(NetworkRequest("other", driver="weave"))
    with pytest.raises(InvalidArgument):
        networks.create(NetworkRequest("a/b"))
    assert [each.name for each in networks.list()] == ["bridge", "host", "none", "small"]


def test_subnets_are_cut_from_the_pools_until_they_end(networks: Networks) -> None:
    subnets = [str(networks.get("bridge").subnets[0].subnet)]
    subnets += [str(networks.create(NetworkRequest(f"n{number}")).subnets[0].subnet) for number in range(3)]

    assert subnets == [f"10.201.{third}.0/24" for third in range(4)]


def test_a_pool_is_used_again(networks: Networks) -> None:
    subnet = networks.create(NetworkRequest("n")).subnets
    networks.remove("n")

    assert networks.create(NetworkRequest("m")).subnets == subnet


def test_ipv6_by_itself(networks: Networks) -> None:
    record = networks.create(NetworkRequest("six", ipv6=True))

    endpoint = networks.reserve(ONE, "one", "six")
    assert [each.subnet.version for each in record.subnets] == [4, 6]
    assert endpoint.ipv6 is not None
    assert str(endpoint.ipv6.ip) == str(record.subnets[1].subnet.network_address + 2)


def test_a_failed_creation_leaves_nothing(networks: Networks, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: NetworkSpec) -> dict[str, str]:
        raise DriverFault(f"no {network.name} today")

    monkeypatch.setattr(kernel.fakes["bridge"], "network_create", fail)
    with pytest.raises(DriverFault, match="no app today"):
        networks.create(NetworkRequest("app"))
    monkeypatch.undo()

    assert [each.name for each in kernel.start().list()] == ["bridge", "host", "none"]


def test_removal_with_endpoints(networks: Networks) -> None:
    identity = small(networks)
    networks.reserve(ONE, "one", "small")

    words = f"^error while removing network: network small id {identity} has active endpoints$"
    with pytest.raises(PermissionDenied, match=words):
        networks.remove("small")

    networks.release(ONE)
    assert networks.remove("small").id == identity
    with pytest.raises(NotFound):
        networks.get("small")


# --- endpoints -------------------------------------------------------------------------------------------------------


def test_a_whole_subnet_of_containers(networks: Networks, kernel: Kernel) -> None:
    small(networks)
    containers = [f"{number:064x}" for number in range(5)]
    endpoints = [networks.reserve(each, f"c{place}", "small") for place, each in enumerate(containers)]

    assert [str(each.ipv4) for each in endpoints] == [f"10.9.0.{host}/29" for host in range(2, 7)]
    with pytest.raises(ResourceExhausted, match="no available addresses"):
        networks.reserve(ONE, "one", "small")
    assert networks.endpoints_of(ONE) == []

    networks.release(containers[2])
    assert str(kernel.start().reserve(ONE, "one", "small").ipv4) == "10.9.0.4/29"


def test_reserve_then_attach_then_detach(networks: Networks, kernel: Kernel) -> None:
    small(networks)
    request = EndpointRequest(aliases=("web", "one"), hostname="host1")
    reserved = networks.reserve(ONE, "one", "small", request)
    assert (reserved.state, reserved.ifname, reserved.gateway(4), reserved.mac) == (
        EndpointState.RESERVED,
        "eth0",
        "10.9.0.1",
        "",
    )
    assert networks.reserve(ONE, "one", "small", request) == reserved

    attached = networks.attach(reserved, kernel.netns())

    assert attached.state is EndpointState.ATTACHED
    assert attached.mac == "02:42:0a:09:00:02"
    assert attached.dns_names == ("one", "web", ONE[:12], "host1")
    assert networks.endpoints("small") == [attached]
    networks.check(attached)
    with pytest.raises(PermissionDenied, match=r"^endpoint with name one already exists in network small$"):
        networks.reserve(ONE, "one", "small")
    with pytest.raises(Conflict, match="attached already"):
        networks.attach(attached, kernel.netns())

    networks.detach(ONE, attached)
    networks.detach(ONE, attached)
    assert networks.endpoints("small") == []
    assert kernel.fakes["bridge"].attachments == {}


def test_detach_may_keep_the_addresses(networks: Networks, kernel: Kernel) -> None:
    small(networks)
    endpoint = networks.attach(networks.reserve(ONE, "one", "small"), kernel.netns())
    networks.detach(ONE, endpoint, keep=True)

    assert networks.endpoint(endpoint.id).state is EndpointState.RESERVED
    assert networks.attach(endpoint.id, kernel.netns()).addresses == endpoint.addresses


def test_detach_minds_whose_it_is(networks: Networks) -> None:
    small(networks)
    endpoint = networks.reserve(ONE, "one", "small")

    with pytest.raises(InvalidArgument, match="belongs to container"):
        networks.detach(TWO, endpoint)


def test_a_failed_attach_stays_reserved(networks: Networks, kernel: Kernel) -> None:
    small(networks)
    endpoint = networks.reserve(ONE, "one", "small")

    with pytest.raises(NotFound):
        networks.attach(endpoint, kernel.path / "gone")

    assert networks.endpoint(endpoint.id) == endpoint
    assert kernel.fakes["bridge"].attachments == {}


def test_interfaces_are_numbered(networks: Networks) -> None:
    small(networks)
    networks.create(NetworkRequest("app"))

    first, second = networks.reserve(ONE, "one", "small"), networks.reserve(ONE, "one", "app")
    assert (first.ifname, second.ifname) == ("eth0", "eth1")
    networks.detach(ONE, first)
    assert networks.reserve(ONE, "one", "small").ifname == "eth0"


def test_wishes(networks: Networks) -> None:
    small(networks)
    networks.create(NetworkRequest("auto"))
    wish = EndpointRequest(ipv4="10.9.0.5", mac="02:42:00:00:00:09")

    endpoint = networks.reserve(ONE, "one", "small", wish)
    assert (str(endpoint.ipv4), endpoint.mac) == ("10.9.0.5/29", wish.mac)
    with pytest.raises(PermissionDenied, match="Address already in use"):
        networks.reserve(TWO, "two", "small", wish)
    with pytest.raises(InvalidArgument, match="no configured subnet"):
        networks.reserve(TWO, "two", "small", EndpointRequest(ipv4="10.8.0.5"))
    with pytest.raises(InvalidArgument, match="invalid IPv4 address"):
        networks.reserve(TWO, "two", "small", EndpointRequest(ipv4="x"))
    with pytest.raises(InvalidArgument, match="MAC"):
        networks.reserve(TWO, "two", "small", EndpointRequest(mac="x"))
    with pytest.raises(InvalidArgument, match="user defined networks only"):
        networks.reserve(TWO, "two", "bridge", EndpointRequest(ipv4="10.201.0.9"))
    with pytest.raises(InvalidArgument, match="user configured subnets"):
        networks.reserve(TWO, "two", "auto", EndpointRequest(ipv4="10.201.1.9"))
    with pytest.raises(InvalidArgument, match="network-scoped alias"):
        networks.reserve(TWO, "two", "bridge", EndpointRequest(aliases=("a",)))
    assert networks.endpoints_of(TWO) == []


def test_host_and_none_are_exclusive(networks: Networks, kernel: Kernel) -> None:
    networks.reserve(ONE, "one", "none")
    networks.reserve(TWO, "two", "bridge")

    with pytest.raises(PermissionDenied, match="private"):
        networks.reserve(ONE, "one", "bridge")
    with pytest.raises(PermissionDenied, match="private"):
        networks.reserve(TWO, "two", "host")
    attached = networks.attach(networks.reserve(THREE, "three", "host"), kernel.netns())
    assert (attached.addresses, attached.gateways) == ((), ())


def test_rename(networks: Networks, kernel: Kernel) -> None:
    endpoint = networks.reserve(ONE, "one", "bridge")
    networks.rename(ONE, "uno")

    assert kernel.start().endpoint(endpoint.id).dns_names == ("uno", ONE[:12])


# --- crashes ---------------------------------------------------------------------------------------------------------


def test_everything_survives_a_restart(networks: Networks, kernel: Kernel) -> None:
    networks.create(
        NetworkRequest(
            "app",
            subnets=(SubnetRequest("10.9.0.0/24", "10.9.0.128/25", "10.9.0.254", {"printer": "10.9.0.200"}),),
            options={"a": "b"},
            labels={"c": "d"},
            internal=True,
            attachable=True,
        )
    )
    endpoint = networks.attach(networks.reserve(ONE, "one", "app"), kernel.netns())

    again = kernel.start()
    assert again.list() == networks.list()
    assert again.endpoint(endpoint.id) == endpoint
    again.check(endpoint)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_during_creation(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    networks, fake = kernel.start(), kernel.fakes["bridge"]
    create = fake.network_create

    def crash(network: NetworkSpec) -> dict[str, str]:
        if after:
            create(network)
        raise Crash

    monkeypatch.setattr(fake, "network_create", crash)
    monkeypatch.setattr(networks, "_finish", lambda record: None)
    with pytest.raises(Crash):
        networks.create(NetworkRequest("app"))
    monkeypatch.undo()

    again = kernel.start()
    assert [each.name for each in again.list()] == ["bridge", "host", "none"]
    assert set(fake.networks) == {again.get("bridge").id}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_during_removal(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    networks, fake = kernel.start(), kernel.fakes["bridge"]
    small(networks)
    delete = fake.network_delete

    def crash(network: NetworkSpec) -> None:
        if after:
            delete(network)
        raise Crash

    monkeypatch.setattr(fake, "network_delete", crash)
    with pytest.raises(Crash):
        networks.remove("small")
    monkeypatch.undo()

    again = kernel.start()
    assert "small" not in {each.name for each in again.list()}
    assert set(fake.networks) == {again.get("bridge").id}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("alive", [False, True], ids=["dead", "alive"])
def test_a_crash_during_attach(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, after: bool, alive: bool) -> None:
    networks, fake = kernel.start(), kernel.fakes["bridge"]
    small(networks)
    endpoint = networks.reserve(ONE, "one", "small")
    attach = fake.network_attach

    def crash(attachment: Attachment) -> Attached:
        if after:
            attach(attachment)
        raise Crash

    def no_clean_up(attachment: Attachment, attached: Attached | None) -> None:
        raise Crash

    monkeypatch.setattr(fake, "network_attach", crash)
    monkeypatch.setattr(fake, "network_detach", no_clean_up)
    with pytest.raises(Crash):
        networks.attach(endpoint, kernel.netns())
    monkeypatch.undo()

    again = kernel.start()
    assert again.endpoint(endpoint.id).state is EndpointState.ATTACHING
    again.reconcile([ONE] if alive else [])
    again.reconcile([ONE] if alive else [])
    assert fake.attachments == {}
    if alive:
        assert again.attach(endpoint.id, kernel.netns()).addresses == endpoint.addresses
    else:
        assert again.endpoints("small") == []
        assert again.reserve(TWO, "two", "small").addresses == endpoint.addresses


def test_reconcile_removes_what_nobody_vouches_for(networks: Networks, kernel: Kernel) -> None:
    small(networks)
    kept = networks.attach(networks.reserve(ONE, "one", "small"), kernel.netns())
    lost = networks.attach(networks.reserve(TWO, "two", "small"), kernel.netns())
    stranger = Attachment(THREE, networks.get("small").spec(), "eth0", kernel.netns())
    kernel.fakes["bridge"].network_attach(stranger)

    removed = kernel.start().reconcile([ONE])

    assert len(removed) == 2
    assert lost.id[:12] in removed[0]
    assert set(kernel.fakes["bridge"].attachments) == {(ONE, "eth0")}
    again = kernel.start()
    again.check(kept)
    assert again.reconcile([ONE]) == []


def test_reconcile_goes_on_after_a_failure(networks: Networks, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    small(networks)
    networks.attach(networks.reserve(ONE, "one", "bridge"), kernel.netns())
    networks.attach(networks.reserve(TWO, "two", "small"), kernel.netns())
    detach = kernel.fakes["bridge"].network_detach

    def stubborn(attachment: Attachment, attached: Attached | None) -> None:
        if attachment.container == ONE:
            raise DriverFault("not this one")
        detach(attachment, attached)

    monkeypatch.setattr(kernel.fakes["bridge"], "network_detach", stubborn)
    networks.reconcile([])

    assert len(networks.endpoints_of(ONE)) == 1
    assert list(networks.endpoints_of(TWO)) == []


def test_check_speaks_the_drivers_words(networks: Networks, kernel: Kernel) -> None:
    endpoint = networks.attach(networks.reserve(ONE, "one", "bridge"), kernel.netns())
    kernel.fakes["bridge"].attachments.clear()

    with pytest.raises(FailedPrecondition):
        networks.check(endpoint)


# --- views -----------------------------------------------------------------------------------------------------------


def test_what_docker_clients_see(networks: Networks, kernel: Kernel) -> None:
    small(networks)
    endpoint = networks.attach(networks.reserve(ONE, "one", "small"), kernel.netns())
    shown = network_resource(networks.get("small"), networks.endpoints("small"))

    assert shown["IPAM"] == {
        "Driver": "default",
        "Options": None,
        "Config": [{"Subnet": "10.9.0.0/29", "Gateway": "10.9.0.1"}],
    }
    assert shown["Containers"][ONE] == {
        "Name": "one",
        "EndpointID": endpoint.id,
        "MacAddress": "02:42:0a:09:00:02",
        "IPv4Address": "10.9.0.2/29",
        "IPv6Address": "",
    }
    settings = endpoint_settings(endpoint)
    assert (settings["IPAddress"], settings["IPPrefixLen"], settings["Gateway"]) == ("10.9.0.2", 29, "10.9.0.1")
    assert network_resource(networks.get("none"))["Driver"] == "null"
