"""Published ports through the docker client, with real sockets: from the host, after restarts, refused when taken."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing

import pytest

from clients import Client, until
from engine_under_test import Daemon

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
