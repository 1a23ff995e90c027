"""Ports of the host for containers: chosen, held, given back, refused with the holder's name."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from pyd_contracts.errors import InvalidArgument, ResourceExhausted
from pyd_engine.containers.config import ContainerConfig
from pyd_engine.containers.container import Container, Phase, RunState
from pyd_engine.containers.host_config import HostConfig, PortBinding
from pyd_engine.containers.ports import bound, listed, wishes
from pyd_engine.networks.ports import HostPorts
from pyd_engine.networks.records import PortWish

V4 = frozenset({4})


@pytest.fixture
def ports() -> Iterator[HostPorts]:
    ports = HostPorts()
    yield ports
    for endpoint in ("a", "b"):
        ports.give_back(endpoint)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def can_bind(port: int, host: str = "127.0.0.1") -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def test_a_port_is_held_until_it_is_given_back(ports: HostPorts) -> None:
    number = free_port()
    (taken,) = ports.take("a", [PortWish("tcp", 80, "127.0.0.1", number, number)], V4)
    assert (taken.host_port, taken.container_port, str(taken.host)) == (number, 80, "127.0.0.1")
    assert not can_bind(number)
    ports.give_back("a")
    ports.give_back("a")
    assert can_bind(number)


def test_the_kernel_chooses(ports: HostPorts) -> None:
    first, second = ports.take("a", [PortWish("tcp", 80), PortWish("udp", 80)], V4)
    assert first.host_port
    assert second.host_port
    assert str(first.host) == "0.0.0.0"


def test_the_same_number_in_both_families(ports: HostPorts) -> None:
    four, six = ports.take("a", [PortWish("tcp", 80)], frozenset({4, 6}))
    assert four.host_port == six.host_port
    assert (four.host.version, six.host.version) == (4, 6)


def test_the_first_free_one_of_a_range(ports: HostPorts) -> None:
    (first,) = ports.take("a", [PortWish("udp", 53, "127.0.0.1", 20100, 20103)], V4)
    (second,) = ports.take("b", [PortWish("udp", 53, "127.0.0.1", 20100, 20103)], V4)
    assert 20100 <= first.host_port < second.host_port <= 20103


def test_anothers_port_is_refused_whole(ports: HostPorts) -> None:
    number, other = free_port(), free_port()
    ports.take("a", [PortWish("tcp", 80, "", number, number)], V4)
    asked = [PortWish("tcp", 81, "127.0.0.1", other, other), PortWish("tcp", 80, "127.0.0.1", number, number)]
    with pytest.raises(ResourceExhausted, match=f"Bind for 127.0.0.1:{number} failed: port is already allocated"):
        ports.take("b", asked, V4)
    assert can_bind(other)


def test_a_programs_port_is_refused_and_the_program_named(ports: HostPorts) -> None:
    with closing(socket.socket()) as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        number = server.getsockname()[1]
        with pytest.raises(
            ResourceExhausted, match=rf"0\.0\.0\.0:{number}: bind: address already in use .*{os.getpid()}"
        ):
            ports.take("a", [PortWish("tcp", 80, "", number, number)], V4)


def test_an_address_of_a_family_that_the_container_has_not(ports: HostPorts) -> None:
    with pytest.raises(InvalidArgument, match="no address of that family"):
        ports.take("a", [PortWish("tcp", 80, "::1", 1, 1)], V4)


def test_ports_are_held_again_after_a_restart(ports: HostPorts) -> None:
    taken = ports.take("a", [PortWish("tcp", 80, "127.0.0.1")], V4)
    ports.give_back("a")
    again = HostPorts()
    with closing(socket.socket()) as server:
        assert again.hold("a", taken) == []
        assert not can_bind(taken[0].host_port)
        again.give_back("a")
        server.bind(("127.0.0.1", taken[0].host_port))
        server.listen()
        (trouble,) = again.hold("a", taken)
    assert f"127.0.0.1:{taken[0].host_port}/tcp" in trouble
    again.give_back("a")


def container(config: ContainerConfig, host_config: HostConfig) -> Container:
    return Container(
        id="0" * 64, name="c", created_ns=0, image="", image_ref="", path="", args=(), config=config,
        host_config=host_config, storage="", isolation="", state=RunState(phase=Phase.RUNNING),
    )  # fmt: skip


def test_what_is_asked_for() -> None:
    config = ContainerConfig(exposed_ports={"80/tcp": {}, "99/udp": {}})
    host_config = HostConfig(
        port_bindings={
            "80/tcp": (PortBinding(host_ip="127.0.0.1", host_port="8080"), PortBinding(host_port="9000-9002")),
            "7-8": (PortBinding(),),
        },
        publish_all_ports=True,
    )
    asked = container(config, host_config)
    assert wishes(asked) == (
        PortWish("tcp", 80, "127.0.0.1", 8080, 8080), PortWish("tcp", 80, "", 9000, 9002), PortWish("tcp", 7),
        PortWish("tcp", 8), PortWish("udp", 99),
    )  # fmt: skip


def test_what_is_shown(ports: HostPorts) -> None:
    config = ContainerConfig(exposed_ports={"80/tcp": {}, "99/udp": {}})
    shown = container(config, HostConfig(port_bindings={"80/tcp": (PortBinding(),)}))
    taken = ports.take("a", [PortWish("tcp", 80)], V4)
    number = taken[0].host_port
    assert bound(shown, taken) == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(number)}], "99/udp": None}
    assert listed(shown, taken) == [
        {"PrivatePort": 99, "Type": "udp"},
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": number, "Type": "tcp"},
    ]
