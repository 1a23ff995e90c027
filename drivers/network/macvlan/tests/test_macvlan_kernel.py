"""What is special to the macvlan driver, seen in the kernel: parents, VLANs, modes, and what cannot be together.

A veth pair is the host's network card and its cable: the other end is in a namespace that plays a neighbour outside.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance.network import Namespace, NetworkStage
from pyd_conformance.network_stage import eventually, fresh_host, ip_json, reaches
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import (
    Conflict,
    Declined,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PydError,
)
from pyd_network_macvlan.plugin import create

pytestmark = pytest.mark.root


@pytest.fixture
def context(tmp_path: Path) -> DriverContext:
    import logging

    return DriverContext("macvlan", tmp_path, tmp_path, {}, logging.getLogger("pyd.test"), instance="c0ffee02")


@pytest.fixture
def stage(context: DriverContext, tmp_path: Path) -> Iterator[NetworkStage]:
    """The driver on a host with one card, ``card``, and nothing on its cable yet."""
    with fresh_host():
        ip_json("link", "add", "card", "type", "veth", "peer", "name", "cable")
        ip_json("link", "set", "card", "up")
        try:
            driver = create(context)
        except Declined as why:
            pytest.skip(str(why))
        stage = NetworkStage(driver, addressed=True, kernel=True, own=True, scratch=tmp_path)
        try:
            yield stage
        finally:
            stage.close()


def outside(stage: NetworkStage, address: str, tag: int = 0) -> Namespace:
    """A neighbour at the other end of the cable, perhaps in a VLAN."""
    there = stage.namespace()
    ip_json("link", "set", "cable", "netns", str(there.path))
    there.ip("link", "set", "cable", "up")
    name = "cable"
    if tag:
        name = f"cable.{tag}"
        there.ip("link", "add", "link", "cable", "name", name, "type", "vlan", "id", str(tag))
        there.ip("link", "set", name, "up")
    there.ip("addr", "add", address, "dev", name)
    return there


def attach(stage: NetworkStage, network: Any, host: int, **changes: Any) -> Namespace:
    inside = stage.namespace()
    stage.driver.network_attach(attachment=stage.attachment(network, host, netns=inside.path, **changes))
    return inside


def names() -> set[str]:
    return {link["ifname"] for link in ip_json("link")}


def need_vlan() -> None:
    with fresh_host():
        made = subprocess.run(
            ["ip", "link", "add", "link", "lo", "name", "v", "type", "vlan", "id", "5"], capture_output=True
        )
    if b"Unknown device type" in made.stderr:
        pytest.skip("no VLANs in this kernel (CONFIG_VLAN_8021Q)")


# --- on the host's card ----------------------------------------------------------------------------------------------


def test_containers_and_neighbours_outside_reach_one_another(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card"})
    neighbour = outside(stage, "10.77.1.200/24")

    one, two = attach(stage, network, 2), attach(stage, network, 3)

    assert reaches(one.run, two.run, "10.77.1.3")
    assert reaches(neighbour.run, one.run, "10.77.1.2")
    assert reaches(one.run, neighbour.run, "10.77.1.200")


def test_two_networks_share_a_card(stage: NetworkStage) -> None:
    first = stage.create(1, options={"parent": "card"})
    second = stage.create(2, options={"parent": "card", "macvlan_mode": "vepa"})

    attach(stage, first, 2)
    attach(stage, second, 3)
    stage.driver.network_delete(network=second)

    assert "card" in names()
    assert stage.driver.network_gc(network=first, valid=[]) != []


@pytest.mark.parametrize(("mode", "together"), [("bridge", True), ("private", False), ("vepa", False)])
def test_modes(stage: NetworkStage, mode: str, together: bool) -> None:
    """In a VEPA everything goes to the switch outside, and this cable's end sends nothing back."""
    network = stage.create(options={"parent": "card", "macvlan_mode": mode})
    neighbour = outside(stage, "10.77.1.200/24")
    one, two = attach(stage, network, 2), attach(stage, network, 3)

    assert reaches(one.run, two.run, "10.77.1.3", timeout=3 if together else 0.5) is together
    assert reaches(one.run, neighbour.run, "10.77.1.200")


