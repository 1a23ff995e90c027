"""macvlan networks through the docker client: containers as machines of a network outside, VLANs, a daemon that restarts.

A veth pair is the host's network card and its cable; the other end is in a namespace that plays the network outside.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import host_state
from clients import IMAGE, Client, docker_program, until
from engine_under_test import Daemon
from pyd_conformance.network_stage import Namespace, ip_json

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture(scope="module")
def mortal(new_pydd: Callable[..., Daemon], image_archive: Path, client_environment: dict[str, str]) -> Daemon:
    """A daemon of this module's own: it is killed and started again."""
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("run", "--rm", "--network", "none", IMAGE, "true")
    info = json.loads(docker("info", "-f", "{{json .Plugins.Network}}").stdout)
    if "macvlan" not in info:
        pytest.skip(f"the daemon has no driver macvlan here: {info}")
    return daemon


@pytest.fixture
def docker(mortal: Daemon, client_environment: dict[str, str]) -> Client:
    """Its client."""
    return Client((docker_program(), "-H", mortal.url), client_environment)


@pytest.fixture
def nothing_left(mortal: Daemon) -> Iterator[None]:
    """All that is on the host afterwards was there before, the daemon's own process aside."""

    def found() -> list[str]:
        lines = host_state.difference(before, host_state.take(mortal.run))
        return [line for line in lines if line.split()[1] != "proc"]

    before = host_state.take(mortal.run)
    yield
    with suppress(AssertionError):
        until(lambda: not found(), "the host is as it was")
    assert found() == []


@pytest.fixture
def outside(mortal: Daemon, nothing_left: None) -> Iterator[Namespace]:
    """The network at the other end of the cable of ``card``."""
    with ExitStack() as cleanup:
        there = Namespace()
        cleanup.callback(there.close)
        ip_json("link", "add", "card", "type", "veth", "peer", "name", "cable")
        cleanup.callback(ip_json, "link", "del", "card")
        ip_json("link", "set", "card", "up")
        ip_json("link", "set", "cable", "netns", str(there.path))
        there.ip("link", "set", "cable", "up")
        there.ip("link", "set", "lo", "up")
        there.run(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("0"))  # no router between VLANs
        yield there


@pytest.fixture
def vlans() -> None:
    """Skip where the kernel has no VLANs."""
    made = subprocess.run(
        ["ip", "link", "add", "link", "lo", "name", "v0", "type", "vlan", "id", "5"], capture_output=True
    )
    if made.returncode == 0:
        ip_json("link", "del", "v0")
    elif b"Unknown device type" in made.stderr:
        pytest.skip("no VLANs in this kernel (CONFIG_VLAN_8021Q)")


def serve(docker: Client, box: str, port: int = 8000) -> None:
    """Let a container answer on *port* with its name."""
    script = f"while true; do echo {box} | nc -l -p {port}; done"
    docker("exec", "-d", box, "sh", "-c", script)


def asks(docker: Client, box: str, address: str, port: int = 8000) -> str:
    """What a container hears from *address*."""
    return docker("exec", box, "sh", "-c", f"nc -w 2 {address} {port} </dev/null", check=False).stdout.strip()


def asks_outside(there: Namespace, address: str, port: int = 8000) -> str:
    """What the network outside hears from *address*."""

    def ask() -> str:
        try:
            with socket.create_connection((address, port), timeout=2) as connection:
                return connection.recv(100).decode().strip()
        except OSError:
            return ""

    return there.run(ask)


def hears(docker: Client, box: str, address: str, expected: str) -> None:
    until(lambda: asks(docker, box, address) == expected, f"{box} hears {expected} from {address}")


def hears_outside(there: Namespace, address: str, expected: str) -> None:
    until(lambda: asks_outside(there, address) == expected, f"outside hears {expected} from {address}")


def links() -> set[str]:
    return {link["ifname"] for link in ip_json("link")}


def test_containers_are_machines_of_the_network_outside(docker: Client, outside: Namespace, name: str) -> None:
    outside.ip("addr", "add", "10.91.0.1/24", "dev", "cable")
    docker("network", "create", "-d", "macvlan", "--subnet", "10.91.0.0/24", "-o", "parent=card", name)
    one, two = f"{name}-one", f"{name}-two"
    try:
        docker("run", "-d", "--name", one, "--network", name, IMAGE, "sleep", "1000")
        docker("run", "-d", "--name", two, "--network", name, "--ip", "10.91.0.77", IMAGE, "sleep", "1000")
        for box in (one, two):
            serve(docker, box)
        hears(docker, one, "10.91.0.77", two)
        hears(docker, one, two, two)
        hears(docker, two, "10.91.0.2", one)
        hears_outside(outside, "10.91.0.2", one)
        hears_outside(outside, "10.91.0.77", two)
        (network,) = json.loads(docker("network", "inspect", name).stdout)
        assert network["Driver"] == "macvlan"
        assert network["Options"] == {"parent": "card"}
        assert {each["IPv4Address"] for each in network["Containers"].values()} == {"10.91.0.2/24", "10.91.0.77/24"}
    finally:
        docker("rm", "-f", one, two)
        docker("network", "rm", name)
    assert "card" in links()


