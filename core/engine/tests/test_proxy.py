"""The userland proxy: bytes and datagrams between real sockets, its orders, and its life beside daemons that come and go."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pyd_engine.proxy import datagrams, orders
from pyd_engine.proxy import service as service_module
from pyd_engine.proxy.server import Server
from pyd_engine.proxy.service import Proxy, Way

LOG = logging.getLogger("test")
NOWHERE = Path("/nowhere")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = [pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here"), pytest.mark.timeout(60)]


def bound(kind: socket.SocketKind = socket.SOCK_STREAM, host: str = "::1", port: int = 0) -> socket.socket:
    """As the daemon holds ports."""
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind((host, port))
    return made


def until(fact: Callable[[], bool], what: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)


class Target:
    """A container's server: says what it was told, in capitals, and then *more*."""

    def __init__(self, more: bytes = b"", family: socket.AddressFamily = socket.AF_INET) -> None:
        self.more = more
        self.server = socket.socket(family)
        self.server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        self.server.listen()
        self.address, self.port = self.server.getsockname()[:2]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                connection.sendall(data.upper())
            connection.sendall(self.more)

    def close(self) -> None:
        if self.server.fileno() >= 0:
            self.server.shutdown(socket.SHUT_RDWR)
            self.server.close()


@pytest.fixture
def target() -> Iterator[Target]:
    with closing(Target()) as target:
        yield target


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path, LOG)
    yield proxy
    proxy.close(end=True)


def talk(port: int, said: bytes = b"hello", host: str = "::1") -> bytes:
    """What comes back; empty when nobody takes the connection."""
    try:
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except OSError:
        return b""


def lead(proxy: Proxy, target: Target, endpoint: str = "e", netns: Path = NOWHERE) -> socket.socket:
    held = bound()
    proxy.lead(endpoint, [Way("tcp", held, target.address, target.port)], netns)
    return held


def process_of(proxy: Proxy) -> int:
    """The process id that the proxy's process says."""
    connection = proxy._found()
    assert connection is not None
    with connection:
        return int(orders.receive(connection)[0]["pid"])


def child_of(proxy: Proxy) -> subprocess.Popen[bytes]:
    child = proxy._child
    assert child is not None
    return child


# --- connections ---------------------------------------------------------------------------------------------------------


def test_bytes_go_both_ways_and_ends_are_told(proxy: Proxy) -> None:
    with closing(Target(more=b" and more")) as target, lead(proxy, target) as held:
        assert talk(held.getsockname()[1]) == b"HELLO and more"


def test_from_six_to_six(proxy: Proxy) -> None:
    with closing(Target(family=socket.AF_INET6)) as target, lead(proxy, target) as held:
        assert talk(held.getsockname()[1]) == b"HELLO"


def test_much_both_ways_at_once_and_a_slow_reader(proxy: Proxy, target: Target) -> None:
    """More than all buffers hold: what cannot go on waits, and nothing is lost."""
    sent = os.urandom(1 << 20) * 96  # sockets grow to 10 MB a hop and direction (tcp_rmem, tcp_wmem)
    with lead(proxy, target) as held, socket.create_connection(held.getsockname()[:2], timeout=30) as connection:
        writer = threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR)))
        writer.start()
        time.sleep(0.5)  # nobody reads: both ways are full by now
        assert writer.is_alive()
        received = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        writer.join()
    assert received == sent.upper()


def test_many_connections_at_once(proxy: Proxy, target: Target) -> None:
    with lead(proxy, target) as held:
        place = held.getsockname()[:2]
        connections = [socket.create_connection(place, timeout=10) for _ in range(300)]
        for number, each in enumerate(connections):
            each.sendall(b"n%d" % number)
        assert [each.recv(10) for each in connections] == [b"N%d" % number for number in range(300)]
        for each in connections:
            each.close()


def test_nobody_behind_the_port(proxy: Proxy, target: Target) -> None:
    with lead(proxy, target) as held:
        target.close()
        with (
            socket.create_connection(held.getsockname()[:2], timeout=10) as connection,
            pytest.raises(ConnectionResetError),
        ):
            connection.recv(1)


