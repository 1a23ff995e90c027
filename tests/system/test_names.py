"""Names, connect and disconnect through the docker client: what compose files rely on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients import Client, docker_program, until
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

Box = Callable[..., str]


@pytest.fixture
def network(docker: Client, name: str) -> Iterator[str]:
    """A network of a user, inside only: so nothing is asked outside."""
    docker("network", "create", "--internal", name)
    yield name
    docker("network", "rm", name)


def look_up(docker: Client, container: str, name: str) -> list[str]:
    """The addresses that a program in the container finds."""
    said = docker("exec", container, "nslookup", name, check=False).stdout
    answers = said.partition("\n\n")[2]
    return [line.split()[-1] for line in answers.splitlines() if line.startswith("Address")]


def address_of(docker: Client, container: str, network: str) -> str:
    form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return docker("inspect", "-f", form, container).stdout.strip()


def stop(docker: Client, *containers: str) -> None:
    docker("rm", "-f", *containers)


def test_containers_find_one_another_by_name_and_alias(docker: Client, network: str) -> None:
    flags = ("run", "-d", "--network", network)
    server = docker(
        *flags, "--name", f"{network}-a", "--network-alias", "db", "busybox", "sleep", "1000"
    ).stdout.strip()
    other = docker(*flags, "--network-alias", "db", "busybox", "sleep", "1000").stdout.strip()
    client = docker(*flags, "busybox", "sleep", "1000").stdout.strip()
    try:
        address, second = address_of(docker, server, network), address_of(docker, other, network)
        resolv = docker("exec", client, "cat", "/etc/resolv.conf").stdout
        assert resolv.startswith("nameserver 127.0.0.11\n")
        assert "ndots:0" in resolv
        for name in (f"{network}-a", server[:12], f"{network}-a.{network}", f"{network}-A"):
            assert look_up(docker, client, name) == [address], name
        assert sorted(look_up(docker, client, "db")) == sorted([address, second])
        reverse = docker("exec", client, "nslookup", address).stdout
        assert f"{network}-a.{network}" in reverse
        assert look_up(docker, client, "nosuch.invalid") == []
        docker("stop", "-t", "0", other)
        assert look_up(docker, client, "db") == [address]
        docker("rename", server, f"{network}-b")
        assert look_up(docker, client, f"{network}-b") == [address]
        # A name server of the container's own on all addresses is in nobody's way.
        docker("exec", "-d", client, "nc", "-ll", "-u", "-p", "53", "-e", "cat")
        assert docker("exec", client, "sh", "-c", "nc -ll -p 53 -e cat & sleep 0.2; kill -0 $!").returncode == 0
        assert look_up(docker, client, "db") == [address]
    finally:
        stop(docker, server, other, client)


def test_the_default_bridge_has_no_names(docker: Client, box: Box) -> None:
    container = box("sleep", "1000")
    assert "127.0.0.11" not in docker("exec", container, "cat", "/etc/resolv.conf").stdout


def test_connect_and_disconnect_a_running_container(docker: Client, box: Box, network: str) -> None:
    server = box("sleep", "1000", flags=("--network", network))
    client = box("sleep", "1000")
    docker("network", "connect", "--alias", "visitor", network, client)
    address = address_of(docker, client, network)
    assert look_up(docker, client, server[:12]) == [address_of(docker, server, network)]
    assert look_up(docker, server, "visitor") == [address]
    assert f"{address}\t" in docker("exec", client, "cat", "/etc/hosts").stdout
    assert docker("exec", client, "ping", "-c", "1", "-W", "5", server[:12]).returncode == 0
    again = docker("network", "connect", network, client, check=False)
    assert "already exists in network" in again.stderr
    inspected = json.loads(docker("network", "inspect", network).stdout)[0]["Containers"]
    assert set(inspected) == {server, client}
    docker("network", "disconnect", network, client)
    assert address not in docker("exec", client, "ip", "addr").stdout
    assert look_up(docker, server, "visitor") == []
    assert "127.0.0.11" not in docker("exec", client, "cat", "/etc/resolv.conf").stdout
    assert "is not connected" in docker("network", "disconnect", network, client, check=False).stderr
    stop(docker, server)


def test_a_stopped_container_is_connected_when_it_starts(docker: Client, box: Box, network: str) -> None:
    container = docker("create", "busybox", "sleep", "1000").stdout.strip()
    docker("network", "connect", network, container)
    docker("start", container)
    assert address_of(docker, container, network) in docker("exec", container, "ip", "addr").stdout
    stop(docker, container)


def test_names_survive_the_daemons_and_the_resolvers_death(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path, name: str
) -> None:
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("network", "create", "--internal", name)
    server, client = (
        docker("run", "-d", "--network", name, "busybox", "sleep", "1000").stdout.strip() for _ in range(2)
    )
    address = address_of(docker, server, name)
    daemon.kill()
    daemon.start()
    assert look_up(docker, client, server[:12]) == [address]
    assert daemon.process is not None
    mine = ["pgrep", "-P", str(daemon.process.pid), "-f", "pyd_engine.names.server"]
    resolver = int(subprocess.run(mine, capture_output=True, text=True, check=True).stdout)
    os.kill(resolver, signal.SIGKILL)
    until(lambda: look_up(docker, client, server[:12]) == [address], "another resolver answers")
    stop(docker, server, client)
    docker("network", "rm", name)


FLOOD = """
import socket, struct, sys
query = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\\x05other\\x00" + struct.pack("!HH", 1, 1)
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.connect(("127.0.0.11", 53))
asking.setblocking(False)
answers = 0
while True:
    try:
        asking.send(query)
        asking.recv(512)
        answers += 1
        if answers % 1000 == 0:
            print(answers, flush=True)
    except BlockingIOError:
        pass
