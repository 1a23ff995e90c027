"""What is special to the ipvlan driver, seen in a kernel that has it: modes, flags, and what all on one parent share.

A veth pair is the host's network card and its cable: the other end is in a namespace that plays a neighbour outside.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance.network import Namespace, NetworkStage
from pyd_conformance.network_stage import fresh_host, ip_json, reaches
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import Conflict, Declined, InvalidArgument, PydError
from pyd_contracts.values import Subnet
from pyd_network_ipvlan.kernel import has_ipvlan
from pyd_network_ipvlan.plugin import create

pytestmark = pytest.mark.root


@pytest.fixture
def context(tmp_path: Path) -> DriverContext:
    return DriverContext("ipvlan", tmp_path, tmp_path, {}, logging.getLogger("pyd.test"), instance="c0ffee03")


@pytest.fixture
def stage(context: DriverContext, tmp_path: Path) -> Iterator[NetworkStage]:
    """The driver on a host with one card, ``card``, and nothing on its cable yet."""
    with fresh_host():
        ip_json("link", "add", "card", "type", "veth", "peer", "name", "cable")
        for name in ("card", "cable"):
            ip_json("link", "set", name, "up")
        try:
            driver = create(context)
        except Declined as why:
            pytest.skip(str(why))
        stage = NetworkStage(driver, addressed=True, kernel=True, own=True, scratch=tmp_path)
        try:
            yield stage
        finally:
            stage.close()


def outside(stage: NetworkStage, address: str) -> Namespace:
    there = stage.namespace()
    ip_json("link", "set", "cable", "netns", str(there.path))
    there.ip("link", "set", "cable", "up")
    there.ip("addr", "add", address, "dev", "cable")
    return there


def attach(stage: NetworkStage, network: Any, host: int, **changes: Any) -> Namespace:
    inside = stage.namespace()
    stage.driver.network_attach(attachment=stage.attachment(network, host, netns=inside.path, **changes))
    return inside


def test_a_kernel_without_it_is_declined(context: DriverContext) -> None:
    if has_ipvlan():
        create(context).network_close()
    else:
        with pytest.raises(Declined, match="no ipvlan in this kernel"):
            create(context)


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_containers_reach_one_another_in_every_mode(stage: NetworkStage, mode: str) -> None:
    network = stage.create(options={"parent": "card", "ipvlan_mode": mode})

    one, two = attach(stage, network, 2), attach(stage, network, 3)

    assert reaches(one.run, two.run, "10.77.1.3")
    (link,) = one.ip("-d", "link", "show", "eth0")
    assert link["linkinfo"]["info_data"]["mode"] == mode


def test_neighbours_outside_in_l2(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card"})
    neighbour = outside(stage, "10.77.1.200/24")

    one = attach(stage, network, 2)

    assert reaches(neighbour.run, one.run, "10.77.1.2")
    assert reaches(one.run, neighbour.run, "10.77.1.200")


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_neighbours_outside_in_l3(stage: NetworkStage, mode: str) -> None:
    """The subnet is behind this host, and the neighbour has a route that says so; default routes name no gateway."""
    both = (*stage.spec().subnets, Subnet(ip_network("fd77:1::/64"), ip_address("fd77:1::1")))
    network = stage.create(options={"parent": "card", "ipvlan_mode": mode}, subnets=both)
    ip_json("addr", "add", "10.9.0.1/24", "dev", "card")
    neighbour = outside(stage, "10.9.0.2/24")
    neighbour.ip("route", "add", "10.77.1.0/24", "via", "10.9.0.1")

    one = attach(stage, network, 2)

    for family in ("-4", "-6"):
        (route,) = one.ip(family, "route", "show", "default")
        assert "gateway" not in route
        assert route["dev"] == "eth0"
    assert reaches(neighbour.run, one.run, "10.77.1.2")


def test_the_mac_address_is_the_card_s(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card"})
    (card,) = ip_json("link", "show", "card")

    attached = stage.driver.network_attach(attachment=stage.attachment(network, 2))

    assert attached.mac == card["address"]
    with pytest.raises(InvalidArgument, match="do not support custom mac address assignment"):
        attach(stage, network, 3, mac="02:42:00:00:00:77")


@pytest.mark.parametrize("flag", ["private", "vepa"])
def test_flags_keep_containers_apart(stage: NetworkStage, flag: str) -> None:
    network = stage.create(options={"parent": "card", "ipvlan_flag": flag})

    one, two = attach(stage, network, 2), attach(stage, network, 3)

    assert not reaches(one.run, two.run, "10.77.1.3", timeout=0.5)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"parent": "card", "ipvlan_mode": "l4"}, InvalidArgument, "requested ipvlan mode 'l4' is not valid"),
        ({"parent": "card", "ipvlan_flag": "x"}, InvalidArgument, "requested ipvlan flag 'x' is not valid"),
        ({"parent": "nocard"}, InvalidArgument, "invalid subinterface vlan name nocard"),
        ({"parent": "card", "ipvlan_mode": "l3"}, Conflict, "network test1 is already using parent interface card"),
        ({"parent": "taken"}, Conflict, "the macvlan interface theirs of this host"),
    ],
)
def test_what_cannot_be(stage: NetworkStage, options: dict[str, str], error: type[PydError], words: str) -> None:
    stage.create(1, options={"parent": "card"})
    ip_json("link", "add", "taken", "type", "veth", "peer", "name", "taken1")
    ip_json("link", "add", "theirs", "link", "taken", "type", "macvlan")

    with pytest.raises(error, match=words):
        stage.create(2, options=options)


def test_two_networks_of_one_mode_share_a_card(stage: NetworkStage) -> None:
    first = stage.create(1, options={"parent": "card", "ipvlan_mode": "l3"})
    second = stage.create(2, options={"parent": "card", "ipvlan_mode": "l3"})

    one, two = attach(stage, first, 2), attach(stage, second, 3)

    assert reaches(one.run, two.run, "10.77.2.3")


def test_a_vlan_interface_comes_and_goes_with_its_network(stage: NetworkStage) -> None:
    network = stage.create(options={"parent": "card.50"})
    attach(stage, network, 2)
    assert "card.50" in {link["ifname"] for link in ip_json("link")}

    stage.driver.network_delete(network=network)

    assert "card.50" not in {link["ifname"] for link in ip_json("link")}