def test_a_reset_is_handed_on_after_what_came_before(proxy: Proxy) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with bound() as held:
            proxy.lead("e", [Way("tcp", held, *server.getsockname())], NOWHERE)
            with socket.create_connection(held.getsockname()[:2], timeout=10) as connection:
                inner, _ = server.accept()
                inner.sendall(b"bye")
                assert connection.recv(10) == b"bye"
                inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                inner.close()
                with pytest.raises(ConnectionResetError):
                    connection.recv(10)


def test_a_connection_of_which_one_half_is_closed(proxy: Proxy) -> None:
    """The other half goes on for as long as it likes, and takes no processor time meanwhile."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with bound() as held:
            proxy.lead("e", [Way("tcp", held, *server.getsockname())], NOWHERE)
            with socket.create_connection(held.getsockname()[:2], timeout=10) as connection:
                inner, _ = server.accept()
                connection.shutdown(socket.SHUT_WR)
                assert inner.recv(1) == b""
                before = cpu(child_of(proxy).pid)
                time.sleep(0.3)
                assert cpu(child_of(proxy).pid) - before <= 2, "it turns in a circle"
                inner.sendall(b"late")
                inner.close()
                assert connection.recv(10) == b"late"
                assert connection.recv(10) == b""


def cpu(pid: int) -> int:
    """Ticks that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_who_is_on_an_internal_network_is_refused(proxy: Proxy, target: Target) -> None:
    with lead(proxy, target) as held:
        port = held.getsockname()[1]
        proxy.close_to(["fd00::/64", "10.0.0.0/8"])
        assert talk(port) == b"HELLO"
        proxy.close_to(["::1/128"])
        until(lambda: talk(port) == b"", "the order has come")
        proxy.close_to([])
        until(lambda: talk(port) == b"HELLO", "the order has come")


def test_without_descriptors_who_comes_waits(tmp_path: Path, target: Target, capfd: pytest.CaptureFixture[str]) -> None:
    """They are accepted when others leave; nothing is dropped, nothing turns in a circle."""
    server = Server("code", limit=64 + 12)
    with bound() as held, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as entrance:
        entrance.bind(str(tmp_path / "s"))
        entrance.listen()
        held.listen(64)
        fd = os.dup(held.fileno())
        server.order({"op": "lead", "endpoint": "e", "ports": [["tcp", target.address, target.port]]}, [fd])
        thread = threading.Thread(target=server.serve, args=(entrance,))
        thread.start()
        place = held.getsockname()[:2]
        connections = [socket.create_connection(place, timeout=10) for _ in range(20)]
        for each in connections:
            each.sendall(b"x")
        answered = 0
        for each in connections:
            assert each.recv(1) == b"X"
            each.close()
            answered += 1
        assert answered == 20
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as daemon:
            daemon.connect(str(tmp_path / "s"))
            assert orders.receive(daemon)[0]["code"] == "code"
            orders.send(daemon, {"op": "leave", "endpoint": "e"})
            thread.join(10)
    assert not thread.is_alive()
    assert "connections have to wait" in capfd.readouterr().err


# --- datagrams -----------------------------------------------------------------------------------------------------------


