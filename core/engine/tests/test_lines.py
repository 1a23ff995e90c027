"""Lines of ``docker ps``: what is kept of them is true whatever changes."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from pyd_contracts.values import PublishedPort
from pyd_engine.containers.binds import Bind
from pyd_engine.containers.config import ContainerConfig, EndpointSettings
from pyd_engine.containers.connector import Connector
from pyd_engine.containers.container import Container, Health, Phase, RunState
from pyd_engine.containers.host_config import HostConfig
from pyd_engine.containers.lines import Lines, human_duration, status_text
from pyd_engine.containers.links import Links
from pyd_engine.containers.mounts import ContainerMounts
from pyd_engine.containers.store import ContainerStore
from pyd_engine.networks.records import EndpointRecord
from pyd_engine.store.database import Database


class Networks:
    """A connector that counts how often it is asked for the whole."""

    def __init__(self) -> None:
        self.at: dict[str, list[EndpointRecord]] = {}
        self.asked = 0
        self.ids = {"bridge": "1" * 64}

    def places(self, container: str) -> list[EndpointRecord]:
        return list(self.at.get(container, ()))

    def published(self, container: Container) -> tuple[PublishedPort, ...]:
        return tuple(port for each in self.places(container.id) for port in each.ports)

    def publishes(self, container: Container) -> bool:
        return True

    def shown(self, container: Container) -> dict[str, Any]:
        self.asked += 1
        where = {each.network: str(each.addresses[0].ip) for each in self.places(container.id)}
        return {name: {"IPAddress": where.get(name, ""), "NetworkID": self.ids[name]} for name in container.endpoints}


class Mounts:
    source = "/one"

    def points(self, container: Container) -> list[dict[str, object]]:
        return [{"Source": self.source} for _ in container.mounts]


class Rig:
    def __init__(self) -> None:
        self.store = ContainerStore(Database(Path(":memory:")))
        self.networks = Networks()
        self.mounts = Mounts()
        networks, mounts = cast("Connector", self.networks), cast("ContainerMounts", self.mounts)
        self.lines = Lines(self.store, mounts, networks, Links(self.store, networks))

    def add(self, name: str, **more: Any) -> Container:
        start = time.time_ns() - 5 * 60 * 10**9
        container = Container(
            id=f"{len(self.store):064x}", name=name, created_ns=start, image="sha256:" + "c" * 64, image_ref="busybox",
            path="sh", args=("-c", "a b"), config=ContainerConfig(), host_config=HostConfig(),
            storage="overlay", isolation="namespaces",
            state=RunState(phase=Phase.RUNNING, started_ns=start), endpoints={"bridge": EndpointSettings()}, **more,
        )  # fmt: skip
        self.store.add(container)
        place = EndpointRecord(
            id="e" * 64, network="bridge", container=container.id, container_name=name, ifname="eth0",
            addresses=(ip_interface("172.17.0.2/16"),),
        )  # fmt: skip
        self.networks.at[container.id] = [place]
        return container

    def line(self, container: Container, sizes: tuple[int, int] | None = None) -> dict[str, Any]:
        return self.lines.line(self.store.get(container.id), sizes)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_line_is_made_once(rig: Rig) -> None:
    container = rig.add("one")
    first = rig.line(container)
    assert first["Names"] == ["/one"]
    assert first["Command"] == "sh -c 'a b'"
    assert first["Status"] == "Up 5 minutes"
    assert list(first)[-3:] == ["HostConfig", "NetworkSettings", "Mounts"]
    first["Names"] = ["spoiled"]
    assert rig.line(container, (1, 2)) == {**rig.line(container), "SizeRw": 1, "SizeRootFs": 2}
    assert rig.line(container)["Names"] == ["/one"]
    assert rig.networks.asked == 1


def test_every_change_is_seen(rig: Rig) -> None:
    container = rig.add("one", mounts=(Bind(type="bind", source="/x", destination="/y"),))
    assert rig.line(container)["Mounts"] == [{"Source": "/one"}]
    rig.mounts.source = "/other"
    assert rig.line(container)["Mounts"] == [{"Source": "/other"}]

    rig.store.change(container.id, lambda old: msgspec.structs.replace(old, name="two"))
    assert rig.line(container)["Names"] == ["/two"]

    place = rig.networks.at[container.id][0]
    port = PublishedPort("tcp", ip_address("0.0.0.0"), 8080, 80)
    rig.networks.at[container.id] = [replace(place, addresses=(ip_interface("172.17.0.9/16"),), ports=(port,))]
    assert rig.line(container)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == "172.17.0.9"
    assert [each["PublicPort"] for each in rig.line(container)["Ports"]] == [8080]

    rig.add("parent", links={"alias": container.id})
    assert rig.line(container)["Names"] == ["/two", "/parent/alias"]

    rig.networks.at[container.id] = []
    rig.store.change(container.id, lambda old: old.moved(Phase.EXITED, finished_ns=time.time_ns(), exit_code=3))
    assert rig.line(container)["Status"] == "Exited (3) Less than a second ago"
    assert rig.line(container)["Ports"] == []
    rig.networks.ids["bridge"] = "2" * 64  # removed, and made again under its name
    assert rig.line(container)["NetworkSettings"]["Networks"]["bridge"]["NetworkID"] == "2" * 64


def test_lines_of_the_removed_are_forgotten(rig: Rig) -> None:
    for round_ in range(300):
        container = rig.add(f"n{round_}")
        rig.line(container)
        rig.store.drop(container.id)
        rig.lines.line(msgspec.structs.replace(container, id=f"{round_ + 1:064x}"), None)
    assert len(rig.lines._kept) <= 100


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (RunState(phase=Phase.RUNNING, started_ns=10**9), "Up 59 seconds (health: starting)"),
        (RunState(phase=Phase.PAUSED, started_ns=10**9), "Up 59 seconds (Paused)"),
        (RunState(phase=Phase.RESTARTING, finished_ns=59 * 10**9, exit_code=1), "Restarting (1) 1 second ago"),
        (RunState(phase=Phase.REMOVING), "Removal In Progress"),
        (RunState(phase=Phase.DEAD), "Dead"),
        (RunState(phase=Phase.CREATED), "Created"),
        (RunState(phase=Phase.STARTING, started_ns=1, finished_ns=10**9, exit_code=2), "Exited (2) 59 seconds ago"),
    ],
)
def test_status(rig: Rig, state: RunState, text: str) -> None:
    container = msgspec.structs.replace(rig.add("one"), state=state, health=Health(status="starting"))
    assert status_text(container, now=60.0) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (3599, "59 minutes"),
     (3600, "About an hour"), (47 * 3600, "47 hours"), (48 * 3600, "2 days"), (14 * 86400, "2 weeks"),
     (60 * 86400, "2 months"), (800 * 86400, "2 years")],
)  # fmt: skip
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text
