"""What the options of networks and endpoints do to packets, with real sockets in throw-away namespaces."""

from __future__ import annotations

import logging
import socket
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TypeVar

import pytest

from pyd_conformance.network_stage import PORT, Namespace, NetworkStage, eventually, fresh_host, reaches, rules
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import NetworkSpec, PublishedPort, Subnet
from pyd_netlink.namespaces import set_sysctl, sysctl
from pyd_network_bridge.plugin import create

pytestmark = pytest.mark.root

INSTANCE = "c0ffee03"
TABLE = f"pyd-{INSTANCE}"
OPTION = "com.docker.network.bridge."
SIX = Subnet(ip_network("fd77:1::/64"), ip_address("fd77:1::1"))
T = TypeVar("T")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[NetworkStage]:
    log = logging.getLogger("pyd.test.bridge")
    context = DriverContext("bridge", tmp_path, tmp_path, {"bridge-name": "", "firewall": True}, log, INSTANCE)
    with fresh_host():
        stage = NetworkStage(create(context), addressed=True, kernel=True, own=True, scratch=tmp_path)
        try:
            yield stage
        finally:
            stage.close()


def here(work: Callable[[], T]) -> T:
    """In the namespace that plays the host."""
    return work()


def attach(stage: NetworkStage, network: NetworkSpec, host: int = 2, **changes: object) -> Namespace:
    inside = stage.namespace()
    stage.driver.network_attach(attachment=stage.attachment(network, host, netns=inside.path, **changes))
    return inside


def nft(script: str) -> str:
    done = subprocess.run(["nft", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def gateways(inside: Namespace, version: int = 4) -> list[str]:
    """Where the default routes lead, the best first."""
    routes = inside.ip(f"-{version}", "route", "show", "default")
    return [route["gateway"] for route in sorted(routes, key=lambda each: each.get("metric", 0))]


def own_address(inside: Namespace, neighbour: Namespace, address: str) -> str:
    """The address that a neighbour of the host sees a container come from."""

    def listen() -> socket.socket:
        server = socket.create_server((address, PORT))
        server.settimeout(5)
        return server

    with neighbour.run(listen) as server:
        inside.run(lambda: socket.create_connection((address, PORT), timeout=3)).close()
        connection, (seen, _) = server.accept()
        connection.close()
    return str(seen)


def pinged(address: str) -> bool:
    """Whether an echo request is answered (RFC 792)."""
    request = bytes((8, 0)) + (0xFFFF - 0x0800 - 7).to_bytes(2, "big") + bytes((0, 0, 0, 7))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(3)
        raw.sendto(request, (address, 0))
        return any(raw.recvfrom(100)[0][20:21] == b"\0" for _ in range(3))


# --- gateway modes ---------------------------------------------------------------------------------------------------


def test_routed_networks_let_in_what_is_published(stage: NetworkStage) -> None:
    neighbour = stage.outside()
    set_sysctl("ipv4/ip_forward", "1")
    network = stage.create(options={OPTION + "gateway_mode_ipv4": "routed"})
    port = PublishedPort("tcp", ip_address("0.0.0.0"), 18094, PORT)
    inside, closed = attach(stage, network, 2, ports=(port,)), attach(stage, network, 3)

    assert reaches(neighbour.run, inside.run, "10.77.1.2")
    assert not reaches(neighbour.run, closed.run, "10.77.1.3", timeout=0.5)
    assert own_address(inside, neighbour, "198.51.100.2") == "10.77.1.2"
    assert neighbour.run(lambda: pinged("10.77.1.3"))


def test_unprotected_networks_are_open_to_who_knows_the_way(stage: NetworkStage) -> None:
    neighbour = stage.outside()
    inside = attach(stage, stage.create(options={OPTION + "gateway_mode_ipv4": "nat-unprotected"}))

    assert reaches(neighbour.run, inside.run, "10.77.1.2")
    assert own_address(inside, neighbour, "198.51.100.2") == "198.51.100.1"


def test_isolated_networks_have_no_gateway(stage: NetworkStage) -> None:
    network = stage.create(internal=True, options={OPTION + "gateway_mode_ipv4": "isolated"})
    one, two = attach(stage, network, 2), attach(stage, network, 3)

    assert reaches(one.run, two.run, "10.77.1.3")
    assert not reaches(here, one.run, "10.77.1.2", timeout=0.5)  # the host has no address there
    with pytest.raises(InvalidArgument, match="--internal"):
        stage.driver.network_create(network=stage.spec(2, options={OPTION + "gateway_mode_ipv4": "isolated"}))


def test_trusted_interfaces(stage: NetworkStage) -> None:
    neighbour = stage.outside()
    options = {OPTION + "trusted_host_interfaces": "uplink:nosuch0"}
    trusting, other = attach(stage, stage.create(1, options=options)), attach(stage, stage.create(2), 3)

    assert reaches(neighbour.run, trusting.run, "10.77.1.2")
    assert not reaches(neighbour.run, other.run, "10.77.2.3", timeout=0.5)


def test_the_address_that_packets_leave_from(stage: NetworkStage) -> None:
    neighbour = stage.outside()
    subprocess.run(["ip", "addr", "add", "198.51.100.77/24", "dev", "uplink"], check=True)
    chosen = attach(stage, stage.create(1, options={"com.docker.network.host_ipv4": "198.51.100.77"}))
    usual = attach(stage, stage.create(2), 3)

    assert own_address(chosen, neighbour, "198.51.100.2") == "198.51.100.77"
    assert own_address(usual, neighbour, "198.51.100.2") == "198.51.100.1"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({OPTION + "enable_icq": "true"}, "did you mean com.docker.network.bridge.enable_icc"),
        ({OPTION + "gateway_mode_ipv4": "open"}, "nat-unprotected"),
        ({OPTION + "host_binding_ipv4": "::1"}, "IPv4"),
        ({OPTION + "trusted_host_interfaces": "a b"}, "no name of an interface"),
        ({"com.docker.network.host_ipv4": "here"}, "host_ipv4"),
        ({"pyd.bridge.anti_spoofing": "perhaps"}, "true or false"),
    ],
)
def test_options_that_cannot_work(stage: NetworkStage, options: dict[str, str], words: str) -> None:
    before = rules()
    with pytest.raises(InvalidArgument, match=words):
        stage.driver.network_create(network=stage.spec(options=options))
    assert rules() == before


