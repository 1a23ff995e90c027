"""Published ports through the docker client, with real sockets: from the host, after restarts, refused when taken."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing

import pytest

from clients import Client, until
from engine_under_test import Daemon
from reachability import PORT, Servers

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

Box = Callable[..., str]

SERVE = "mkdir /w; echo hello >/w/index.html; exec httpd -f -p 80 -h /w"


def get(port: int, host: str = "127.0.0.1") -> bytes:
    """What a web server says; empty when there is none."""
    try:
        with socket.create_connection((host, port), timeout=3) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")[2]
    except OSError:
        return b""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def port_of(docker: Client, container: str, port: str) -> int:
    return int(docker("port", container, port).stdout.splitlines()[0].rpartition(":")[2])


def test_a_server_is_reached_and_gone_with_its_container(docker: Client, box: Box) -> None:
    number = free_port()
    container = box("sh", "-c", SERVE, flags=("-p", f"{number}:80"))
    until(lambda: get(number) == b"hello\n", "the server answers")
    gateway = docker("inspect", "-f", "{{.NetworkSettings.Gateway}}", container).stdout.strip()
    assert get(number, gateway) == b"hello\n"
    assert docker("port", container).stdout == f"80/tcp -> 0.0.0.0:{number}\n80/tcp -> [::]:{number}\n"
    assert f"0.0.0.0:{number}->80/tcp" in docker("ps", "--filter", f"publish={number}").stdout
    docker("stop", "-t", "0", container)
    assert get(number) == b""
    assert docker("port", container, check=False).stdout == ""
    docker("start", container)
    until(lambda: get(number) == b"hello\n", "the server answers again")


def test_a_port_of_the_kernels_choice(docker: Client, box: Box) -> None:
    container = box("sh", "-c", SERVE, flags=("-P", "--expose", "80", "--expose", "81/udp"))
    number = port_of(docker, container, "80")
    until(lambda: get(number) == b"hello\n", "the server answers")
    assert port_of(docker, container, "81/udp")


def test_a_neighbour_reaches_it_by_the_hosts_address(docker: Client, box: Box) -> None:
    number = free_port()
    container = box("sh", "-c", SERVE, flags=("-p", f"{number}:80"))
    gateway = docker("inspect", "-f", "{{.NetworkSettings.Gateway}}", container).stdout.strip()
    until(lambda: get(number) == b"hello\n", "the server answers")
    ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {gateway} {number} | tail -1"
    assert docker("run", "--rm", "busybox", "sh", "-c", ask).stdout == "hello\n"
    assert docker("exec", container, "sh", "-c", ask).stdout == "hello\n"


def test_a_taken_port_is_told_with_its_holder(docker: Client, box: Box) -> None:
    with closing(socket.socket()) as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        number = server.getsockname()[1]
        refused = docker("run", "--rm", "-p", f"{number}:80", "busybox", "true", check=False)
        assert refused.returncode == 125
        assert f"0.0.0.0:{number}: bind: address already in use (held by " in refused.stderr
    box("sleep", "100", flags=("-p", f"{number}:80"))
    refused = docker("run", "--rm", "-p", f"127.0.0.1:{number}:80", "busybox", "true", check=False)
    assert refused.returncode == 125
    assert f"Bind for 127.0.0.1:{number} failed: port is already allocated" in refused.stderr


def test_ports_survive_the_daemons_death(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: str
) -> None:
    from clients import docker_program

    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    number = free_port()
    container = docker("run", "-d", "-p", f"{number}:80", "busybox", "sh", "-c", SERVE).stdout.strip()
    until(lambda: get(number) == b"hello\n", "the server answers")
    daemon.kill()
    assert get(number) == b"hello\n"
    daemon.start()
    assert get(number) == b"hello\n"
    assert docker("port", container).stdout == f"80/tcp -> 0.0.0.0:{number}\n80/tcp -> [::]:{number}\n"
    refused = docker("run", "--rm", "-p", f"{number}:80", "busybox", "true", check=False)
    assert "port is already allocated" in refused.stderr
    docker("rm", "-f", container)
    assert get(number) == b""


def test_a_port_is_free_at_once_for_the_next(docker: Client, box: Box) -> None:
    """Also where a process beside the daemon has a copy of its socket."""
    number = free_port()
    first = box("sleep", "100", flags=("-p", f"{number}:80", "-p", f"{number}:80/udp"))
    for _ in range(8):
        docker("stop", "-t", "0", first)
        second = box("sleep", "100", flags=("-p", f"{number}:80", "-p", f"{number}:80/udp"))
        docker("rm", "-f", second)
        docker("start", first)


def test_ports_follow_a_container_from_network_to_network(docker: Client, box: Box, name: str) -> None:
    number = free_port()
    networks = [f"{name}-a", f"{name}-b"]
    for network in networks:
        docker("network", "create", network)
    try:
        container = box("sh", "-c", SERVE, flags=("-p", f"{number}:80", "--network", networks[0]))
        until(lambda: get(number) == b"hello\n", "the server answers")
        address = docker("inspect", "-f", "{{json .NetworkSettings.Ports}}", container).stdout
        for here, there in (networks, networks[::-1]):
            docker("network", "connect", there, container)
            docker("network", "disconnect", here, container)
            assert docker("inspect", "-f", "{{json .NetworkSettings.Ports}}", container).stdout == address
            assert [get(number, host) for host in ("127.0.0.1", "::1")] == [b"hello\n"] * 2
        docker("network", "disconnect", networks[0], container)
        assert get(number) == b""
        docker("network", "connect", networks[1], container)
        assert get(number) == b"hello\n"
        docker("rm", "-f", container)
    finally:
        docker("network", "rm", *networks)


def test_who_sends_datagrams_all_the_time_reaches_whoever_is_there(docker: Client, box: Box) -> None:
    """From one socket, before there is a container and after it was replaced: the kernel goes by a flow's first packet."""
    number = free_port()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.settimeout(1)
        sender.connect(("127.0.0.1", number))
        assert sent(sender) == b""
        for name in ("first", "second"):
            container = box("sleep", "100", flags=("-p", f"{number}:{PORT}/udp"))
            assert_serves(docker, container, name, sender)
            docker("rm", "-f", container)
            assert sent(sender) == b""
            box("sleep", "100")  # so that the next one has another address


def assert_serves(docker: Client, container: str, name: str, sender: socket.socket) -> None:
    pid = docker("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    servers = Servers()
    try:
        servers.add(name, namespace)
        assert sent(sender) == name.encode()
    finally:
        servers.close()
        os.close(namespace)


def sent(sender: socket.socket) -> bytes:
    """What comes back for a datagram; nothing when nobody is there."""
    for _ in range(3):  # what an earlier one was answered with is told first
        try:
            sender.send(b"who")
            return sender.recv(100)
        except OSError:
            continue
    return b""


def test_a_thousand_ports(docker: Client, box: Box) -> None:
    container = box("sh", "-c", f"{SERVE} & exec nc -ll -p 21999 -e echo far", flags=("-p", "21000-21999:21000-21999"))
    until(lambda: docker("exec", container, "true").returncode == 0, "it runs")

    def far(host: str = "127.0.0.1") -> bool:
        try:
            with socket.create_connection((host, 21999), timeout=3) as connection:
                return connection.recv(10) == b"far\n"
        except OSError:
            return False

    until(far, "the last port leads there")
    until(lambda: far("::1"), "by IPv6, too")
    assert docker("port", container).stdout.count("-> 0.0.0.0:") == 1000
