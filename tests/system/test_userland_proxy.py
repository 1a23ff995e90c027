"""Ports that packet filters cannot lead: from ``[::1]``, and from IPv6 addresses of the host to containers without IPv6.

What is reached is compared with dockerd in `test_side_by_side` and with a model in `test_reachability`; here it is the
process that does it: what it outlives, what it costs others, and that nothing of it is left.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from clients import IMAGE, Client, docker_program, until
from engine_under_test import Daemon
from reachability import PORT, Question, Servers, ask

pytestmark = [pytest.mark.root, pytest.mark.docker]

Box = Callable[..., str]

SERVE = "mkdir /w; echo hello >/w/index.html; exec httpd -f -p 80 -h /w"
ECHO = "while :; do nc -l -p 80 -e cat; done"
LOOPBACK = "::1"


def get(port: int, host: str = LOOPBACK) -> bytes:
    """What a web server says; empty when there is none."""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")[2]
    except OSError:
        return b""


def has_ended(connection: socket.socket) -> bool:
    """In order or not: the container's kernel and the proxy both end it."""
    try:
        return connection.recv(10) == b""
    except ConnectionResetError:
        return True


def free_port() -> int:
    with closing(socket.socket(socket.AF_INET6)) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


def process_of(daemon: Daemon) -> int:
    """The proxy's process id, 0 when there is none."""
    mark = os.fsencode(daemon.run / "proxy.sock")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").endswith(mark):
                return int(pid)
        except OSError:
            continue
    return 0