# --- who reaches whom ------------------------------------------------------------------------------------------------


def test_without_icc_neighbours_do_not_meet_at_published_ports_either(stage: NetworkStage) -> None:
    network = stage.create(options={OPTION + "enable_icc": "false"})
    port = PublishedPort("tcp", ip_address("0.0.0.0"), 18094, PORT)
    one, two = attach(stage, network, 2, ports=(port,)), attach(stage, network, 3)
    stranger = attach(stage, stage.create(2), 4)

    assert not reaches(two.run, one.run, "10.77.1.2", timeout=0.5)
    assert not reaches(two.run, one.run, "10.77.1.1", port=18094, timeout=0.5)
    assert reaches(stranger.run, one.run, "10.77.1.1", port=18094)


def test_operators_have_a_chain_of_their_own(stage: NetworkStage) -> None:
    neighbour = stage.outside()
    port = PublishedPort("tcp", ip_address("0.0.0.0"), 18094, PORT)
    inside = attach(stage, stage.create(), 2, ports=(port,))
    assert reaches(neighbour.run, inside.run, "198.51.100.1", port=18094)

    nft(f'add rule ip {TABLE} operator iifname "uplink" meta l4proto tcp ct original proto-dst 18094 drop')
    assert not reaches(neighbour.run, inside.run, "198.51.100.1", port=18094, timeout=0.5)
    assert reaches(here, inside.run, "127.0.0.1", port=18094)

    network = stage.driver.network_create(network=stage.spec())  # as after a restart
    assert network["bridge"]
    stage.create(2)
    assert not reaches(neighbour.run, inside.run, "198.51.100.1", port=18094, timeout=0.5)

    nft(f"flush chain ip {TABLE} operator; add rule ip {TABLE} operator accept")
    assert reaches(neighbour.run, inside.run, "10.77.1.2")  # an accept there is the last word of this table


def test_the_operators_chain_outlives_the_last_network(stage: NetworkStage) -> None:
    nft(
        f"add table ip {TABLE}; add chain ip {TABLE} operator; add rule ip {TABLE} operator counter"
    )  # before the daemon
    network = stage.create()
    stage.driver.network_delete(network=stage.networks.pop(network.id))

    assert "counter" in nft(f"list chain ip {TABLE} operator")
    stage.create()
    assert "counter" in nft(f"list chain ip {TABLE} operator")
    nft(f"flush chain ip {TABLE} operator")
    stage.driver.network_delete(network=stage.networks.pop(network.id))
    assert rules() == ""


