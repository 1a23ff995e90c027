"""What the options of a network with a parent mean: pure, no kernel."""

from __future__ import annotations

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import NetworkSpec
from pyd_netlink.stacked.flavour import Flavour, choose
from pyd_netlink.stacked.plan import Parent, Plan

BRIDGE = Flavour("macvlan", "bridge", b"\4")
ALONE = Flavour("macvlan", "passthru", b"\10", alone=True)
L2 = Flavour("ipvlan", "l2", b"\0", own_mac=False, common=b"\0")
L3 = Flavour("ipvlan", "l3", b"\1", own_mac=False, common=b"\1")


def plan(**options: str) -> Plan:
    return Plan.of(NetworkSpec("ab" * 32, "net", options=options), "c0ffee01", BRIDGE)


@pytest.mark.parametrize(
    ("parent", "made", "trunk", "tag"),
    [
        ("eth0", Parent.HOST, "", 0),
        ("eth0.50", Parent.VLAN, "eth0", 50),
        ("eth0.4094", Parent.VLAN, "eth0", 4094),
        ("eth0.4095", Parent.HOST, "", 0),
        ("eth0.0", Parent.HOST, "", 0),
        ("eth0.x", Parent.HOST, "", 0),
        ("a.b.7", Parent.HOST, "", 0),
    ],
)
def test_parents(parent: str, made: Parent, trunk: str, tag: int) -> None:
    read = plan(parent=parent)

    assert (read.parent, read.made, read.trunk, read.vlan) == (parent, made, trunk, tag)


def test_without_a_parent_it_has_its_own() -> None:
    read = plan()

    assert (read.parent, read.made) == ("dm-abababababab", Parent.OWN)
    assert read.mark == f"pyd c0ffee01 {'ab' * 32}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parent": "lo"}, "loopback interface is not a valid macvlan parent link"),
        ({"parent": "a name with spaces"}, "1 to 15 letters"),
        ({"com.docker.network.driver.mtu": "12"}, "between 68 and 65535"),
    ],
)
def test_what_cannot_be_is_named(options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        plan(**options)


def test_groups_differ_from_network_to_network_and_are_positive() -> None:
    other = Plan.of(NetworkSpec("cd" * 32, "net"), "c0ffee01", BRIDGE)

    assert plan().group != other.group
    assert 0x40000000 <= other.group <= 0x7FFFFFFF


@pytest.mark.parametrize(
    ("one", "two", "together"),
    [
        (BRIDGE, BRIDGE, True),
        (BRIDGE, ALONE, False),
        (ALONE, BRIDGE, False),
        (L2, L2, True),
        (L2, L3, False),
        (BRIDGE, L2, False),
    ],
)
def test_what_can_be_together_on_a_parent(one: Flavour, two: Flavour, together: bool) -> None:
    assert one.bears(two) is together


def test_a_choice_names_what_is_possible() -> None:
    assert choose({}, "mode", {"a": 1, "b": 2}, "a", "no {}") == "a"
    with pytest.raises(InvalidArgument, match="no c .option mode: a, b are possible"):
        choose({"mode": "c"}, "mode", {"a": 1, "b": 2}, "a", "no {}")