def test_vlans_are_apart_and_survive_the_daemon(
    docker: Client, mortal: Daemon, outside: Namespace, vlans: None, name: str
) -> None:
    for tag in (50, 51):
        outside.ip("link", "add", "link", "cable", "name", f"cable.{tag}", "type", "vlan", "id", str(tag))
        outside.ip("link", "set", f"cable.{tag}", "up")
        outside.ip("addr", "add", f"10.{tag}.0.1/24", "dev", f"cable.{tag}")
        options = ("--subnet", f"10.{tag}.0.0/24", "-o", f"parent=card.{tag}")
        docker("network", "create", "-d", "macvlan", *options, f"{name}-{tag}")
    boxes = [f"{name}-{tag}-{each}" for tag in (50, 51) for each in ("a", "b")]
    try:
        for box in boxes:
            docker("run", "-d", "--name", box, "--network", box[:-2], IMAGE, "sleep", "1000")
            serve(docker, box)
        a, b, c, d = boxes
        hears(docker, a, b, b)
        hears(docker, c, d, d)
        hears_outside(outside, "10.50.0.2", a)
        hears_outside(outside, "10.51.0.3", d)
        assert asks(docker, a, "10.51.0.2") == ""

        mortal.kill()
        mortal.start()

        hears(docker, a, "10.50.0.3", b)
        hears_outside(outside, "10.50.0.2", a)
        docker("network", "connect", f"{name}-51", a)
        hears(docker, a, "10.51.0.2", c)
        assert {"card.50", "card.51"} <= links()
    finally:
        docker("rm", "-f", *boxes)
        docker("network", "rm", f"{name}-50", f"{name}-51")
    assert not {"card.50", "card.51"} & links()


def test_the_daemon_restarts_beside_running_containers(
    docker: Client, mortal: Daemon, outside: Namespace, name: str
) -> None:
    outside.ip("addr", "add", "10.92.0.1/24", "dev", "cable")
    docker("network", "create", "-d", "macvlan", "--subnet", "10.92.0.0/24", "-o", "parent=card", name)
    try:
        docker("run", "-d", "--name", name, "--network", name, IMAGE, "sleep", "1000")
        serve(docker, name)
        hears_outside(outside, "10.92.0.2", name)

        mortal.kill()
        mortal.start()

        hears_outside(outside, "10.92.0.2", name)
        docker("network", "disconnect", name, name)
        assert docker("exec", name, "ls", "/sys/class/net").stdout.split() == ["lo"]
        docker("network", "connect", "--ip", "10.92.0.9", name, name)
        hears_outside(outside, "10.92.0.9", name)
        docker("stop", "-t", "0", name)
        docker("start", name)
        serve(docker, name)
        hears_outside(outside, "10.92.0.9", name)
    finally:
        docker("rm", "-f", name)
        docker("network", "rm", name)


def test_without_a_parent_containers_have_one_another(docker: Client, name: str) -> None:
    docker("network", "create", "-d", "macvlan", "--internal", name)
    boxes = [f"{name}-a", f"{name}-b"]
    try:
        for box in boxes:
            docker("run", "-d", "--name", box, "--network", name, IMAGE, "sleep", "1000")
            serve(docker, box)
        hears(docker, boxes[0], boxes[1], boxes[1])
        assert "default" not in docker("exec", boxes[0], "ip", "route").stdout
    finally:
        docker("rm", "-f", *boxes)
        docker("network", "rm", name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "parent=nocard"), "invalid subinterface vlan name nocard, example formatting is eth0.10"),
        (("-o", "parent=lo"), "loopback interface is not a valid macvlan parent link"),
        (("-o", "parent=card", "-o", "macvlan_mode=nope"), "requested macvlan mode 'nope' is not valid"),
    ],
)
def test_what_cannot_be_leaves_nothing(
    docker: Client, outside: Namespace, name: str, options: tuple[str, ...], words: str
) -> None:
    done = docker("network", "create", "-d", "macvlan", "--subnet", "10.93.0.0/24", *options, name, check=False)

    assert done.returncode == 1
    assert words in done.stderr
    docker("network", "create", "--internal", "--subnet", "10.93.0.0/24", name)
    docker("network", "rm", name)