def test_passthru_gives_the_card_to_one_container(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card", "macvlan_mode": "passthru"})
    (card,) = ip_json("link", "show", "card")
    neighbour = outside(stage, "10.77.1.200/24")

    one = attach(stage, network, 2)

    (link,) = one.ip("link", "show", "eth0")
    assert link["address"] == card["address"]
    assert reaches(neighbour.run, one.run, "10.77.1.2")
    with pytest.raises(Conflict, match="card carries an interface in mode passthru"):
        attach(stage, network, 3)
    stage.driver.network_detach(attachment=stage.attachment(network, 2, netns=one.path), attached=None)
    attach(stage, network, 3)


def test_an_internal_network_leads_nowhere_but_to_itself(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card"}, internal=True)

    one = attach(stage, network, 2)

    assert one.ip("route", "show", "default") == []


def test_the_mtu(stage: NetworkStage) -> None:
    one = attach(stage, stage.create(options={"parent": "card", "com.docker.network.driver.mtu": "1400"}), 2)

    (link,) = one.ip("link", "show", "eth0")
    assert link["mtu"] == 1400
    with pytest.raises(InvalidArgument, match="9000 is above the 1500 of its parent card"):
        stage.create(2, options={"parent": "card", "com.docker.network.driver.mtu": "9000"})


# --- VLANs -----------------------------------------------------------------------------------------------------------


def test_a_vlan_interface_comes_and_goes_with_its_networks(stage: NetworkStage) -> None:
    need_vlan()
    first = stage.create(1, options={"parent": "card.50"})
    second = stage.create(2, options={"parent": "card.50"})
    (link,) = ip_json("-d", "link", "show", "card.50")
    assert (link["linkinfo"]["info_kind"], link["linkinfo"]["info_data"]["id"]) == ("vlan", 50)
    assert link["ifalias"] == "pyd c0ffee02 vlan"

    stage.driver.network_delete(network=first)
    assert "card.50" in names()
    stage.driver.network_delete(network=second)
    assert "card.50" not in names()


def test_a_vlan_interface_that_was_there_stays(stage: NetworkStage) -> None:
    need_vlan()
    ip_json("link", "add", "link", "card", "name", "card.50", "type", "vlan", "id", "50")
    ip_json("link", "set", "card.50", "up")

    stage.driver.network_delete(network=stage.create(options={"parent": "card.50"}))
    stage.driver.network_close()

    assert "card.50" in names()


def test_a_vlan_interface_of_an_earlier_daemon_is_known_again(stage: NetworkStage, context: DriverContext) -> None:
    need_vlan()
    one, two = (stage.spec(n, options={"parent": "card.50"}) for n in (1, 2))
    stage.create(1, options={"parent": "card.50"})
    inside = attach(stage, one, 2)
    again = create(context)

    again.network_delete(network=two)  # what an interrupted removal is ended with, before the other network is restored

    assert "card.50" in names()
    assert [link["ifname"] for link in inside.ip("link")] == ["lo", "eth0"]
    again.network_create(network=one)
    again.network_delete(network=one)
    again.network_close()
    assert "card.50" not in names()


def test_vlans_are_apart(stage: NetworkStage) -> None:
    need_vlan()
    first = stage.create(1, options={"parent": "card.50"})
    second = stage.create(2, options={"parent": "card.51"})
    neighbour = outside(stage, "10.77.1.200/24", tag=50)
    one, two = attach(stage, first, 2), attach(stage, first, 3)
    stranger = attach(stage, second, 4, addresses=stage.addresses(second, 4))

    assert reaches(one.run, two.run, "10.77.1.3")
    assert reaches(neighbour.run, one.run, "10.77.1.2")
    assert not reaches(stranger.run, one.run, "10.77.1.2", timeout=0.5)


def test_a_vlan_of_a_card_that_is_down(stage: NetworkStage) -> None:
    need_vlan()
    ip_json("link", "set", "card", "down")

    with pytest.raises(FailedPrecondition, match="ip link set card up"):
        stage.create(options={"parent": "card.50"})
    assert "card.50" not in names()


# --- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"parent": "nocard"}, InvalidArgument, "invalid subinterface vlan name nocard, example formatting is eth0.10"),
        ({"parent": "nocard.5"}, InvalidArgument, "-o parent interface does not exist on the host: nocard"),
        ({"parent": "card.5000"}, InvalidArgument, "vlan id must be between 1-4094, received: 5000"),
        ({"parent": "card.x"}, InvalidArgument, "unable to parse a valid vlan id from: x"),
        ({"parent": "card.1.2"}, InvalidArgument, "required interface name format is: name.vlan_id"),
        ({"parent": "lo"}, InvalidArgument, "loopback interface is not a valid macvlan parent link"),
        ({"parent": "card", "macvlan_mode": "nope"}, InvalidArgument, "requested macvlan mode 'nope' is not valid"),
        ({"parent": "port"}, Conflict, "interface port is a port of another one"),
    ],
)
def test_parents_that_cannot_be(
    stage: NetworkStage, options: dict[str, str], error: type[PydError], words: str
) -> None:
    ip_json("link", "add", "switch", "type", "bridge")
    ip_json("link", "add", "port", "type", "veth", "peer", "name", "port1")
    ip_json("link", "set", "port", "master", "switch")
    before = names()

    with pytest.raises(error, match=words):
        stage.create(options=options)

    assert names() == before


