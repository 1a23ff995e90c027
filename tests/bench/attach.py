#!/usr/bin/env python3
"""What an attach and a detach of a network driver cost, by themselves, and whether a crowd on the network makes them dearer.

  attach.py [-n 200] [--driver bridge,macvlan,ipvlan] [--rounds 3]

Milliseconds of wall-clock time in an empty network namespace: the kernel's share is in it. The namespaces of containers
are made beforehand, as the engine's spare ones are. ``the kernel alone`` makes and configures the same interfaces with the
same three messages and nothing else: what grows there with the crowd is not the driver's.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from pyd_conformance.network_stage import Namespace, fresh_host, ip_json
from pyd_contracts.context import DriverContext
from pyd_contracts.network import NetworkDriver
from pyd_contracts.values import Address, Attachment, NetworkSpec, PublishedPort, Subnet
from pyd_netlink.namespaces import Visit, open_netns
from pyd_netlink.rtnetlink import Message, Netlink, add_address, add_veth, set_link
from pyd_netlink.stacked.links import add_stacked
from pyd_netlink.wire import number, short
from pyd_network_bridge.plugin import create as create_bridge
from pyd_network_ipvlan.plugin import create as create_ipvlan
from pyd_network_macvlan.plugin import create as create_macvlan

PARENT = "parent0"
CREATE: dict[str, Callable[[DriverContext], NetworkDriver]] = {
    "bridge": create_bridge,
    "macvlan": create_macvlan,
    "ipvlan": create_ipvlan,
}
_MACVLAN_BRIDGE, _IPVLAN_L2 = number(1, 4), short(1, 0)  # IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE (linux/if_link.h)


def ms(since: float) -> float:
    """Milliseconds until now."""
    return (time.perf_counter() - since) * 1000


def address_of(place: int) -> Address:
    """The address of a container."""
    return ip_interface(f"10.9.{1 + place // 200}.{1 + place % 200}/16")


def network_of(kind: str) -> NetworkSpec:
    """The network that all are on."""
    subnets = (Subnet(ip_network("10.9.0.0/16"), ip_address("10.9.0.1")),)
    return NetworkSpec("ab" * 32, "crowd", subnets, options={} if kind == "bridge" else {"parent": PARENT})


def measure(driver: NetworkDriver, kind: str, count: int) -> dict[str, list[float]]:
    """Attach *count* containers, then detach them, each once; figures by name."""
    network = network_of(kind)
    driver.network_create(network=network)
    spaces = [Namespace() for _ in range(count)]
    found: dict[str, list[float]] = {"attach": []}
    attachments = []
    for place, space in enumerate(spaces):
        container = f"{place:064x}"[::-1]
        attachments.append(Attachment(container, network, "eth0", space.path, addresses=(address_of(place),)))
        begun = time.perf_counter()
        driver.network_attach(attachment=attachments[-1])
        found["attach"].append(ms(begun))
    if kind == "bridge":
        found["attach with a port"] = with_a_port(driver, attachments[0])
    found["detach"] = []
    for attachment, space in zip(attachments, spaces, strict=True):
        # As at the end of a container: its namespace goes first.
        gone = replace(attachment, netns=Path("/proc/0/ns/net"))
        space.close()
        begun = time.perf_counter()
        driver.network_detach(attachment=gone, attached=None)
        found["detach"].append(ms(begun))
    driver.network_delete(network=network)
    return found


def with_a_port(driver: NetworkDriver, model: Attachment) -> list[float]:
    """Attach ten more, one after the other, each with a published port."""
    ports = (PublishedPort("tcp", ip_address("0.0.0.0"), 8080, 80),)
    found = []
    for place in range(10):
        space = Namespace()
        each = replace(
            model, container=f"{place:x}" + "f" * 63, netns=space.path, ports=ports,
            addresses=(ip_interface("10.9.200.1/16"),),
        )  # fmt: skip
        begun = time.perf_counter()
        driver.network_attach(attachment=each)
        found.append(ms(begun))
        space.close()
        driver.network_detach(attachment=each, attached=None)
    return found


def kernel_alone(kind: str, count: int) -> list[float]:
    """The same interfaces without a driver."""
    netlink = Netlink()
    if kind == "bridge":
        ip_json("link", "add", PARENT, "type", "bridge")
        ip_json("link", "set", PARENT, "up")
    above = ip_json("link", "show", "dev", PARENT)[0]["ifindex"]
    spaces = [Namespace() for _ in range(count)]
    found = []
    for place, space in enumerate(spaces):
        fd = open_netns(space.path)
        begun = time.perf_counter()
        netlink.run(*_made(kind, place, above, fd))
        Visit(fd, lambda place=place: _configure(address_of(place))).result()  # type: ignore[misc]
        found.append(ms(begun))
        os.close(fd)
    for space in spaces:
        space.close()
    netlink.close()
    return found


def _made(kind: str, place: int, above: int, fd: int) -> list[Message]:
    mac = b"\x02\x42" + place.to_bytes(4, "big")
    match kind:
        case "bridge":
            name = f"raw{place}"
            return [add_veth(name, above, "eth0", fd, mac, 0), set_link(name, up=True)]
        case "macvlan":
            return [add_stacked("eth0", "macvlan", _MACVLAN_BRIDGE, above, fd, mac=mac)]
        case _:
            return [add_stacked("eth0", "ipvlan", _IPVLAN_L2, above, fd)]


def _configure(address: Address) -> None:
    netlink = Netlink()
    link = netlink.link("eth0")
    assert link is not None
    netlink.run(add_address(link.index, address), set_link(link.index, up=True))
    netlink.close()


def on_a_fresh_host(kind: str, work: Callable[[], dict[str, list[float]]]) -> dict[str, list[float]]:
    """*work* where there is nothing but a parent interface, for the drivers that stack on one."""
    with fresh_host():
        if kind != "bridge":
            ip_json("link", "add", PARENT, "type", "veth", "peer", "name", "cable")
            ip_json("link", "set", PARENT, "up")
            ip_json("link", "set", "cable", "up")
        return work()


def round_of(kind: str, count: int) -> dict[str, list[float]]:
    """One round: the driver, and the kernel alone."""

    def driven() -> dict[str, list[float]]:
        with tempfile.TemporaryDirectory() as folder:
            root, log = Path(folder), logging.getLogger("bench")
            settings = {"bridge-name": "", "firewall": True} if kind == "bridge" else {}
            driver = CREATE[kind](DriverContext(kind, root, root, settings, log, "c0ffee00"))
            found = measure(driver, kind, count)
            driver.network_close()
            return found

    found = on_a_fresh_host(kind, driven)
    return found | on_a_fresh_host(kind, lambda: {"the kernel alone": kernel_alone(kind, count)})


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200, help="containers on the network")
    parser.add_argument("--driver", default="bridge", help=f"comma list of {', '.join(CREATE)}")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if unknown := set(given.driver.split(",")) - CREATE.keys():
        parser.error(f"unknown driver: {', '.join(sorted(unknown))}")
    tenth = max(1, given.n // 10)
    for kind in given.driver.split(","):
        rounds = [round_of(kind, given.n) for _ in range(given.rounds)]
        sys.stdout.write(f"{kind}: {given.rounds} rounds of {given.n}, milliseconds in the median\n")
        for name in rounds[0]:
            every = [value for each in rounds for value in each[name]]
            line = f"  {name:20} {statistics.median(every):6.2f}"
            if len(rounds[0][name]) == given.n:
                first, last = (
                    statistics.median(value for each in rounds for value in each[name][part])
                    for part in (slice(tenth), slice(-tenth, None))
                )
                line += f"   first tenth {first:6.2f}, last {last:6.2f}: {last / first:.2f} times as long"
            sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