def test_a_single_rule_that_somebody_deleted_comes_back(stage: NetworkStage) -> None:
    port = PublishedPort("tcp", ip_address("0.0.0.0"), 18094, PORT)
    wide = PublishedPort("tcp", ip_address("0.0.0.0"), 19000, 19000, 50)
    attach(stage, stage.create(), 2, ports=(port, wide))
    before = rules()
    for script in (
        f"flush chain ip {TABLE} forward",
        f"flush chain ip {TABLE} nat-{stage.spec().id[:12]}",
        f"delete element ip {TABLE} ports-any {{ tcp . 18094 }}",
        f"delete element ip {TABLE} ranges-any {{ tcp . 19000-19049 }}",
        f"flush table ip {TABLE}",
    ):
        nft(script)
        eventually(lambda: rules() == before, f"the rules are as before: {script}", seconds=5)


def test_our_own_changes_are_not_taken_for_somebodys(stage: NetworkStage, caplog: pytest.LogCaptureFixture) -> None:
    port = PublishedPort("tcp", ip_address("0.0.0.0"), 18094, PORT)
    network, second = stage.create(), stage.create(2)
    attachment = stage.attachment(network, ports=(port,))
    stage.driver.network_attach(attachment=attachment)
    stage.driver.network_detach(attachment=attachment, attached=None)
    stage.driver.network_delete(network=stage.networks.pop(second.id))
    nft("add table ip strangers; delete table ip strangers")
    marker = stage.create(3)
    stage.driver.network_delete(network=stage.networks.pop(marker.id))
    stage.driver.network_close()  # the thread that watches has ended
    assert "somebody removed" not in caplog.text


# --- several networks ------------------------------------------------------------------------------------------------


def test_the_highest_priority_leads_out(stage: NetworkStage) -> None:
    one, two, three, inside = stage.create(1), stage.create(2), stage.create(3), stage.namespace()
    first = stage.attachment(one, netns=inside.path)
    second = stage.attachment(two, netns=inside.path, ifname="eth1", gateway_priority=5, default_route=True)
    third = stage.attachment(three, netns=inside.path, ifname="eth2", gateway_priority=3, default_route=False)
    stage.driver.network_attach(attachment=first)
    assert gateways(inside) == ["10.77.1.1"]
    stage.driver.network_attach(attachment=second)
    assert gateways(inside)[0] == "10.77.2.1"
    stage.driver.network_attach(attachment=third)
    assert gateways(inside) == ["10.77.2.1", "10.77.2.1", "10.77.3.1", "10.77.1.1"]
    stage.driver.network_detach(attachment=second, attached=None)
    assert gateways(inside) == ["10.77.3.1", "10.77.1.1"]
    stage.driver.network_attach(attachment=second)
    assert gateways(inside)[0] == "10.77.2.1"


def test_the_same_with_ipv6(stage: NetworkStage) -> None:
    other = Subnet(ip_network("fd77:2::/64"), ip_address("fd77:2::1"))
    four = stage.spec(2).subnets
    one, two = stage.create(1, subnets=(*stage.spec(1).subnets, SIX)), stage.create(2, subnets=(*four, other))
    inside = stage.namespace()
    second = stage.attachment(two, netns=inside.path, ifname="eth1", gateway_priority=-1, default_route=False)
    stage.driver.network_attach(attachment=second)
    assert gateways(inside, 6) == ["fd77:2::1"]
    stage.driver.network_attach(attachment=stage.attachment(one, netns=inside.path))
    assert gateways(inside, 6)[0] == "fd77:1::1"
    assert gateways(inside)[0] == "10.77.1.1"


# --- endpoints -------------------------------------------------------------------------------------------------------


def test_sysctls_of_an_interface(stage: NetworkStage) -> None:
    key = "com.docker.network.endpoint.sysctls"
    words = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.IFNAME.base_reachable_time_ms=20000"
    inside = attach(stage, stage.create(), options={key: words})
    assert inside.run(lambda: sysctl("ipv4/conf/eth0/log_martians")) == "1"
    assert inside.run(lambda: sysctl("ipv4/neigh/eth0/base_reachable_time_ms")) == "20000"
    for wrong in ("net.core.somaxconn=1", "net.ipv4.conf.eth9.log_martians=1", "net.ipv4.conf.IFNAME.nosuch=1"):
        with pytest.raises(InvalidArgument, match="sysctls"):
            attach(stage, stage.networks[stage.spec().id], 3, options={key: wrong})


