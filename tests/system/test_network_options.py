"""Options of networks and of places on them, through both command lines."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clients import Client

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot", "warm")]

Networks = Callable[..., str]
BRIDGE = "com.docker.network.bridge."


@pytest.fixture
def networks(docker: Client, name: str, snapshot: object) -> Iterator[Networks]:
    """Makes networks that the test need not remove: ``networks("--ipv6")`` gives the name."""
    made: list[str] = []

    def make(*flags: str, client: Client = docker) -> str:
        made.append(f"{name}-{len(made)}")
        client("network", "create", *flags, made[-1])
        return made[-1]

    yield make
    for each in made:
        docker("network", "rm", each)


def inspected(docker: Client, kind: str, ref: str) -> Any:
    return json.loads(docker(kind, "inspect", ref).stdout)[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_names_of_interfaces(cli: Client, networks: Networks) -> None:
    prefixed = networks("-o", "com.docker.network.container_iface_prefix=lan", client=cli)
    plain = networks(client=cli)
    said = cli(
        "run", "--rm", "--network", prefixed,
        "--network", f"name={plain},driver-opt=com.docker.network.endpoint.ifname=wan7", "busybox", "ls", "/sys/class/net",
    ).stdout  # fmt: skip
    assert set(said.split()) == {"lo", "lan0", "wan7"}
    refused = cli(
        "run", "--rm", "--network", f"name={plain},driver-opt=com.docker.network.endpoint.ifname=lo", "busybox", "true",
        check=False,
    )  # fmt: skip
    assert "com.docker.network.endpoint.ifname" in refused.stderr


def test_the_network_with_the_highest_priority_leads_out(cli: Client, docker: Client, networks: Networks) -> None:
    first, second, third = (networks(client=cli) for _ in range(3))
    gateways = {
        each: inspected(docker, "network", each)["IPAM"]["Config"][0]["Gateway"] for each in (first, second, third)
    }
    container = cli(
        "run", "-d", "--network", first, "--network", f"name={second},gw-priority=1", "busybox", "sleep", "1000"
    )
    container_id = container.stdout.strip()

    def gateway() -> str:
        routes = docker("exec", container_id, "ip", "route").stdout.splitlines()
        leading = next(line for line in routes if line.startswith("default") and "metric" not in line)
        return leading.split()[2]

    try:
        assert gateway() == gateways[second]
        assert inspected(docker, "container", container_id)["NetworkSettings"]["Networks"][second]["GwPriority"] == 1
        cli("network", "connect", "--gw-priority", "2", third, container_id)
        assert gateway() == gateways[third]
        cli("network", "disconnect", third, container_id)
        left = docker("exec", container_id, "ip", "route").stdout
        assert left.startswith(f"default via {gateways[second]}")
        docker("restart", "-t", "0", container_id)
        assert gateway() == gateways[second]
    finally:
        docker("rm", "-f", container_id)


def test_of_networks_alike_the_name_decides(docker: Client, networks: Networks) -> None:
    first, second = networks(), networks()
    gateway = inspected(docker, "network", first)["IPAM"]["Config"][0]["Gateway"]
    said = docker("run", "--rm", "--network", second, "--network", first, "busybox", "ip", "route").stdout
    assert said.startswith(f"default via {gateway} dev eth")


def test_where_ports_are_published_when_nothing_is_said(docker: Client, networks: Networks) -> None:
    network, port = networks("-o", BRIDGE + "host_binding_ipv4=127.0.0.1"), free_port()
    container = docker("run", "-d", "--network", network, "-p", f"{port}:80", "busybox", "sleep", "1000").stdout.strip()
    assert docker("port", container).stdout == f"80/tcp -> 127.0.0.1:{port}\n"
    docker("rm", "-f", container)


def test_ipv6_without_a_subnet_is_unique_and_local(docker: Client, networks: Networks) -> None:
    network = networks("--ipv6")
    subnet = next(each for each in inspected(docker, "network", network)["IPAM"]["Config"] if ":" in each["Subnet"])
    assert re.match(r"fd[0-9a-f]{2}:", subnet["Subnet"])
    server = docker("run", "-d", "--network", network, "busybox", "sleep", "1000").stdout.strip()
    address = inspected(docker, "container", server)["NetworkSettings"]["Networks"][network]["GlobalIPv6Address"]
    said = docker("run", "--rm", "--network", network, "busybox", "ping", "-6", "-c", "1", "-W", "5", server[:12])
    assert address in said.stdout
    looked = docker("run", "--rm", "--network", network, "busybox", "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra")
    assert looked.stdout == "0\n"
    docker("rm", "-f", server)


def test_options_that_nobody_knows(cli: Client, name: str) -> None:
    refused = cli("network", "create", "-o", BRIDGE + "enable_ic=false", name, check=False)
    assert refused.returncode == 1
    assert f"did you mean {BRIDGE}enable_icc" in refused.stderr
    assert name not in cli("network", "ls").stdout


def test_rules_are_explained(pyd: Client, docker: Client, networks: Networks, name: str) -> None:
    port = free_port()
    network = networks()
    docker("run", "-d", "--name", name, "--network", network, "-p", f"{port}:80", "busybox", "sleep", "1000")
    try:
        said = pyd("network", "rules", name).stdout
        assert said.startswith(f"{name} on network {network} (bridge)\n")
        assert f"yes  anybody -> tcp port {port} of every address of this host: published" in said
        assert "no   other hosts -> unpublished ports of" in said
        assert f"ports-any: tcp . {port} : " in said
        assert pyd("network", "rules", f"{port}/tcp").stdout == pyd("network", "rules", str(port)).stdout == said
        assert said in pyd("network", "rules").stdout
        shown = json.loads(pyd("network", "rules", "--format", "json", name).stdout)
        assert shown["Containers"][0]["Name"] == name
        assert "no container publishes port 1/tcp" in pyd("network", "rules", "1/tcp", check=False).stderr
        assert "No such container" in pyd("network", "rules", "nosuch", check=False).stderr
    finally:
        docker("rm", "-f", name)


def test_forms_of_rules_that_nobody_knows(pyd: Client) -> None:
    assert "json is possible" in pyd("network", "rules", "--format", "{{.}}", check=False).stderr


def test_a_range_is_one_element_and_one_holder(docker: Client, name: str) -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 24500))
        server.listen()
        refused = docker("run", "--rm", "-p", "24000-25000:24000-25000", "busybox", "true", check=False)
        assert "0.0.0.0:24500: bind: address already in use (held by " in refused.stderr
    docker("run", "-d", "--name", name, "-p", "24000-25000:24000-25000", "busybox", "sleep", "1000")
    try:
        assert docker("port", name).stdout.count("-> 0.0.0.0:") == 1001
        assert "24000-25000->24000-25000/tcp" in docker("ps", "--filter", "publish=24777").stdout
        taken = docker("run", "--rm", "-p", "24999:1", "busybox", "true", check=False)
        assert "Bind for 0.0.0.0:24999 failed: port is already allocated" in taken.stderr
    finally:
        docker("rm", "-f", name)
