"""What options and subnets mean: pure, no kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Attachment, NetworkSpec, Subnet
from pyd_netlink.attachments import check_attachment, mac_of
from pyd_network_bridge import firewall
from pyd_network_bridge.plan import Plan, dead_group, host_ifname

FOUR = Subnet(ip_network("10.1.0.0/24"), ip_address("10.1.0.1"))
SIX = Subnet(ip_network("fd00:1::/64"), ip_address("fd00:1::1"))
SPEC = NetworkSpec(id="ab" * 32, name="app", subnets=(FOUR,))
HERE = Attachment("c" * 64, SPEC, "eth0", Path("/proc/1/ns/net"), addresses=(ip_interface("10.1.0.2/24"),))


def plan(instance: str = "c0ffee01", **changes: object) -> Plan:
    return Plan.of(replace(SPEC, **changes), instance)  # type: ignore[arg-type]


def test_names_of_bridges() -> None:
    assert plan().bridge == "br-abababababab"
    assert plan(name="bridge").bridge == "pyd-c0ffee"
    assert plan("00000000", name="bridge").bridge == "pyd0"
    assert plan(options={"com.docker.network.bridge.name": "mine0"}).bridge == "mine0"
    assert Plan.of(replace(SPEC, name="bridge"), "c0ffee01", "theirs0").bridge == "theirs0"


def test_names_of_interfaces_are_short_and_our_own() -> None:
    names = {host_ifname(instance, "c" * 64, ifname) for instance in ("0", "1") for ifname in ("eth0", "eth1")}

    assert len(names) == 4
    assert {len(name) for name in names} == {13}
    assert dead_group("c0ffee01") != dead_group("c0ffee02")
    assert 0 < dead_group("c0ffee01") < 2**31


def test_defaults() -> None:
    found = plan(subnets=(FOUR, SIX))

    assert (found.icc, found.mtu, found.internal, found.ipv6) == (True, 0, False, True)
    assert found.masquerade == found.guarded == {4, 6}
    assert [str(each) for each in found.gateways] == ["10.1.0.1/24", "fd00:1::1/64"]


def test_options() -> None:
    prefix = "com.docker.network.bridge."
    assert plan(options={prefix + "enable_icc": "false"}).icc is False
    assert plan(options={prefix + "enable_ip_masquerade": "0"}).masquerade == frozenset()
    assert plan(options={"com.docker.network.driver.mtu": "1400"}).mtu == 1400
    assert plan(options={prefix + "inhibit_ipv4": "true"}).gateways == ()
    routed = plan(options={prefix + "gateway_mode_ipv4": "routed"})
    assert (routed.masquerade, routed.guarded, routed.routed) == (frozenset(), frozenset({4}), frozenset({4}))
    alone = plan(options={prefix + "gateway_mode_ipv4": "isolated"}, internal=True)
    assert (alone.gateways, alone.masquerade) == ((), frozenset())
    assert plan(options={prefix + "trusted_host_interfaces": "eth0:vpn.1"}).trusted == ("eth0", "vpn.1")
    assert plan(options={"com.docker.network.host_ipv4": "192.0.2.7"}).sources == {4: ip_address("192.0.2.7")}
    assert plan(options={"x": "y", "com.docker.network.other": "z"}).icc is True
    open_ = plan(options={prefix + "gateway_mode_ipv4": "nat-unprotected"})
    assert (open_.masquerade, open_.guarded) == (frozenset({4}), frozenset())
    assert plan(internal=True).masquerade == frozenset()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("com.docker.network.bridge.name", "a/b"),
        ("com.docker.network.bridge.name", "x" * 16),
        ("com.docker.network.bridge.name", 'a" drop'),
        ("com.docker.network.bridge.enable_icc", "maybe"),
        ("com.docker.network.driver.mtu", "67"),
        ("com.docker.network.driver.mtu", "1e3"),
        ("com.docker.network.bridge.gateway_mode_ipv4", "magic"),
    ],
)
def test_an_option_that_cannot_work_is_named(option: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=option):
        plan(options={option: value})


def test_overlapping_subnets_are_named() -> None:
    inner = Subnet(ip_network("10.1.0.128/25"), None)

    with pytest.raises(InvalidArgument, match=r"10\.1\.0\.128/25"):
        plan(subnets=(FOUR, inner))


def test_mac_addresses() -> None:
    assert mac_of(HERE) == "02:42:0a:01:00:02"
    assert mac_of(replace(HERE, mac="02:AA:00:00:00:01")) == "02:aa:00:00:00:01"
    bare = replace(HERE, addresses=())
    assert mac_of(bare) == mac_of(bare)
    assert mac_of(bare) != mac_of(replace(bare, ifname="eth1"))


@pytest.mark.parametrize(
    "changes",
    [
        {"ifname": ""},
        {"ifname": "lo"},
        {"ifname": "../eth0"},
        {"ifname": "x" * 16},
        {"mac": "nonsense"},
        {"mac": "01:00:5e:00:00:01"},
        {"addresses": (ip_interface("10.2.0.2/24"),)},
        {"addresses": (ip_interface("10.1.0.1/24"),)},
    ],
    ids=str,
)
def test_attachments_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        check_attachment(replace(HERE, **changes))  # type: ignore[arg-type]


class Scripts:
    """Takes nft(8) scripts and runs none."""

    name = "none"

    def __init__(self) -> None:
        self.lines: list[str] = []

    def run(self, script: str) -> str:
        self.lines += script.splitlines()
        return ""

    def close(self) -> None:
        pass


def test_no_protocol_is_swapped_for_a_look_among_intervals() -> None:
    """nft(8) takes ``meta l4proto`` for a number in host order, and makes of it there what kernels of 2026 refuse."""
    scripts = Scripts()
    modes = {f"com.docker.network.bridge.gateway_mode_ipv{version}": "routed" for version in (4, 6)}

    firewall.apply(scripts, "pyd-c0ffee01", plan(subnets=(FOUR, SIX), options=modes))

    intervals = {line.split()[4] for line in scripts.lines if line.startswith("add ") and "flags interval" in line}
    assert intervals == {"ranges", "ranges-any", "open"}
    looks = [line for line in scripts.lines if any(f"@{name} " in line for name in intervals)]
    assert len(looks) == 6
    assert [line for line in looks if "meta l4proto" in line] == []
