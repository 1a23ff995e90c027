"""Networks of containers that are there: connect and disconnect, running or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from pyd_contracts.errors import Conflict, InvalidArgument, NotFound, PermissionDenied
from pyd_engine.containers.config import EndpointSettings
from pyd_engine.containers.container import Container, Phase
from pyd_engine.containers.decoding import fit, parse
from pyd_engine.containers.lifecycle import Lifecycle
from pyd_engine.containers.records import Record

__all__ = ["Connecting"]

_PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


class _Connect(Record, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /networks/{id}/connect``."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class _Disconnect(Record, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /networks/{id}/disconnect``."""

    container: str = ""
    force: bool = False


class Connecting:
    """The operations. *name_of* gives a network's own name; *tell* publishes (action, network, container)."""

    def __init__(
        self, life: Lifecycle, name_of: Callable[[str], str], tell: Callable[[str, str, Container], None]
    ) -> None:
        self._life = life
        self._name_of = name_of
        self._tell = tell

    async def connect(self, network: str, body: bytes) -> None:
        """Give a container a place on a network, at once if it runs, else at its next start. Whole or not at all."""
        asked = fit(parse(body), _Connect)
        name = self._name_of(network)
        container = self._life.store.get(_named(asked.container))
        async with self._life.lock(container.id):
            container = self._life.store.get(container.id)
            wishes = asked.endpoint_config or EndpointSettings()
            self._check(container, name)
            if container.state.phase.alive:
                if name in container.endpoints:
                    raise PermissionDenied(f"endpoint with name {container.name} already exists in network {name}")
                changed = _with(container, name, wishes)
                await asyncio.to_thread(self._life.runner.connect, changed, name, wishes, _netns(container))
            else:
                await asyncio.to_thread(self._life.runner.refuse, _with(container, name, wishes), name, wishes)
            self._life.store.change(container.id, lambda c: _with(c, name, wishes))
        if container.state.phase.alive:
            self._tell("connect", name, container)

    async def disconnect(self, network: str, body: bytes) -> None:
        """Take a container's place on a network away."""
        asked = fit(parse(body), _Disconnect)
        name = self._name_for(network, asked.container)
        try:
            container = self._life.store.get(_named(asked.container))
        except NotFound as error:
            if asked.force:  # dockerd looks for the place of a container that is gone; here places go with containers
                raise NotFound(f"endpoint {asked.container} not found") from error
            raise
        async with self._life.lock(container.id):
            container = self._life.store.get(container.id)
            if container.host_config.network_mode == "host":
                raise PermissionDenied(
                    "container cannot be disconnected from host network or connected to host network"
                )
            if name not in container.endpoints:
                where = f"network {name}" if container.state.phase.alive else f"the network {name}"
                raise PermissionDenied(f"container {container.id} is not connected to {where}")
            if container.state.phase.alive:
                changed = _without(container, name)
                await asyncio.to_thread(self._life.runner.disconnect, changed, name, _netns(container))
            self._life.store.change(container.id, lambda c: _without(c, name))
        if container.state.phase.alive:
            self._tell("disconnect", name, container)

    def _name_for(self, network: str, container: str) -> str:
        """A network's own name. One that was removed since still has a place in containers that do not run."""
        try:
            return self._name_of(network)
        except NotFound:
            try:
                known = self._life.store.get(_named(container))
            except NotFound:
                known = None
            if known is not None and network in known.endpoints and not known.state.phase.alive:
                return network
            raise

    @staticmethod
    def _check(container: Container, name: str) -> None:
        mode = container.host_config.network_mode
        if container.state.phase in (Phase.REMOVING, Phase.DEAD):
            raise Conflict(
                f"container {container.id} is marked for removal and cannot be connected or disconnected to the network"
            )
        if mode.startswith("container:") or (mode == "host" and name != "host"):
            raise PermissionDenied(
                "container sharing network namespace with another container or host cannot be connected to any other network"
            )
        if name == "host":
            raise PermissionDenied("container cannot be disconnected from host network or connected to host network")
        if (name == "none") is not ("none" in container.endpoints) and container.endpoints:
            raise PermissionDenied(_PRIVATE)


def _named(ref: str) -> str:
    if not ref:
        raise InvalidArgument("the body must name a Container")
    return ref


def _netns(container: Container) -> Path:
    return Path(f"/proc/{container.state.pid}/ns/net")


def _with(container: Container, name: str, wishes: EndpointSettings) -> Container:
    return msgspec.structs.replace(container, endpoints={**container.endpoints, name: wishes})


def _without(container: Container, name: str) -> Container:
    return msgspec.structs.replace(
        container, endpoints={key: value for key, value in container.endpoints.items() if key != name}
    )
