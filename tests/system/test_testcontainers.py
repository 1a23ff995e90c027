"""Testcontainers for Python, as people's test suites use it: a generic container, a port, a wait strategy."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from engine_under_test import Daemon

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.usefixtures("snapshot"),
    # The SDK leaves sockets of streams to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def generic(pydd: Daemon, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """testcontainers' DockerContainer, pointed at the shared daemon, without its helper container from the internet."""
    monkeypatch.setenv("DOCKER_HOST", pydd.url)
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
    monkeypatch.setenv("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
    core = pytest.importorskip("testcontainers.core.container", reason="testcontainers is not installed")
    config = pytest.importorskip("testcontainers.core.config")
    monkeypatch.setattr(config.testcontainers_config, "ryuk_disabled", True)
    made: Callable[..., object] = core.DockerContainer
    return made


def test_a_server_on_a_mapped_port(generic: Callable[..., object]) -> None:
    from testcontainers.core.waiting_utils import wait_for_logs

    script = "echo ready; exec nc -ll -p 7 -e cat"
    container = generic("busybox:latest").with_exposed_ports(7).with_command(["sh", "-c", script])  # type: ignore[attr-defined]
    with container as running:
        wait_for_logs(running, "ready", timeout=30)
        address = running.get_container_host_ip(), int(running.get_exposed_port(7))
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(b"echo\n")
            assert connection.recv(10) == b"echo\n"
        assert running.exec(["echo", "inside"]).output == b"inside\n"