def test_who_claims_a_neighbours_address_is_not_heard(stage: NetworkStage) -> None:
    network = stage.create(subnets=(*stage.spec().subnets, SIX), options={"pyd.bridge.anti_spoofing": "true"})
    victim, thief, asker = (attach(stage, network, host) for host in (2, 3, 4))
    for address in ("10.77.1.2", "fd77:1::2"):
        assert reaches(asker.run, victim.run, address)
    thief.ip("addr", "add", "10.77.1.99/24", "dev", "eth0")
    thief.ip("addr", "add", "fd77:1::99/64", "dev", "eth0", "nodad")
    for address in ("10.77.1.99", "fd77:1::99"):  # a free address is none of its own either
        assert not reaches(asker.run, thief.run, address, timeout=0.5)
    assert reaches(asker.run, thief.run, "10.77.1.3")
    assert reaches(asker.run, thief.run, "fd77:1::3")
    # An address of its own with another MAC address: frames do not pass.
    thief.ip("link", "set", "eth0", "address", "02:42:0a:4d:01:02")
    assert not reaches(asker.run, thief.run, "10.77.1.3", timeout=0.5)

    before = nft(f"list table bridge {TABLE}")
    nft("flush ruleset")
    eventually(
        lambda: f"table bridge {TABLE}" in rules() and nft(f"list table bridge {TABLE}") == before, "all is back"
    )
    for host in (2, 3, 4):
        stage.driver.network_detach(attachment=stage.attachment(network, host, netns=stage.gone()), attached=None)
    assert f"table bridge {TABLE}" not in rules()


def test_without_it_nothing_is_filtered(stage: NetworkStage) -> None:
    network = stage.create()
    thief, asker = attach(stage, network, 3), attach(stage, network, 4)
    thief.ip("addr", "add", "10.77.1.99/24", "dev", "eth0")
    assert reaches(asker.run, thief.run, "10.77.1.99")
    assert "bridge" not in {line.split()[1] for line in rules().splitlines() if line.startswith("table")}


def test_static_addresses_and_macs(stage: NetworkStage) -> None:
    network = stage.create(subnets=(*stage.spec().subnets, SIX))
    addresses = (ip_interface("10.77.1.200/24"), ip_interface("fd77:1::200/64"))
    inside = attach(stage, network, mac="02:42:AA:00:00:01", addresses=addresses)
    (link,) = inside.ip("link", "show", "eth0")
    assert link["address"] == "02:42:aa:00:00:01"
    assert reaches(here, inside.run, "fd77:1::200")
    assert reaches(here, inside.run, "10.77.1.200")


# --- explanations ----------------------------------------------------------------------------------------------------


def test_explanations_agree_with_what_happens(stage: NetworkStage) -> None:
    neighbour = stage.outside()
    set_sysctl("ipv4/ip_forward", "1")
    for number, options in enumerate(
        ({}, {OPTION + "gateway_mode_ipv4": "nat-unprotected"}, {OPTION + "trusted_host_interfaces": "uplink"}), start=1
    ):
        network = stage.create(number, options=options)
        inside = attach(stage, network, number + 1)
        attachment = stage.attachment(network, number + 1, netns=inside.path)
        told = [each for each in stage.driver.network_rules(attachment=attachment) if each.sender == "other hosts"]  # type: ignore[attr-defined]
        reached = reaches(neighbour.run, inside.run, f"10.77.{number}.{number + 1}", timeout=0.5)
        assert reached is any(each.allowed for each in told), told


def test_explanations_name_what_was_removed_and_what_operators_wrote(stage: NetworkStage) -> None:
    port = PublishedPort("tcp", ip_address("0.0.0.0"), 18094, PORT)
    network = stage.create()
    attach(stage, network, 2, ports=(port,))
    attachment = stage.attachment(network, ports=(port,))
    nft(f"add rule ip {TABLE} operator ip saddr 192.0.2.1 drop")
    told = stage.driver.network_rules(attachment=attachment)  # type: ignore[attr-defined]
    assert "192.0.2.1" in told[0].reason
    assert "tcp . 18094 : 10.77.1.2 . 8099" in next(each for each in told if each.port == port).rule
    assert {each.sender for each in told} >= {"anybody", "this host", "containers of other networks", "other hosts"}
