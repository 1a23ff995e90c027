"""What is special to the bridge driver, seen in the kernel: rules, sysctls, translation, isolation, deferred deletion."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from pyd_conformance.network_stage import (
    PORT,
    Namespace,
    NetworkStage,
    eventually,
    fresh_host,
    ip_json,
    namespaces_of_threads,
    reaches,
    rules,
)
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import AlreadyExists, Conflict, NotFound, ResourceExhausted
from pyd_contracts.values import NetworkSpec, PublishedPort, Subnet
from pyd_netlink.namespaces import set_sysctl, sysctl
from pyd_netlink.rtnetlink import Message, Netlink, add_veth
from pyd_network_bridge import driver as driver_module
from pyd_network_bridge import reaper as reaper_module
from pyd_network_bridge.driver import BridgeDriver
from pyd_network_bridge.nft import Program
from pyd_network_bridge.plugin import create

pytestmark = pytest.mark.root

INSTANCE = "c0ffee02"
TABLE = f"pyd-{INSTANCE}"
FOUR = Subnet(ip_network("10.77.1.0/24"), ip_address("10.77.1.1"))
SIX = Subnet(ip_network("fd77:1::/64"), ip_address("fd77:1::1"))
OPTION = "com.docker.network.bridge."


@pytest.fixture
def context(tmp_path: Path) -> DriverContext:
    log = logging.getLogger("pyd.test.bridge")
    return DriverContext("bridge", tmp_path, tmp_path, {"bridge-name": "", "firewall": True}, log, INSTANCE)


@pytest.fixture
def stage(context: DriverContext, tmp_path: Path) -> Iterator[NetworkStage]:
    with fresh_host():
        stage = NetworkStage(create(context), addressed=True, kernel=True, own=True, scratch=tmp_path)
        try:
            yield stage
        finally:
            stage.close()


def here(work: Callable[[], object]) -> object:
    """Run in the namespace that plays the host."""
    return work()


def attach(stage: NetworkStage, network: NetworkSpec, host: int = 2) -> Namespace:
    inside = stage.namespace()
    stage.driver.network_attach(attachment=stage.attachment(network, host, netns=inside.path))
    return inside


def names() -> set[str]:
    return {link["ifname"] for link in ip_json("link")}


# --- rules -----------------------------------------------------------------------------------------------------------


def test_rules_carry_the_networks_id(stage: NetworkStage) -> None:
    network = stage.create()

    found = rules()

    assert f"table ip {TABLE} " in found
    assert f"table ip6 {TABLE} " not in found
    assert 'ip saddr 10.77.1.0/24 oifname != "' in found
    ours = [line for line in found.splitlines() if re.search(r"\b(drop|return|masquerade)\b", line)]
    ours = [line for line in ours if "loopback addresses of this host" not in line]  # of all networks
    assert len(ours) == 10
    assert all(f'comment "network {network.id}"' in line for line in ours)


def test_rules_come_back_when_they_were_flushed(stage: NetworkStage) -> None:
    network = stage.create()
    before = rules()
    subprocess.run(["nft", "flush", "ruleset"], check=True)

    stage.driver.network_create(network=network)

    assert rules() == before


def test_the_program_writes_what_the_library_writes(stage: NetworkStage) -> None:
    network = stage.create(subnets=(FOUR, SIX))
    by_library = rules()
    stage.driver.network_delete(network=network)
    assert rules() == ""
    other = BridgeDriver(INSTANCE, logging.getLogger("pyd.test.bridge"), Program("nft"))

    record = other.network_create(network=network)

    assert rules() == by_library
    assert record["firewall"] == f"nft, table {TABLE}"
    other.network_close()
    assert rules() == ""


def test_without_nftables_networks_work_and_say_so(stage: NetworkStage, caplog: pytest.LogCaptureFixture) -> None:
    bare = BridgeDriver("c0ffee03", logging.getLogger("pyd.test.bridge"), None, "libnftables1 is not installed")
    network = stage.spec()

    record = bare.network_create(network=network)
    one, two = stage.namespace(), stage.namespace()
    bare.network_attach(attachment=stage.attachment(network, 2, netns=one.path))
    bare.network_attach(attachment=stage.attachment(network, 3, netns=two.path))

    assert record["masquerade"] == "off: libnftables1 is not installed"
    assert "libnftables1 is not installed" in caplog.text
    assert bare.capabilities == {"rules"}
    assert reaches(one.run, two.run, "10.77.1.3")
    bare.network_delete(network=network)
    bare.network_close()


def test_a_foreign_drop_policy_is_reported(stage: NetworkStage) -> None:
    script = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"
    subprocess.run(["nft", script], check=True)

    record = stage.driver.network_create(network=stage.create())

    assert "iptables -I FORWARD" in record["forward"]


# --- packets ---------------------------------------------------------------------------------------------------------


def test_outbound_traffic_is_translated(stage: NetworkStage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    neighbour = stage.outside()
    set_sysctl("ipv4/ip_forward", "0")
    inside = attach(stage, stage.create())
    assert "net.ipv4.ip_forward is 1 now" in caplog.text

    def listen() -> socket.socket:
        return socket.create_server(("198.51.100.2", PORT))

    with neighbour.run(listen) as server:
        server.settimeout(5)
        client = inside.run(lambda: socket.create_connection(("198.51.100.2", PORT), timeout=5))
        with client:
            peer, address = server.accept()
            peer.close()
    assert address[0] == "198.51.100.1"


def test_the_first_packet_arrives(stage: NetworkStage) -> None:
    major, minor = (int(part) for part in os.uname().release.split(".")[:2])
    if (major, minor) < (6, 9):
        pytest.skip("before Linux 6.9 a worker of the kernel opens the port, some time after attach")
    network = stage.create()
    peer = attach(stage, network, 3)

    for host in range(4, 12):
        assert reaches(attach(stage, network, host).run, peer.run, "10.77.1.3", timeout=0.9)  # TCP repeats after 1 s


def test_what_somebody_flushed_comes_back_by_itself(stage: NetworkStage) -> None:
    network, inside = stage.create(), stage.namespace()
    ports = (PublishedPort("tcp", ip_address("0.0.0.0"), 18094, PORT),)
    stage.driver.network_attach(attachment=stage.attachment(network, netns=inside.path, ports=ports))
    before = rules()

    subprocess.run(["nft", "flush", "ruleset"], check=True)

    eventually(lambda: rules() == before, "the rules are as they were", seconds=5)
    assert reaches(lambda work: work(), inside.run, "127.0.0.1", port=18094)


def test_ports_are_published_also_before_the_rules_are_back(stage: NetworkStage) -> None:
    network = stage.create()
    for host, port in ((2, 18094), (3, 18095)):
        inside = stage.namespace()
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        ports = (PublishedPort("tcp", ip_address("0.0.0.0"), port, PORT),)
        stage.driver.network_attach(attachment=stage.attachment(network, host, netns=inside.path, ports=ports))
        assert reaches(lambda work: work(), inside.run, "127.0.0.1", port=port)


def test_a_bridge_that_somebody_removed_is_made_again(stage: NetworkStage, caplog: pytest.LogCaptureFixture) -> None:
    network = stage.create(options={OPTION + "name": "mine0"})
    ip_json("link", "del", "mine0")

    inside = attach(stage, network)

    assert reaches(here, inside.run, "10.77.1.2")  # type: ignore[arg-type]
    assert "somebody removed its bridge mine0" in caplog.text
    stage.driver.network_delete(network=network)
    with pytest.raises(NotFound):
        attach(stage, network)


def test_several_daemons_leave_each_other_in_peace(stage: NetworkStage, context: DriverContext, tmp_path: Path) -> None:
    """Each watches for what others take away, and the end of a table is an event: they must not answer each other for ever."""
    second = NetworkStage(
        create(replace(context, instance="c0ffee03")), addressed=True, kernel=True, own=True, scratch=tmp_path
    )
    try:
        stage.create()
        second.create(9)
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        eventually(lambda: rules().count("chain guard") == 2, "both have set their rules again", seconds=5)
        time.sleep(1)  # beyond what they do at once

        done = subprocess.run(
            ["timeout", "1.5", "nft", "monitor", "tables"], capture_output=True, text=True, check=False
        )

        assert done.stdout == ""
    finally:
        second.close()


def test_nothing_is_translated_or_forwarded_unasked(stage: NetworkStage) -> None:
    set_sysctl("ipv4/ip_forward", "0")

    stage.create(options={OPTION + "enable_ip_masquerade": "false"})

    assert "oifname != " not in rules()
    assert sysctl("ipv4/ip_forward") == "0"


def test_containers_are_reached_from_outside_through_published_ports_only(stage: NetworkStage) -> None:
    neighbour = stage.outside()
    inside = attach(stage, stage.create())
    assert not reaches(neighbour.run, inside.run, "10.77.1.2", timeout=0.5)
    publish = (
        "add table ip publish; add chain ip publish pre { type nat hook prerouting priority dstnat; }; "
        f"add rule ip publish pre ip daddr 198.51.100.1 tcp dport {PORT} dnat to 10.77.1.2"
    )
    subprocess.run(["nft", publish], check=True)

    assert reaches(neighbour.run, inside.run, "198.51.100.1")
    assert reaches(here, inside.run, "10.77.1.2")  # type: ignore[arg-type]


def test_networks_are_isolated(stage: NetworkStage) -> None:
    one, two = attach(stage, stage.create(1), 2), attach(stage, stage.create(2), 3)

    assert not reaches(one.run, two.run, "10.77.2.3", timeout=0.5)
    assert not reaches(two.run, one.run, "10.77.1.2", timeout=0.5)
    stage.driver.network_delete(network=stage.networks.pop(stage.spec(2).id))
    assert rules().count("saddr 10.77.") == 2  # translated on the way out, and on the way back to a neighbour


def test_internal_networks_are_closed(stage: NetworkStage) -> None:
    neighbour = stage.outside()
    network = stage.create(internal=True)
    stage.create(2)
    one, two = attach(stage, network, 2), attach(stage, network, 3)
    one.ip("route", "add", "default", "via", "10.77.1.1")

    assert reaches(one.run, two.run, "10.77.1.3")
    assert not reaches(one.run, neighbour.run, "198.51.100.2", timeout=0.5)
    assert not reaches(neighbour.run, one.run, "10.77.1.2", timeout=0.5)


def test_without_icc_containers_reach_the_gateway_only(stage: NetworkStage) -> None:
    network = stage.create(options={OPTION + "enable_icc": "false"})
    one, two = attach(stage, network, 2), attach(stage, network, 3)

    assert not reaches(one.run, two.run, "10.77.1.3", timeout=0.5)
    assert reaches(one.run, here, "10.77.1.1")  # type: ignore[arg-type]


def test_ipv6(stage: NetworkStage) -> None:
    network = stage.create(subnets=(FOUR, SIX))
    one, two = attach(stage, network, 2), attach(stage, network, 3)

    (route,) = one.ip("-6", "route", "show", "default")
    assert route["gateway"] == "fd77:1::1"
    assert reaches(one.run, two.run, "fd77:1::3")
    assert f"table ip6 {TABLE} " in rules()
    assert "ip6 saddr fd77:1::/64" in rules()


# --- sysctls, names, sizes -------------------------------------------------------------------------------------------


def test_nobody_listens_to_routers_in_containers(stage: NetworkStage) -> None:
    network = stage.create()
    inside = attach(stage, network)
    (bridge,) = [name for name in names() if name.startswith("br-")]
    (port,) = [name for name in names() if name.startswith("py")]

    assert inside.run(lambda: sysctl("ipv6/conf/eth0/accept_ra")) == "0"
    assert inside.run(lambda: sysctl("ipv6/conf/eth0/disable_ipv6")) == "1"
    assert sysctl(f"ipv6/conf/{bridge}/accept_ra") == "0"
    assert sysctl(f"ipv6/conf/{bridge}/disable_ipv6") == "1"
    assert sysctl(f"ipv6/conf/{port}/disable_ipv6") == "1"


def test_ipv6_is_on_where_it_was_asked_for_and_routers_are_still_not_heard(stage: NetworkStage) -> None:
    inside = attach(stage, stage.create(subnets=(FOUR, SIX)))

    assert inside.run(lambda: sysctl("ipv6/conf/eth0/accept_ra")) == "0"
    assert inside.run(lambda: sysctl("ipv6/conf/eth0/disable_ipv6")) == "0"


def test_names_and_sizes(stage: NetworkStage) -> None:
    options = {OPTION + "name": "mine0", "com.docker.network.driver.mtu": "1400"}
    inside = attach(stage, stage.create(options=options))

    (bridge,) = ip_json("link", "show", "mine0")
    (link,) = inside.ip("link", "show", "eth0")
    assert (bridge["mtu"], link["mtu"], link["address"]) == (1400, 1400, "02:42:0a:4d:01:02")
    assert bridge["ifalias"] == f"pyd {INSTANCE} {stage.spec().id}"


def test_a_bridge_of_somebody_else_is_not_touched(stage: NetworkStage) -> None:
    ip_json("link", "add", "mine0", "type", "bridge")

    with pytest.raises(Conflict, match="ip link delete mine0"):
        stage.create(options={OPTION + "name": "mine0"})

    stage.driver.network_delete(network=stage.spec(options={OPTION + "name": "mine0"}))
    assert "mine0" in names()
    assert rules() == ""


def test_a_bridge_is_for_one_network(stage: NetworkStage) -> None:
    stage.create(1, options={OPTION + "name": "mine0"})

    before = rules()
    with pytest.raises(Conflict, match="belongs to network"):
        stage.create(2, options={OPTION + "name": "mine0"})
    stage.driver.network_delete(network=stage.spec(2, options={OPTION + "name": "mine0"}))  # as the engine does then
    assert rules() == before


def test_two_networks_have_two_default_routes(stage: NetworkStage) -> None:
    one, two, inside = stage.create(1), stage.create(2), stage.namespace()
    first = stage.attachment(one, netns=inside.path)
    second = stage.attachment(two, netns=inside.path, ifname="eth1", default_route=False)
    done = stage.driver.network_attach(attachment=first)
    stage.driver.network_check(attachment=second, attached=stage.driver.network_attach(attachment=second))

    assert [route["gateway"] for route in inside.ip("route", "show", "default")] == ["10.77.1.1", "10.77.2.1"]
    stage.driver.network_detach(attachment=first, attached=done)
    assert [route["gateway"] for route in inside.ip("route", "show", "default")] == ["10.77.2.1"]


def test_a_full_bridge_says_so(stage: NetworkStage) -> None:
    network, crowd = stage.create(options={OPTION + "name": "mine0"}), stage.namespace()
    with Path(crowd.path).open("rb") as held:
        netlink = Netlink()
        bridge = netlink.link("mine0")
        assert bridge is not None
        for start in range(0, 1023, 33):
            ports: list[Message] = [
                add_veth(f"c{number}", bridge.index, f"p{number}", held.fileno(), bytes(6), 0)
                for number in range(start, start + 33)
            ]
            netlink.run(*[Message(each.type, each.flags, _without_mac(each.body), each.doing) for each in ports])
        netlink.close()

    with pytest.raises(ResourceExhausted, match="1023"):
        attach(stage, network)

    assert not [name for name in names() if name.startswith("py")]


def _without_mac(body: bytes) -> bytes:
    """Let the kernel choose: 00:00:00:00:00:00 is no address (attribute 1 of 10 bytes becomes an unknown one)."""
    return body.replace(b"\x0a\x00\x01\x00" + bytes(6), b"\x0a\x00\x00\x00" + bytes(6))


def test_many_at_once(stage: NetworkStage) -> None:
    network = stage.create()
    attachments = [stage.attachment(network, host) for host in range(2, 34)]

    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda each: stage.driver.network_attach(attachment=each), attachments))
    assert len({each.host_ifname for each in done}) == 32
    for attachment, attached in zip(attachments, done, strict=True):
        stage.driver.network_check(attachment=attachment, attached=attached)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda each: stage.driver.network_detach(attachment=each, attached=None), attachments))

    assert not [name for name in names() if name.startswith("py")]
    here_only = {os.readlink("/proc/thread-self/ns/net")}
    eventually(lambda: namespaces_of_threads() == here_only, "all threads are in the host's namespace")


# --- failures and crashes --------------------------------------------------------------------------------------------


def test_a_failure_in_the_container_undoes_the_hosts_half(stage: NetworkStage, monkeypatch: pytest.MonkeyPatch) -> None:
    network, inside = stage.create(), stage.namespace()
    before = names()

    def fail(*_: object) -> None:
        raise NotFound("vanished")

    monkeypatch.setattr(driver_module, "configure", fail)
    with pytest.raises(NotFound, match="vanished"):
        stage.driver.network_attach(attachment=stage.attachment(network, netns=inside.path))

    assert names() == before
    assert {link["ifname"] for link in inside.ip("link")} == {"lo"}


def test_which_end_is_in_the_way_is_said(stage: NetworkStage) -> None:
    network = stage.create()
    attachment = stage.attachment(network)
    stage.driver.network_attach(attachment=attachment)

    with pytest.raises(AlreadyExists, match="on the host"):
        stage.driver.network_attach(attachment=attachment)
    busy = stage.namespace()
    busy.ip("link", "add", "eth0", "type", "bridge")
    with pytest.raises(AlreadyExists, match="eth0 in the container"):
        stage.driver.network_attach(attachment=stage.attachment(network, 3, netns=busy.path))


def test_detach_cuts_off_at_once_and_deletes_later(stage: NetworkStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper_module, "_PATIENCE", 60)
    network, one = stage.create(), stage.namespace()
    two = attach(stage, network, 3)
    attached = stage.driver.network_attach(attachment=stage.attachment(network, 2, netns=one.path))
    assert reaches(one.run, two.run, "10.77.1.3")

    # The path is gone while the namespace lives on: the kernel will not delete the pair by itself.
    stage.driver.network_detach(attachment=stage.attachment(network, 2, netns=stage.gone()), attached=attached)

    assert attached.host_ifname in names()
    assert not reaches(one.run, two.run, "10.77.1.3", timeout=0.5)
    stage.driver.network_close()
    assert attached.host_ifname not in names()
    assert reaches(here, two.run, "10.77.1.3")  # type: ignore[arg-type]


def test_attach_does_not_wait_for_a_deletion_of_the_same_name(
    stage: NetworkStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper_module, "_PATIENCE", 60)
    network, one = stage.create(), stage.namespace()
    attachment = stage.attachment(network, 2, netns=one.path)
    stage.driver.network_attach(attachment=attachment)
    gone = stage.attachment(network, 2, netns=stage.gone())
    stage.driver.network_detach(attachment=gone, attached=None)

    again = stage.driver.network_attach(attachment=attachment)

    stage.driver.network_check(attachment=attachment, attached=again)


def test_an_address_moves_at_once(stage: NetworkStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper_module, "_PATIENCE", 60)
    network, old, new = stage.create(), stage.namespace(), stage.namespace()
    peer = attach(stage, network, 9)
    stage.driver.network_attach(attachment=stage.attachment(network, 2, netns=old.path))
    assert reaches(peer.run, old.run, "10.77.1.2")
    stage.driver.network_detach(attachment=stage.attachment(network, 2, netns=stage.gone()), attached=None)

    address = stage.addresses(network, 2)
    stage.driver.network_attach(attachment=stage.attachment(network, 5, netns=new.path, addresses=address))

    # The newcomer has not said a word, and the peer remembers the old one: same MAC address, another port.
    assert reaches(peer.run, new.run, "10.77.1.2")


def test_the_kernel_deletes_with_the_namespace(stage: NetworkStage) -> None:
    network, inside = stage.create(), stage.namespace()
    attached = stage.driver.network_attach(attachment=stage.attachment(network, netns=inside.path))
    inside.close()

    stage.driver.network_detach(attachment=stage.attachment(network, netns=stage.gone()), attached=attached)

    eventually(lambda: attached.host_ifname not in names(), f"{attached.host_ifname} is gone")


def test_gc_finds_ends_that_lost_their_bridge(stage: NetworkStage) -> None:
    network = stage.create(options={OPTION + "name": "mine0"})
    kept = attach(stage, network, 2)
    ip_json("link", "delete", "mine0")
    assert len([name for name in names() if name.startswith("py")]) == 1

    removed = stage.driver.network_gc(network=network, valid=[])

    assert len(removed) == 1
    assert names() == {"lo"}
    assert {link["ifname"] for link in kept.ip("link")} == {"lo"}


_LOAD = """
import itertools, logging, sys
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from pyd_contracts.context import DriverContext
from pyd_contracts.values import Attachment, NetworkSpec, Subnet
from pyd_network_bridge.plugin import create
instance, identity, netns = sys.argv[1:]
driver = create(DriverContext("bridge", Path("."), Path("."), {}, logging.getLogger(), instance))
network = NetworkSpec(identity, "test1", (Subnet(ip_network("10.77.1.0/24"), ip_address("10.77.1.1")),))
one = Attachment("f" * 64, network, "eth0", Path(netns), addresses=(ip_interface("10.77.1.50/24"),))
print("running", flush=True)
for number in itertools.count():
    driver.network_create(network=network)
    driver.network_attach(attachment=replace(one, container=f"{number:064x}", ifname=f"net{number}"))
    driver.network_detach(attachment=replace(one, container=f"{number:064x}", netns=Path("/proc/0/ns")), attached=None)
    driver.network_detach(attachment=replace(one, container=f"{number - 1:064x}", ifname=f"net{number}"), attached=None)
