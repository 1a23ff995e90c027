"""Who reaches whom, among containers on all kinds of networks, this host and another one, equals a model of ten lines.

TCP, UDP and ICMP, IPv4 and IPv6, by the containers' own addresses and by published ports, with real sockets; also while other
containers come and go.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from clients import IMAGE, Client, docker_program
from engine_under_test import Daemon
from reachability import PORT, Question, Servers, ask_all

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]

NETWORKS: dict[str, tuple[str, ...]] = {
    "open": ("--ipv6",),
    "other": ("--ipv6", "--subnet", "fd77:7::/64", "--subnet", "10.77.7.0/24"),
    "inner": ("--internal", "--ipv6"),
    "apart": ("--ipv6", "-o", "com.docker.network.bridge.enable_icc=false"),
    "plain": (),
}
CONTAINERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # networks, flags
    "a1": (("open",), ("-p", f"18001:{PORT}", "-p", f"18001:{PORT}/udp")),
    "a2": (("open",), ()),
    "ab": (("open", "other"), ()),
    "b1": (("other",), ("-p", f"127.0.0.1:18002:{PORT}")),
    "i1": (("inner",), ()),
    "i2": (("inner",), ()),
    "ai": (("open", "inner"), ()),
    "q1": (("apart",), ("-p", f"18003:{PORT}")),
    "q2": (("apart",), ()),
    "p1": (("plain",), ("-p", f"198.51.100.1:18005:{PORT}", "-p", f"8095-8099:8095-{PORT}/udp")),
    "d1": (("bridge",), ("-p", f"18004:{PORT}")),
    "hh": (("host",), ()),
    "nn": (("none",), ()),
}
UPLINK, OUTSIDE = ("198.51.100.1", "2001:db8:51::1"), ("198.51.100.2", "2001:db8:51::2")
LOOPBACK = ("127.0.0.1", "::1")
PUBLISHED = (  # container, host address (empty: all), port, kinds
    ("a1", "", 18001, ("tcp", "udp")),
    ("b1", "127.0.0.1", 18002, ("tcp",)),
    ("q1", "", 18003, ("tcp",)),
    ("d1", "", 18004, ("tcp",)),
    ("p1", "198.51.100.1", 18005, ("tcp",)),
    ("p1", "", PORT, ("udp",)),
)


@dataclass
class World:
    """*addresses*: of each container by network. *places*: network namespaces by name, ``host`` and ``outside`` among them."""

    daemon: Daemon
    docker: Client
    addresses: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    gateways: dict[str, tuple[str, ...]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)

    def networks(self, place: str) -> tuple[str, ...]:
        """What a container is on; nothing for the host and the outside."""
        return CONTAINERS[place][0] if place in CONTAINERS else ()

    def leads_out(self, place: str, version: int) -> bool:
        """A container has a way out in that family."""
        return any(
            network not in ("inner", "none", "host") and len(self.addresses[place][network]) > (version == 6)
            for network in self.networks(place)
        )

    # --- the model -------------------------------------------------------------------------------------------------

    def to_container(self, source: str, target: str, network: str) -> bool:
        """By a container's own address on *network*."""
        if source in ("host", "hh", target):
            return True  # the host holds every gateway
        if network in self.networks(source):
            return network != "apart"
        return False  # networks are apart, and the outside gets in through published ports only

    def to_published(self, source: str, container: str, host: str, version: int) -> bool:
        """By a port of the host."""
        if source in ("host", "hh"):
            return True
        if source == "outside":
            return True
        if not self.leads_out(source, version):
            return False
        return not ("apart" in self.networks(source) and "apart" in self.networks(container))

    def to_host(self, source: str, version: int) -> bool:
        """To a server on the host."""
        if source in ("host", "hh"):
            return True
        return source == "outside" or self.leads_out(source, version)

    # --- the questions ---------------------------------------------------------------------------------------------

    def questions(self) -> dict[str, dict[Question, bool]]:
        """By place: what is asked, and whether an answer is expected."""
        return {place: dict(self._of(place)) for place in self.places}

    def _of(self, source: str) -> Iterator[tuple[Question, bool]]:
        for target, networks in self.addresses.items():
            for network, addresses in networks.items():
                for address in addresses:
                    for kind in ("tcp", "udp", "icmp"):
                        yield Question(kind, address, PORT, target), self.to_container(source, target, network)
        for container, host, port, kinds in PUBLISHED:
            for address in (*UPLINK, *LOOPBACK):
                version = 6 if ":" in address else 4
                there = host in ("", address)  # by IPv6 also to containers without: the userland proxy leads there
                for kind in kinds:
                    own = address in LOOPBACK and source not in ("host", "hh")  # there it is its own
                    if (there or port != PORT) and not own:
                        reached = there and self.to_published(source, container, address, version)
                        yield Question(kind, address, port, container), reached
            yield from self._by_gateways(source, container, host, port, kinds)
        for address in OUTSIDE:
            reached = source in ("host", "hh", "outside") or self.leads_out(source, 6 if ":" in address else 4)
            for kind in ("tcp", "udp", "icmp"):
                yield Question(kind, address, PORT, "outside"), reached
        for address in (*UPLINK, *LOOPBACK):
            if address not in LOOPBACK or source in ("host", "hh"):
                reached = self.to_host(source, 6 if ":" in address else 4)
                yield Question("tcp", address, PORT, "host"), reached

    def _by_gateways(
        self, source: str, container: str, host: str, port: int, kinds: tuple[str, ...]
    ) -> Iterator[tuple[Question, bool]]:
        """A published port by the addresses that the host has on the networks of *source* itself."""
        for network in self.networks(source):
            for address in self.gateways.get(network, ()):
                version = 6 if ":" in address else 4
                closed = network == "inner" or (network == "apart" and "apart" in self.networks(container))
                for kind in kinds:
                    if not host or port != PORT:
                        reached = not host and not closed and self.to_published(source, container, address, version)
                        yield Question(kind, address, port, container), reached

    def check(self) -> None:
        """Ask everything everywhere."""
        model = self.questions()
        asked = {place: list(questions) for place, questions in model.items()}
        expected = {place: {each for each, yes in questions.items() if yes} for place, questions in model.items()}
        found = ask_all(self.places, asked, expected)
        faults = [
            f"{place} -> {each.who} {each.kind} {each.address}:{each.port}: {'not ' if each in expected[place] else ''}reached"
            for place in self.places
            for each in asked[place]
            if (each in found[place]) != (each in expected[place])
        ]
        assert not faults, f"{len(faults)} of {sum(map(len, asked.values()))}:\n" + "\n".join(faults)