class Echo:
    """A container's UDP server: answers with who asked and what."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.askers: set[object] = set()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, asker = self.socket.recvfrom(65535)
                if not data:
                    return
                self.askers.add(asker)
                self.socket.sendto(data.upper(), asker)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.socket.getsockname())
        self.socket.close()


def test_datagrams_find_back_to_whoever_asked(proxy: Proxy) -> None:
    with closing(Echo()) as echo, bound(socket.SOCK_DGRAM, "::") as held:
        proxy.lead("e", [Way("udp", held, *echo.socket.getsockname())], NOWHERE)
        asking = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(20)]
        for number, each in enumerate(asking):
            each.settimeout(10)
            each.connect(("::1", held.getsockname()[1]))  # an answer from another address would not arrive
            each.send(b"n%d" % number)
        for number, each in enumerate(asking):
            assert each.recv(100) == b"N%d" % number
            each.send(b"b" * 40000)
            assert each.recv(65535) == b"B" * 40000
            each.close()
        assert len(echo.askers) == 20


def test_a_silent_asker_is_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datagrams, "IDLE", 0.2)
    server = Server("code")
    with closing(Echo()) as echo, bound(socket.SOCK_DGRAM) as held:
        fd = os.dup(held.fileno())
        server.order({"op": "lead", "endpoint": "e", "ports": [["udp", *echo.socket.getsockname()]]}, [fd])
        (port,) = server._ports()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
            asking.sendto(b"x", held.getsockname())
            until(lambda: (server._dispatcher.turn(server._pause() or 0.01) or len(port)) == 1, "it was asked")
            until(lambda: (server._dispatcher.turn(server._pause() or 0.01) or len(port)) == 0, "it was silent")
            assert server._pause() is None, "nothing is waited for"
        server.order({"op": "leave", "endpoint": "e"}, [])


def test_no_more_askers_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "_ASKERS", 3)
    server = Server("code")
    with closing(Echo()) as echo, bound(socket.SOCK_DGRAM) as held:
        fd = os.dup(held.fileno())
        server.order({"op": "lead", "endpoint": "e", "ports": [["udp", *echo.socket.getsockname()]]}, [fd])
        (port,) = server._ports()
        asking = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(10)]
        for each in asking:
            each.settimeout(10)
            each.sendto(b"x", held.getsockname())
            answered = threading.Thread(target=each.recv, args=(10,))
            answered.start()
            until(lambda: (server._dispatcher.turn(0.01), not answered.is_alive())[1], "it is answered")  # noqa: B023
            each.close()
        assert len(port) == 3
        server.order({"op": "leave", "endpoint": "e"}, [])


# --- the process ---------------------------------------------------------------------------------------------------------


def test_it_ends_with_its_last_port(tmp_path: Path, proxy: Proxy, target: Target) -> None:
    with lead(proxy, target) as held, lead(proxy, target, "f"):
        child = child_of(proxy)
        assert talk(held.getsockname()[1]) == b"HELLO"
        proxy.leave("e")
        assert talk(held.getsockname()[1]) == b""
        assert child.poll() is None
        proxy.leave("f")
        assert child.wait(10) == 0
        until(lambda: not (tmp_path / "proxy.sock").exists(), "its name is gone")
        with lead(proxy, target) as again:
            assert talk(again.getsockname()[1]) == b"HELLO"


def test_leaving_cuts_what_is_connected(proxy: Proxy, target: Target) -> None:
    with lead(proxy, target) as held, socket.create_connection(held.getsockname()[:2], timeout=10) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"X"
        proxy.leave("e")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_it_has_no_privileges(proxy: Proxy, target: Target) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: there are none to give up")
    with lead(proxy, target) as held:
        talk(held.getsockname()[1])
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{child_of(proxy).pid}/status").read_text().splitlines()
        )
        assert status["Uid"].split() == ["65534"] * 4
        assert status["Gid"].split() == ["65534"] * 4
        assert status["Groups"].split() == []
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert os.stat(f"/proc/{child_of(proxy).pid}/environ").st_uid == 0, (
            "who is undumpable belongs to root (proc(5))"
        )


def test_whoever_connects_while_it_is_dead_waits_for_the_next_one(proxy: Proxy, target: Target) -> None:
    with lead(proxy, target) as held:
        assert talk(held.getsockname()[1]) == b"HELLO"
        child = child_of(proxy)
        child.send_signal(signal.SIGSTOP)
        with socket.create_connection(held.getsockname()[:2], timeout=10) as early:
            early.sendall(b"early")
            child.kill()
            assert early.recv(10) == b"EARLY"
        assert talk(held.getsockname()[1]) == b"HELLO"


def test_the_next_daemon_finds_everything_as_it_was(tmp_path: Path, target: Target) -> None:
    first = Proxy(tmp_path, LOG)
    held = lead(first, target)
    other = lead(first, target, "gone")
    port, strange = held.getsockname()[1], other.getsockname()[1]
    child = child_of(first)
    with socket.create_connection(("::1", port), timeout=10) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"X"
        first.close()  # as at the end of the daemon; SIGKILL does the same
        held.close()
        other.close()
        assert talk(port) == b"HELLO"
        second = Proxy(tmp_path, LOG)
        second.adopt()
        left = second.left(("tcp", "::1", port))
        assert left is not None
        second.lead("e", [Way("tcp", left, target.address, target.port)], NOWHERE)
        second.settle()
        connection.sendall(b"y")
        assert connection.recv(1) == b"Y", "connections go on"
        assert talk(port) == b"HELLO"
        until(lambda: talk(strange) == b"", "nobody asked for this one")
        second.leave("e")
        left.close()
    assert child.wait(10) == 0
    second.close(end=True)


def test_an_older_program_is_replaced_and_ends_with_its_last_connection(
    tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Proxy(tmp_path, LOG)
    held = lead(first, target)
    port = held.getsockname()[1]
    old = child_of(first)
    with socket.create_connection(("::1", port), timeout=10) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"X"
        first.close()
        held.close()
        monkeypatch.setattr(service_module.orders, "code", lambda: "another")
        second = Proxy(tmp_path, LOG)
        second.adopt()
        left = second.left(("tcp", "::1", port))
        assert left is not None
        second.lead("e", [Way("tcp", left, target.address, target.port)], NOWHERE)
        second.settle()
        assert talk(port) == b"HELLO"
        assert child_of(second).pid != old.pid
        connection.sendall(b"y")
        assert connection.recv(1) == b"Y"
        assert old.poll() is None
    assert old.wait(10) == 0
    assert talk(port) == b"HELLO"
    second.close(end=True)
    left.close()


def test_one_that_does_not_answer_is_ended(
    tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service_module, "_PATIENCE", 0.3)
    first = Proxy(tmp_path, LOG)
    with lead(first, target) as held:
        talk(held.getsockname()[1])
        child = child_of(first)
        child.send_signal(signal.SIGSTOP)
        first.close()
    second = Proxy(tmp_path, LOG)
    second.adopt()
    assert child.wait(10) == -signal.SIGKILL
    assert "does not answer" in caplog.text
    with lead(second, target) as held:
        assert talk(held.getsockname()[1]) == b"HELLO"
    second.close(end=True)


def test_a_port_ends_with_its_container_while_no_daemon_runs(tmp_path: Path, target: Target) -> None:
    with subprocess.Popen(["sleep", "1000"]) as container:
        first = Proxy(tmp_path, LOG)
        with lead(first, target, netns=Path(f"/proc/{container.pid}/ns/net")) as held:
            port = held.getsockname()[1]
            assert talk(port) == b"HELLO"
            child = child_of(first)
            first.close()
        assert talk(port) == b"HELLO"
        container.kill()
    assert child.wait(10) == 0
    assert talk(port) == b""


def test_a_daemon_that_dies_in_the_middle_leaves_nobody(tmp_path: Path) -> None:
    """Started, and told nothing: the daemon was killed in between."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as entrance:
        entrance.bind(str(tmp_path / "s"))
        entrance.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as daemon:
            daemon.connect(str(tmp_path / "s"))
            child = service_module._spawn(entrance, tmp_path / "s")
    assert child.wait(10) == 0


def test_three_thousand_ports(proxy: Proxy, target: Target) -> None:
    held = [bound() for _ in range(3000)]
    begun = time.monotonic()
    proxy.lead("e", [Way("tcp", each, target.address, target.port) for each in held], NOWHERE)
    assert talk(held[0].getsockname()[1]) == b"HELLO"
    assert talk(held[-1].getsockname()[1]) == b"HELLO"
    assert time.monotonic() - begun < 5
    proxy.leave("e")
    for each in held:
        each.close()