"""


def test_kill_9_at_any_time(stage: NetworkStage) -> None:
    network, inside = stage.create(), stage.namespace()
    for moment in range(6):
        words = [sys.executable, "-c", _LOAD, INSTANCE, network.id, str(inside.path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as load:
            assert load.stdout is not None
            assert load.stdout.readline() == b"running\n"
            time.sleep(0.05 + moment * 0.013)  # anywhere in the work: the point is not to know where
            load.kill()
        stage.driver.network_create(network=network)

        stage.driver.network_gc(network=network, valid=[])

        assert names() == {"lo", f"br-{network.id[:12]}"}
        attachment = stage.attachment(network, 3)
        stage.driver.network_check(attachment=attachment, attached=stage.driver.network_attach(attachment=attachment))
        stage.driver.network_detach(attachment=attachment, attached=None)


def test_close_removes_what_nobody_uses(stage: NetworkStage) -> None:
    stage.create(1)
    used = stage.create(2)
    attach(stage, used)

    stage.driver.network_close()

    assert [name for name in names() if name.startswith("br-")] == [f"br-{used.id[:12]}"]
    assert rules().count("saddr 10.77.") == 2  # translated on the way out, and on the way back to a neighbour


def test_a_close_with_nothing_left_takes_the_table_along(stage: NetworkStage) -> None:
    stage.create(subnets=(FOUR, SIX))

    stage.driver.network_close()

    assert names() == {"lo"}
    assert rules() == ""


def test_addresses_of_the_bridge_are_brought_back_into_line(stage: NetworkStage) -> None:
    network = stage.create(options={OPTION + "name": "mine0"})
    ip_json("addr", "flush", "dev", "mine0")
    ip_json("addr", "add", "10.77.99.1/24", "dev", "mine0")
    ip_json("link", "set", "mine0", "down")

    stage.driver.network_create(network=network)

    (bridge,) = ip_json("addr", "show", "dev", "mine0")
    assert [each["local"] for each in bridge["addr_info"] if each["scope"] == "global"] == ["10.77.1.1"]
    assert "UP" in bridge["flags"]


def test_addresses_with_odd_prefixes(stage: NetworkStage) -> None:
    network, inside = stage.create(), stage.namespace()
    attachment = stage.attachment(network, netns=inside.path, addresses=(ip_interface("10.77.1.9/32"),))

    attached = stage.driver.network_attach(attachment=attachment)

    stage.driver.network_check(attachment=attachment, attached=attached)