@pytest.fixture
def own(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> Iterator[tuple[Daemon, Client]]:
    """A daemon that a test may kill, with the image."""
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    yield daemon, docker
    daemon.close()  # and looks whether anything is left


def test_a_container_without_ipv6_is_reached_by_ipv6(docker: Client, pydd: Daemon, box: Box) -> None:
    number = free_port()
    container = box("sh", "-c", SERVE, flags=("-p", f"{number}:80"))
    until(lambda: get(number) == b"hello\n", "the server answers")
    assert get(number, "127.0.0.1") == b"hello\n"
    assert docker("port", container).stdout == f"80/tcp -> 0.0.0.0:{number}\n80/tcp -> [::]:{number}\n"
    assert process_of(pydd)
    docker("stop", "-t", "0", container)
    assert get(number) == b""
    until(lambda: not process_of(pydd), "nothing is left to lead")
    docker("start", container)
    until(lambda: get(number) == b"hello\n", "the server answers again")


def test_an_address_can_be_chosen(docker: Client, box: Box) -> None:
    number = free_port()
    container = box("sh", "-c", SERVE, flags=("-p", f"[::1]:{number}:80"))
    until(lambda: get(number) == b"hello\n", "the server answers")
    assert get(number, "127.0.0.1") == b""
    assert docker("port", container).stdout == f"80/tcp -> [::1]:{number}\n"
    said = docker("inspect", "-f", "{{json .NetworkSettings.Ports}}", container).stdout
    assert said == f'{{"80/tcp":[{{"HostIp":"::1","HostPort":"{number}"}}]}}\n'
    refused = docker("run", "--rm", "-p", f"[::1]:{number}:80", IMAGE, "true", check=False)
    assert f"Bind for [::1]:{number} failed: port is already allocated" in refused.stderr


def test_datagrams(docker: Client, box: Box) -> None:
    number = free_port()
    container = box("sleep", "100", flags=("-p", f"{number}:{PORT}/udp"))
    pid = docker("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    servers = Servers()
    try:
        servers.add("inside", namespace)
        asked = Question("udp", LOOPBACK, number, "inside")
        assert ask([asked], {asked}) == {asked}
    finally:
        servers.close()
        os.close(namespace)


def test_a_container_with_ipv6_is_reached_from_loopback(docker: Client, box: Box, name: str) -> None:
    number = free_port()
    docker("network", "create", "--ipv6", "--subnet", "fd00:5::/64", name)
    try:
        container = box("sh", "-c", SERVE, flags=("-p", f"{number}:80", "--network", name))
        until(lambda: get(number) == b"hello\n", "the server answers")
        assert get(number, "fd00:5::1") == b"hello\n"
        docker("network", "disconnect", name, container)
        assert get(number) == b""
        docker("rm", "-f", container)
    finally:
        docker("network", "rm", name)


def test_rules_say_so(pyd: Client, box: Box) -> None:
    number = free_port()
    box("sleep", "100", flags=("-p", f"{number}:80"))
    said = pyd("network", "rules", str(number)).stdout
    assert f"tcp port {number} of [::]" in said
    assert "userland proxy" in said


def test_off_means_off(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> None:
    """As with dockerd's `userland-proxy: false`: what packet filters cannot lead is not published."""
    daemon = new_pydd("[network]\nuserland-proxy = false\n")
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    number = free_port()
    container = docker("run", "-d", "-p", f"{number}:80", IMAGE, "sh", "-c", SERVE).stdout.strip()
    until(lambda: get(number, "127.0.0.1") == b"hello\n", "the server answers")
    assert get(number) == b""
    assert docker("port", container).stdout == f"80/tcp -> 0.0.0.0:{number}\n"
    refused = docker("run", "--rm", "-p", f"[::1]:{free_port()}:80", IMAGE, "true", check=False)
    assert "no address of that family" in refused.stderr
    assert not process_of(daemon)
    daemon.stop()
    daemon.config.write_text(daemon.config.read_text().replace("false", "true"))
    daemon.start()
    docker("restart", "-t", "0", container)
    until(lambda: get(number) == b"hello\n", "the server answers on ::1, too")
    daemon.stop()
    assert get(number) == b"hello\n"
    daemon.config.write_text(daemon.config.read_text().replace("true", "false"))
    daemon.start()
    assert get(number) == b""
    assert get(number, "127.0.0.1") == b"hello\n"
    assert not process_of(daemon)
    daemon.close()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_it_outlives_the_daemon(own: tuple[Daemon, Client], how: str) -> None:
    """Connections too; the next daemon goes on with the same process."""
    daemon, docker = own
    number, other = free_port(), free_port()
    container = docker("run", "-d", "-p", f"{number}:80", IMAGE, "sh", "-c", ECHO).stdout.strip()
    docker("run", "-d", "-p", f"{other}:80", IMAGE, "sh", "-c", SERVE)
    until(lambda: get(other) == b"hello\n", "the server answers")
    with socket.create_connection((LOOPBACK, number), timeout=10) as connection:
        connection.sendall(b"one")
        assert connection.recv(10) == b"one"
        process = process_of(daemon)
        daemon.kill() if how == "kill" else daemon.stop()
        connection.sendall(b"two")
        assert connection.recv(10) == b"two"
        assert get(other) == b"hello\n"
        daemon.start()
        connection.sendall(b"three")
        assert connection.recv(10) == b"three"
        assert get(other) == b"hello\n"
        assert process_of(daemon) == process
        refused = docker("run", "--rm", "-p", f"[::1]:{number}:80", IMAGE, "true", check=False)
        assert "port is already allocated" in refused.stderr
        docker("rm", "-f", container)
        assert has_ended(connection)
    assert get(other) == b"hello\n"


def test_it_ends_with_the_last_container_though_no_daemon_runs(own: tuple[Daemon, Client]) -> None:
    daemon, docker = own
    number = free_port()
    container = docker("run", "-d", "-p", f"{number}:80", IMAGE, "sh", "-c", SERVE).stdout.strip()
    until(lambda: get(number) == b"hello\n", "the server answers")
    pid = int(docker("inspect", "-f", "{{.State.Pid}}", container).stdout)
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not process_of(daemon), "the proxy has ended")
    assert get(number) == b""
    daemon.start()
    docker("start", container)
    until(lambda: get(number) == b"hello\n", "the server answers again")


def test_another_one_takes_its_place(own: tuple[Daemon, Client]) -> None:
    daemon, docker = own
    number = free_port()
    docker("run", "-d", "-p", f"{number}:80", IMAGE, "sh", "-c", SERVE)
    until(lambda: get(number) == b"hello\n", "the server answers")
    process = process_of(daemon)
    os.kill(process, signal.SIGKILL)
    assert get(number) == b"hello\n", "who connects meanwhile waits"
    assert process_of(daemon) not in (0, process)
    daemon.kill()
    os.kill(process_of(daemon), signal.SIGKILL)
    until(lambda: not process_of(daemon), "both are gone")
    assert get(number) == b""
    daemon.start()
    assert get(number) == b"hello\n"


@pytest.mark.slow
def test_a_flood_of_connections_does_not_slow_the_api(pydd: Daemon, box: Box) -> None:
    """Two threads that connect as fast as they can, and two hundred connections that stay."""
    number = free_port()
    box("sh", "-c", SERVE, flags=("-p", f"{number}:80"))
    until(lambda: get(number) == b"hello\n", "the server answers")
    calm = pings(pydd)
    stop = threading.Event()
    counted = [0, 0]

    def flood(which: int) -> None:
        while not stop.is_set():
            counted[which] += get(number) == b"hello\n"

    idle = [socket.create_connection((LOOPBACK, number), timeout=10) for _ in range(200)]
    threads = [threading.Thread(target=flood, args=(which,)) for which in range(2)]
    for each in threads:
        each.start()
    try:
        until(lambda: sum(counted) > 20, "it floods")
        busy = pings(pydd)
    finally:
        stop.set()
        for each in threads:
            each.join()
        for connection in idle:
            connection.close()
    # Two busy processors are two busy processors: what counts is that no request waits for connections to be served.
    assert busy < max(20 * calm, 0.05), f"{calm * 1000:.2f} ms without, {busy * 1000:.2f} ms with the flood"


def pings(daemon: Daemon) -> float:
    """Seconds that a request takes, in the median."""
    api = daemon.api()
    try:
        taken = []
        for _ in range(50):
            begun = time.perf_counter()
            api.call("GET", "/containers/json")
            taken.append(time.perf_counter() - begun)
    finally:
        api.close()
    return statistics.median(taken)