def shown(docker: Client, container: str) -> Any:
    return json.loads(docker("inspect", container).stdout)[0]


@pytest.fixture(scope="module")
def world(new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: str) -> Iterator[World]:
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", str(image_archive))
    world = World(daemon, docker)
    with ExitStack() as cleanup:
        host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        cleanup.callback(os.close, host)
        outside = cleanup.enter_context(another_host())
        for name, flags in NETWORKS.items():
            docker("network", "create", *flags, name)
            cleanup.callback(docker, "network", "rm", name)
        for name in (*NETWORKS, "bridge"):
            said = json.loads(docker("network", "inspect", name).stdout)[0]["IPAM"]["Config"]
            world.gateways[name] = tuple(each["Gateway"] for each in said)
        for name, (networks, flags) in CONTAINERS.items():
            docker("run", "-d", "--name", name, "--network", networks[0], *flags, IMAGE, "sleep", "1000")
            cleanup.callback(docker, "rm", "-f", name)
            for network in networks[1:]:
                docker("network", "connect", network, name)
        servers = Servers()
        cleanup.callback(servers.close)
        for name in CONTAINERS:
            facts = shown(docker, name)
            fd = os.open(f"/proc/{facts['State']['Pid']}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            cleanup.callback(os.close, fd)
            world.places[name] = fd
            if name not in ("hh", "nn"):
                world.addresses[name] = {
                    network: tuple(filter(None, (each["IPAddress"], each["GlobalIPv6Address"])))
                    for network, each in facts["NetworkSettings"]["Networks"].items()
                }
                servers.add(name, fd)
        world.places |= {"host": host, "outside": outside}
        servers.add("host", host, datagrams=False)  # the port is p1's
        servers.add("outside", outside)
        yield world


@contextmanager
def another_host() -> Iterator[int]:
    """A network namespace beyond a cable, whose routes to containers lead to this host."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "10000"], stdin=subprocess.DEVNULL)
    try:
        here = os.readlink("/proc/thread-self/ns/net")
        while os.readlink(f"/proc/{holder.pid}/ns/net") == here:
            pass
        run = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "ip"]
        lines = (
            ["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "wan", "netns", str(holder.pid)],
            ["ip", "addr", "add", f"{UPLINK[0]}/24", "dev", "uplink"],
            ["ip", "addr", "add", f"{UPLINK[1]}/64", "dev", "uplink", "nodad"],
            ["ip", "link", "set", "uplink", "up"],
            [*run, "link", "set", "lo", "up"],
            [*run, "addr", "add", f"{OUTSIDE[0]}/24", "dev", "wan"],
            [*run, "addr", "add", f"{OUTSIDE[1]}/64", "dev", "wan", "nodad"],
            [*run, "link", "set", "wan", "up"],
            *(
                [*run, "route", "add", each, "via", UPLINK[0]]
                for each in ("172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16")
            ),
            [*run, "-6", "route", "add", "fc00::/7", "via", UPLINK[1]],
        )
        for line in lines:
            subprocess.run(line, check=True)
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        holder.kill()
        holder.wait()
        subprocess.run(["ip", "link", "del", "uplink"], check=False, capture_output=True)  # it may be gone already


def test_who_reaches_whom(world: World) -> None:
    world.check()


def test_the_same_while_others_come_and_go(world: World) -> None:
    """200 containers, with and without ports, on all the networks."""
    failures: list[BaseException] = []
    rounds = 200

    def come_and_go(worker: int) -> None:
        api = world.daemon.api()
        try:
            for number in range(worker, rounds, 2):
                network = list(NETWORKS)[number % len(NETWORKS)]
                ports = {"7/tcp": [{"HostPort": str(19000 + number)}]} if number % 3 == 0 and network != "inner" else {}
                body = {
                    "Image": IMAGE,
                    "Cmd": ["sleep", "1000"],
                    "HostConfig": {"NetworkMode": network, "PortBindings": ports},
                }
                container = api.json("POST", "/containers/create", body)["Id"]
                api.call("POST", f"/containers/{container}/start")
                api.call("DELETE", f"/containers/{container}?force=1")
        except BaseException as error:
            failures.append(error)
        finally:
            api.close()

    workers = [threading.Thread(target=come_and_go, args=(each,)) for each in range(2)]
    for each in workers:
        each.start()
    try:
        while any(each.is_alive() for each in workers):
            world.check()
    finally:
        for each in workers:
            each.join()
    assert not failures
    world.check()


def test_the_same_after_the_daemons_death(world: World) -> None:
    world.daemon.kill()
    world.check()
    world.daemon.start()
    world.check()
