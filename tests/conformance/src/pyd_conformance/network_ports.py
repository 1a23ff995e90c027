"""The part of the network suite about published ports (NET-24, NET-26, NET-36): real sockets, from every side."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import TypeVar

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.network_ground import NetworkGround
from pyd_conformance.network_stage import PORT, Namespace, NetworkStage, reaches
from pyd_contracts.errors import Conflict, PydError
from pyd_contracts.values import Attachment, PublishedPort

__all__ = ["NetworkPorts"]

_EVERYWHERE = ip_address("0.0.0.0")
_LOOPBACK = ip_address("127.0.0.1")
_OPEN, _PRIVATE = 18091, 18092
_HOST = "10.77.1.1"
"""An address of the host: the gateway of network 1."""


T = TypeVar("T")


def on_the_host(work: Callable[[], T]) -> T:
    """Where the test itself is."""
    return work()


class NetworkPorts(NetworkGround):
    """Checks of published ports."""

    def _published(self, stage: NetworkStage) -> tuple[Attachment, Namespace]:
        """A container with two ports: one open to all, one on loopback."""
        if "ports" not in self.capabilities:
            pytest.skip("the driver does not declare ports")
        self.need_wires()
        inside = stage.namespace()
        ports = (
            PublishedPort("tcp", _EVERYWHERE, _OPEN, PORT),
            PublishedPort("tcp", _LOOPBACK, _PRIVATE, PORT),
            PublishedPort("udp", _EVERYWHERE, _OPEN, PORT),
        )
        attachment = stage.attachment(stage.create(), 2, netns=inside.path, ports=ports)
        stage.driver.network_attach(attachment=attachment)
        return attachment, inside

    @clause("NET-24", "from the host, by every address of it")
    def test_ports_from_the_host(self, stage: NetworkStage) -> None:
        _, inside = self._published(stage)
        for address, port in ((_HOST, _OPEN), ("127.0.0.1", _OPEN), ("127.0.0.1", _PRIVATE)):
            assert reaches(on_the_host, inside.run, address, port=port), f"{address}:{port}"

    @clause("NET-24", "from containers: a neighbour, one of another network, itself")
    def test_ports_from_containers(self, stage: NetworkStage) -> None:
        attachment, inside = self._published(stage)
        neighbour, stranger = stage.namespace(), stage.namespace()
        stage.driver.network_attach(attachment=stage.attachment(attachment.network, 3, netns=neighbour.path))
        stage.driver.network_attach(attachment=stage.attachment(stage.create(2), 4, netns=stranger.path))
        assert reaches(neighbour.run, inside.run, _HOST, port=_OPEN)
        assert reaches(stranger.run, inside.run, _HOST, port=_OPEN)
        assert reaches(inside.run, inside.run, _HOST, port=_OPEN)

    @clause("NET-24", "a port on loopback is for this host alone")
    def test_private_ports(self, stage: NetworkStage) -> None:
        attachment, inside = self._published(stage)
        neighbour = stage.namespace()
        stage.driver.network_attach(attachment=stage.attachment(attachment.network, 3, netns=neighbour.path))
        assert not reaches(neighbour.run, inside.run, _HOST, port=_PRIVATE, timeout=1)
        # A container that sends to the host's loopback by way of its gateway (CVE-2020-8558).
        neighbour.run(lambda: _write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1"))
        neighbour.ip("route", "del", "table", "local", "127.0.0.0/8", "dev", "lo")
        neighbour.ip("route", "del", "table", "local", "127.0.0.1", "dev", "lo")
        neighbour.ip("route", "add", "127.0.0.1", "via", _HOST, "src", "10.77.1.3")
        assert not reaches(neighbour.run, inside.run, "127.0.0.1", port=_PRIVATE, timeout=1)

    @clause("NET-24", "several ports in sequence, under the same numbers and under others")
    def test_sequences(self, stage: NetworkStage) -> None:
        if "ports" not in self.capabilities:
            pytest.skip("the driver does not declare ports")
        self.need_wires()
        inside = stage.namespace()
        ports = (
            PublishedPort("tcp", _EVERYWHERE, PORT - 5, PORT - 5, 10),
            PublishedPort("tcp", _LOOPBACK, _OPEN - 3, PORT - 3, 5),
        )
        attachment = stage.attachment(stage.create(), 2, netns=inside.path, ports=ports)
        stage.driver.network_attach(attachment=attachment)
        assert reaches(on_the_host, inside.run, _HOST, port=PORT)
        assert reaches(on_the_host, inside.run, "127.0.0.1", port=_OPEN)
        assert not reaches(on_the_host, inside.run, _HOST, port=PORT + 5, timeout=1)
        stage.driver.network_gc(network=attachment.network, valid=[attachment])
        assert reaches(on_the_host, inside.run, _HOST, port=PORT)
        stage.driver.network_detach(attachment=attachment, attached=None)
        stage.driver.network_attach(attachment=replace(attachment, ports=()))
        assert not reaches(on_the_host, inside.run, _HOST, port=PORT, timeout=1)
        assert not reaches(on_the_host, inside.run, "127.0.0.1", port=_OPEN, timeout=1)

    @clause("NET-24", "udp too")
    def test_datagrams(self, stage: NetworkStage) -> None:
        _, inside = self._published(stage)

        def listen() -> socket.socket:
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("0.0.0.0", PORT))
            server.settimeout(5)
            return server

        with inside.run(listen) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(b"there", (_HOST, _OPEN))
            said, sender = server.recvfrom(10)
            server.sendto(b"back", sender)
            assert (said, client.recv(10)) == (b"there", b"back")

    @clause("NET-26", "after detach they lead nowhere")
    def test_ports_close(self, stage: NetworkStage) -> None:
        attachment, inside = self._published(stage)
        stage.driver.network_detach(attachment=attachment, attached=None)
        again = replace(attachment, ports=())
        stage.driver.network_attach(attachment=again)
        assert reaches(on_the_host, inside.run, "10.77.1.2")
        assert not reaches(on_the_host, inside.run, _HOST, port=_OPEN, timeout=1)

    @clause("NET-23", "a port that leads elsewhere: refused, and nothing of the attachment is left")
    def test_ports_conflict(self, stage: NetworkStage) -> None:
        if "ports" not in self.capabilities:
            pytest.skip("the driver does not declare ports")
        network = stage.create()
        ports = (PublishedPort("tcp", _EVERYWHERE, _OPEN, PORT),)
        stage.driver.network_attach(attachment=stage.attachment(network, 2, ports=ports))
        second = stage.attachment(network, 3, ports=ports)
        before = self.seen()
        with pytest.raises(Conflict):
            stage.driver.network_attach(attachment=second)
        stage.driver.network_detach(attachment=second, attached=None)
        assert self.seen() == before
        stage.driver.network_attach(attachment=replace(second, ports=()))

    @clause("NET-36", "gc publishes what is missing, and closes what nobody vouches for")
    def test_gc_of_ports(self, stage: NetworkStage) -> None:
        attachment, inside = self._published(stage)
        more = replace(attachment, ports=(PublishedPort("tcp", _EVERYWHERE, 18093, PORT),))
        removed = stage.driver.network_gc(network=attachment.network, valid=[more])
        assert len(removed) == 3
        assert reaches(on_the_host, inside.run, _HOST, port=18093)
        assert not reaches(on_the_host, inside.run, _HOST, port=_OPEN, timeout=1)

    @clause("NET-12", "a port of a family without an address is refused")
    def test_ports_without_an_address(self, stage: NetworkStage) -> None:
        if "ports" not in self.capabilities:
            pytest.skip("the driver does not declare ports")
        self.need_wires()
        ports = (PublishedPort("tcp", ip_address("::"), _OPEN, PORT),)
        with pytest.raises(PydError, match="IPv6"):
            stage.driver.network_attach(attachment=stage.attachment(stage.create(), 2, ports=ports))


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
