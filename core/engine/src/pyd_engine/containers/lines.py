"""Containers as lists show them: ContainerSummary.

``docker ps``, dashboards and agents ask for all containers again and again, and little changes in between. What follows from a
container's record and its places on networks is made once for these; both are immutable, so that they are the same objects
tells that the answer is the same, too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from pyd_engine.containers import ports
from pyd_engine.containers.connector import Connector
from pyd_engine.containers.container import Container, Phase
from pyd_engine.containers.links import Links
from pyd_engine.containers.mounts import ContainerMounts
from pyd_engine.containers.store import ContainerStore
from pyd_engine.networks.records import EndpointRecord

__all__ = ["Lines", "status_text"]


class _Kept(NamedTuple):
    container: Container
    places: Sequence[EndpointRecord]
    document: dict[str, Any]


class Lines:
    """Builds what list answers."""

    def __init__(self, store: ContainerStore, mounts: ContainerMounts, networks: Connector, links: Links) -> None:
        self._store = store
        self._mounts = mounts
        self._networks = networks
        self._links = links
        self._kept: dict[str, _Kept] = {}

    def line(self, container: Container, sizes: tuple[int, int] | None) -> dict[str, Any]:
        """One line of ``docker ps``. *sizes*: of the writable layer and of all layers, where they were asked for."""
        places = self._networks.places(container.id)
        kept = self._kept.get(container.id)
        if kept is None or kept.container is not container or kept.places != places:
            kept = _Kept(container, places, self._lasting(container))
            self._keep(kept)
        document = kept.document.copy()
        document["Status"] = status_text(container)
        if container.mounts:
            document["Mounts"] = self._mounts.points(container)
        if names := self._links.names(container):
            document["Names"] = [*document["Names"], *names]
        if len(places) < len(container.endpoints):  # a network of these may be removed, and another one get its name
            document["NetworkSettings"] = {"Networks": self._networks.shown(container)}
        if sizes is not None:
            document["SizeRw"], document["SizeRootFs"] = sizes
        return document

    def _lasting(self, container: Container) -> dict[str, Any]:
        """What stays as long as record and places do, and the other keys where Docker has them."""
        phase = container.state.phase
        return {
            "Id": container.id,
            "Names": [f"/{container.name}"],
            "Image": container.image_ref or container.image,
            "ImageID": container.image,
            "Command": " ".join((container.path, *(_quoted(each) for each in container.args))),
            "Created": container.created_ns // 1_000_000_000,
            "Ports": ports.listed(container, self._networks.published(container))
            if phase.alive and self._networks.publishes(container)
            else [],
            "Labels": container.config.labels or {},
            "State": container.shown_phase,
            "Status": "",
            "HostConfig": {"NetworkMode": container.host_config.network_mode},
            "NetworkSettings": {"Networks": self._networks.shown(container)},
            "Mounts": [],
        }

    def _keep(self, kept: _Kept) -> None:
        self._kept[kept.container.id] = kept
        if len(self._kept) > 2 * len(self._store) + 100:
            self._kept = {key: each for key, each in self._kept.items() if self._store.find(key) is not None}


def _quoted(argument: str) -> str:
    """As dockerd shows a command: an argument with a blank in it stands in quotes."""
    return f"'{argument}'" if " " in argument else argument


def status_text(container: Container, now: float | None = None) -> str:
    """``Up 3 minutes``, ``Exited (0) 2 hours ago``: dockerd's State.String."""
    state, now = container.state, time.time() if now is None else now
    if state.phase is Phase.RUNNING:
        status = container.health.status if container.health is not None else ""
        word = f" (health: {status})" if status == "starting" else f" ({status})" if status else ""
        return f"Up {human_duration(now - state.started_ns / 1e9)}{word}"
    if state.phase is Phase.PAUSED:
        return f"Up {human_duration(now - state.started_ns / 1e9)} (Paused)"
    if container.shown_phase == Phase.RESTARTING.value:
        return f"Restarting ({state.exit_code}) {human_duration(now - state.finished_ns / 1e9)} ago"
    if state.phase is Phase.REMOVING:
        return "Removal In Progress"
    if state.phase is Phase.DEAD:
        return "Dead"
    if not state.started_ns or not state.finished_ns:
        return "Created"
    return f"Exited ({state.exit_code}) {human_duration(now - state.finished_ns / 1e9)} ago"


def human_duration(seconds: float) -> str:
    """go-units' HumanDuration."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"