"""


def test_a_flood_of_questions_stops_nobody(pydd: Daemon, docker: Client, box: Box, network: str) -> None:
    """While one container asks as fast as it can the API answers, others get answers, and new names are known."""
    other = box("sleep", "1000", flags=("--network", network, "--network-alias", "other"))
    noisy, quiet = (box("sleep", "1000", flags=("--network", network)) for _ in range(2))
    pid = docker("inspect", "-f", "{{.State.Pid}}", noisy).stdout.strip()
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", FLOOD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
        try:
            assert flood.stdout is not None
            assert flood.stdout.readline() == "1000\n"
            api = pydd.api()
            try:
                assert [api.call("GET", "/_ping") for _ in range(300)] == [b"OK"] * 300
            finally:
                api.close()
            assert look_up(docker, quiet, "other") == [address_of(docker, other, network)]
            late = box("sleep", "1000", flags=("--network", network, "--network-alias", "late"))
            assert look_up(docker, quiet, "late") == [address_of(docker, late, network)]
            assert flood.poll() is None
            assert flood.stdout.readline()
        finally:
            flood.kill()
    stop(docker, other, noisy, quiet, late)


def test_thousands_of_aliases_are_known(docker: Client, box: Box, network: str) -> None:
    names = [f"{'alias' * 8}-{number}" for number in range(2500)]
    flags = [word for each in names for word in ("--network-alias", each)]
    many = box("sleep", "1000", flags=("--network", network, *flags))
    client = box("sleep", "1000", flags=("--network", network))
    assert look_up(docker, client, names[-1]) == look_up(docker, client, many[:12]) != []
    stop(docker, many, client)


def test_links_are_names_for_one_container(docker: Client, box: Box, network: str) -> None:
    server = box("sleep", "1000", flags=("--network", network, "--name", f"{network}-s"))
    client = box("sleep", "1000", flags=("--network", network, "--link", f"{network}-s:db"))
    stranger = box("sleep", "1000", flags=("--network", network))
    assert look_up(docker, client, "db") == [address_of(docker, server, network)]
    assert look_up(docker, stranger, "db") == []
    stop(docker, server, client, stranger)


def test_files_of_every_mode(docker: Client, box: Box, network: str) -> None:
    """The host's gateway by a name, name servers and search domains of one's own."""
    gateway = docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge").stdout.strip()
    for mode in ("bridge", "host", "none", network):
        hosted = ("--rm", "--network", mode, "--add-host", "up:host-gateway", "--add-host", "far:192.0.2.9")
        hosts = docker("run", *hosted, "busybox", "cat", "/etc/hosts").stdout
        assert f"{gateway}\tup\n" in hosts, mode
        assert "192.0.2.9\tfar\n" in hosts, mode
        flags = (
            "--rm",
            "--network",
            mode,
            "--dns",
            "192.0.2.53",
            "--dns-search",
            "a.example",
            "--dns-option",
            "timeout:1",
        )
        resolv = docker("run", *flags, "busybox", "cat", "/etc/resolv.conf").stdout
        assert f"nameserver {'127.0.0.11' if mode == network else '192.0.2.53'}\n" in resolv, mode
        assert "search a.example\n" in resolv, mode
        assert "timeout:1" in resolv, mode
    owner = box("sleep", "1000", flags=("--network", network, "--add-host", "far:192.0.2.9"))
    for file in ("hosts", "resolv.conf"):
        mine = docker("exec", owner, "cat", f"/etc/{file}").stdout
        joined = docker("run", "--rm", "--network", f"container:{owner}", "busybox", "cat", f"/etc/{file}").stdout
        assert joined == mine
    stop(docker, owner)
