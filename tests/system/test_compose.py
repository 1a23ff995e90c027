"""docker-compose, as Debian has it (1.29, on docker-py), against the socket: services, a network, a volume, ports, health."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients import until
from engine_under_test import Daemon

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        shutil.which("docker-compose") is None, reason="docker-compose is not installed (scripts/provision)"
    ),
    pytest.mark.usefixtures("snapshot"),
]

FILE = """
version: "2.4"
services:
  db:
    image: busybox:latest
    command: sh -c "sleep 1; echo kept >>/data/file; mkdir /w; cp /data/file /w/index.html; exec httpd -f -p 80 -h /w"
    volumes: [ "data:/data" ]
    networks: { back: { aliases: [ store ] } }
    healthcheck: { test: "wget -q -O - 127.0.0.1", interval: 200ms, retries: 50 }
  web:
    image: busybox:latest
    command: sh -c "mkdir /w; wget -q -O /w/index.html http://store/; exec httpd -f -p 80 -h /w"
    depends_on: { db: { condition: service_healthy } }
    networks: [ back, front ]
    ports: [ "127.0.0.1:PORT:80" ]
    environment: { A: "1" }
networks:
  back: { internal: true }
  front: { driver_opts: { com.docker.network.driver.mtu: "1400" } }
volumes:
  data: {}
"""

Compose = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def compose(
    pydd: Daemon, warm: str, client_environment: dict[str, str], tmp_path: Path, name: str, port: int, snapshot: object
) -> Iterator[Compose]:
    (tmp_path / "docker-compose.yml").write_text(FILE.replace("PORT", str(port)))
    environment = {**client_environment, "DOCKER_HOST": pydd.url, "COMPOSE_PROJECT_NAME": name.replace("-", "")}
    environment["PATH"] = os.environ["PATH"]

    def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker-compose", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert not check or done.returncode == 0, f"docker-compose {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done

    yield run
    run("down", "-v", "-t", "0", check=False)


NETWORKLESS = """
version: "2.4"
services:
  a: { image: "busybox:latest", command: sleep 1000, stop_signal: SIGKILL }
  b: { image: "busybox:latest", command: sleep 1000, stop_signal: SIGKILL, network_mode: "service:a" }
  c: { image: "busybox:latest", command: sleep 1000, stop_signal: SIGKILL, network_mode: host }
"""


def page(port: int) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")[2].decode()
    except OSError:
        return ""


def test_a_project_from_up_to_down(compose: Compose, port: int) -> None:
    compose("up", "-d")
    until(lambda: page(port) == "kept\n", "the page that the other service has is served")
    shown = compose("ps").stdout
    assert "Up (healthy)" in shown
    assert f"127.0.0.1:{port}->80/tcp" in shown
    assert (
        compose("exec", "-T", "web", "cat", "/sys/class/net/eth1/mtu", "/sys/class/net/eth0/mtu")
        .stdout.split()
        .count("1400")
        == 1
    )
    assert compose("exec", "-T", "web", "sh", "-c", "nslookup db | tail -2").stdout.strip()
    assert compose("port", "web", "80").stdout.strip() == f"127.0.0.1:{port}"

    compose("up", "-d", "--scale", "db=2")
    assert compose("ps", "-q", "db").stdout.count("\n") == 2
    compose("restart", "-t", "0", "web")
    until(lambda: "kept" in page(port), "it is served again")
    assert "kept" in compose("run", "--rm", "db", "cat", "/data/file").stdout

    compose("down", "-t", "0")
    assert page(port) == ""
    compose("up", "-d")  # the volume is still there, and has a line more
    until(lambda: page(port).count("kept") >= 2, "the volume was kept")
    compose("down", "-v", "-t", "0")
    assert compose("ps", "-q").stdout == ""


def test_a_project_that_cannot_start_says_why(compose: Compose, port: int) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        failed = compose("up", "-d", check=False)
    assert failed.returncode != 0
    assert "address already in use" in failed.stderr
    compose("down", "-v", "-t", "0")


def test_services_in_the_networks_of_others_are_made_again(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(NETWORKLESS)
    compose("up", "-d")
    before = compose("ps", "-q").stdout.split()
    compose("up", "-d", "--force-recreate", "-t", "0")
    after = compose("ps", "-q").stdout.split()
    assert (len(before), len(after)) == (3, 3)
    assert not set(before) & set(after)
    assert (
        compose("exec", "-T", "a", "readlink", "/proc/self/ns/net").stdout
        == compose("exec", "-T", "b", "readlink", "/proc/self/ns/net").stdout
    )
    compose("down", "-t", "0")