def test_passthru_is_alone_among_networks(stage: NetworkStage) -> None:
    first = stage.create(1, options={"parent": "card"})
    passthru = {"parent": "card", "macvlan_mode": "passthru"}

    with pytest.raises(Conflict, match="cannot use mode passthru, macvlan network test1 is already using .* card"):
        stage.create(2, options=passthru)
    stage.driver.network_delete(network=first)
    stage.create(2, options=passthru)
    with pytest.raises(Conflict, match="macvlan network test2 is already using parent interface card in mode passthru"):
        stage.create(1, options={"parent": "card"})


def test_a_card_that_others_use_is_not_passed_through(stage: NetworkStage) -> None:
    ip_json("link", "add", "theirs", "link", "card", "type", "macvlan", "mode", "bridge")

    with pytest.raises(Conflict, match="the macvlan interface theirs of this host"):
        stage.create(options={"parent": "card", "macvlan_mode": "passthru"})
    stage.create(options={"parent": "card"})


def test_a_mac_address_that_is_taken(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card"})
    attach(stage, network, 2, mac="02:42:00:00:00:77")
    inside = stage.namespace()

    with pytest.raises(Conflict, match="02:42:00:00:00:77 is taken on card"):
        stage.driver.network_attach(attachment=stage.attachment(network, 3, netns=inside.path, mac="02:42:00:00:00:77"))
    assert [link["ifname"] for link in inside.ip("link")] == ["lo"]


def test_a_parent_that_vanished(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card"})
    ip_json("link", "del", "card")

    with pytest.raises(NotFound, match="no parent interface card here"):
        attach(stage, network, 2)


# --- found again -----------------------------------------------------------------------------------------------------


def test_a_namespace_that_lost_its_name_is_found_by_its_number(stage: NetworkStage, context: DriverContext) -> None:
    """The path is gone with the process, and the namespace lives on in another one; the driver is a new one."""
    network = stage.create(options={"parent": "card"})
    attachment = stage.attachment(network, 2, netns=(inside := stage.namespace()).path)
    stage.driver.network_attach(attachment=attachment)
    again = create(context)

    again.network_detach(attachment=replace(attachment, netns=stage.gone()), attached=None)

    assert [link["ifname"] for link in inside.ip("link")] == ["lo"]
    again.network_close()


def test_a_renamed_interface_is_still_its_container_s(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card"})
    attachment = stage.attachment(network, 2, netns=(inside := stage.namespace()).path)
    stage.driver.network_attach(attachment=attachment)
    inside.ip("link", "set", "eth0", "down")
    inside.ip("link", "set", "eth0", "name", "other")

    stage.driver.network_detach(attachment=attachment, attached=None)

    assert [link["ifname"] for link in inside.ip("link")] == ["lo"]


def test_an_interface_of_somebody_else_is_left_alone(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card"})
    inside = stage.namespace()
    ip_json("link", "add", "theirs", "link", "card", "type", "macvlan", "mode", "bridge")
    ip_json("link", "set", "theirs", "netns", str(inside.path), "name", "eth0")

    stage.driver.network_detach(attachment=stage.attachment(network, 2, netns=inside.path), attached=None)
    removed = stage.driver.network_gc(network=network, valid=[])

    assert list(removed) == []
    assert [link["ifname"] for link in inside.ip("link")] == ["lo", "eth0"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda: ip_json("link", "set", "card", "down"), "parent interface card is down"),
        (lambda: ip_json("link", "set", "card", "name", "gone"), "parent interface card is not there"),
    ],
    ids=["down", "gone"],
)
def test_check_looks_at_the_parent(stage: NetworkStage, damage: Callable[[], object], words: str) -> None:
    network = stage.create(options={"parent": "card"})
    attachment = stage.attachment(network, 2, netns=stage.namespace().path)
    attached = stage.driver.network_attach(attachment=attachment)
    ip_json("link", "set", "card", "down") if "not there" in words else None
    damage()

    with pytest.raises(FailedPrecondition, match=words):
        stage.driver.network_check(attachment=attachment, attached=attached)


def test_check_looks_at_the_mode(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card"})
    attachment = stage.attachment(network, 2, netns=(inside := stage.namespace()).path)
    attached = stage.driver.network_attach(attachment=attachment)
    inside.ip("link", "set", "eth0", "type", "macvlan", "mode", "private")

    with pytest.raises(FailedPrecondition, match="eth0 is not in mode bridge"):
        stage.driver.network_check(attachment=attachment, attached=attached)


def test_the_last_detach_leaves_the_card_as_it_was(stage: NetworkStage) -> None:
    (before,) = ip_json("-d", "link", "show", "card")
    network = stage.create(options={"parent": "card"})
    inside = attach(stage, network, 2)

    stage.driver.network_detach(attachment=stage.attachment(network, 2, netns=inside.path), attached=None)

    eventually(lambda: ip_json("-d", "link", "show", "card")[0]["promiscuity"] == before["promiscuity"], "quiet again")


@pytest.mark.parametrize("asked", ["02:42:aa:bb:cc:dd", None], ids=["a MAC address of its own", "the one that follows"])
def test_the_outside_is_told_of_an_address(stage: NetworkStage, asked: str | None) -> None:
    """A router that knew the address with another MAC address knows better at once, not when its entry is old."""
    network = stage.create(options={"parent": "card"})
    there = outside(stage, "10.77.1.200/24")
    there.ip("neigh", "replace", "10.77.1.5", "lladdr", "02:00:00:00:00:01", "dev", "cable", "nud", "reachable")
    there.run(lambda: Path("/proc/sys/net/ipv4/neigh/cable/locktime").write_text("0"))

    attach(stage, network, 5, mac=asked)

    wanted = asked or "02:42:0a:4d:01:05"
    eventually(lambda: there.ip("neigh", "show", "10.77.1.5")[0].get("lladdr") == wanted, "it knows")


def test_neighbours_are_told_when_they_may_know_better(stage: NetworkStage) -> None:
    """After a container with a MAC address of its own: the address says again what it is."""
    network = stage.create(options={"parent": "card"})
    outside(stage, "10.77.1.200/24")  # without a carrier nobody is told of anything
    neighbour = attach(stage, network, 9)
    neighbour.run(lambda: Path("/proc/sys/net/ipv4/neigh/eth0/locktime").write_text("0"))

    def known() -> str | None:
        found = neighbour.ip("neigh", "show", "10.77.1.5")
        return found[0].get("lladdr") if found else None

    neighbour.ip("neigh", "replace", "10.77.1.5", "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "reachable")
    odd = stage.attachment(network, 5, mac="02:42:aa:bb:cc:dd")
    attached = stage.driver.network_attach(attachment=odd)
    eventually(lambda: known() == "02:42:aa:bb:cc:dd", "the neighbour knows the MAC address that was asked for")
    stage.driver.network_detach(attachment=odd, attached=attached)
    attach(stage, network, 5)
    eventually(lambda: known() == "02:42:0a:4d:01:05", "the neighbour knows the usual one")
