"""Legacy links (``--link``): a container on the default network finds another one by names in its /etc/hosts and by variables.

The texts, names and their order are moby's (links/links.go, daemon/container_operations_unix.go). On networks that users make a
link is an alias that only the linking container sees (`Connector.serve_names`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from pyd_contracts.errors import Conflict, InvalidArgument, NotFound
from pyd_engine.containers.connector import Connector
from pyd_engine.containers.container import Container
from pyd_engine.containers.host_config import HostConfig
from pyd_engine.containers.store import ContainerStore

__all__ = ["Linked", "Links", "parse_link", "register", "variables"]

DEFAULT_NETWORK = "bridge"
_BUILD_ONLY = ("HOME", "PATH")
_Port = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Linked:
    """A running container that another one is linked to: what it is called there, and its address."""

    alias: str
    container: Container
    address: str

    @property
    def names(self) -> str:
        """As they stand in /etc/hosts."""
        names = [self.alias, self.container.config.hostname or self.container.short]
        return " ".join(names if self.alias == self.container.name else [*names, self.container.name])


def parse_link(link: str) -> tuple[str, str]:
    """``name[:alias]``; inspect's ``/name:/parent/alias`` too. Raises InvalidArgument in Docker's words."""
    if not link:
        raise InvalidArgument("empty string specified for links")
    name, colon, alias = link.partition(":")
    if ":" in alias:
        raise InvalidArgument(f"bad format for links: {link}")
    if not colon:
        return name, name
    if name.startswith("/"):
        return name[1:], alias.rpartition("/")[2]
    return name, alias


def register(store: ContainerStore, host_config: HostConfig) -> dict[str, str]:
    """Aliases of a new container and the ids of those they stand for; on networks that users make links are something else
    (`Connector.serve_names`). Raises InvalidArgument."""
    found: dict[str, str] = {}
    if host_config.network_mode not in ("", "default", DEFAULT_NETWORK, "none", "host"):
        return found
    for link in host_config.links or ():
        name, alias = parse_link(link)
        try:
            child = store.get(name)
            while child.host_config.network_mode.startswith("container:"):
                child = store.get(child.host_config.network_mode.partition(":")[2])
        except NotFound as error:  # it would mean the image to clients
            raise InvalidArgument(f"could not get container for {name}: {error}") from error
        if child.host_config.network_mode == "host":
            raise InvalidArgument(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
            )
        found[alias] = child.id
    return found


class Links:
    """Who is linked to whom, as the records and the networks have it now."""

    def __init__(self, store: ContainerStore, networks: Connector) -> None:
        self._store = store
        self._networks = networks

    def _children(self, container: Container) -> list[tuple[str, Container]]:
        """Aliases and containers; those that were removed are links no more."""
        found = [(alias, self._store.find(child)) for alias, child in container.links.items()]
        return [(alias, child) for alias, child in found if child is not None]

    def of(self, container: Container) -> list[Linked]:
        """Those that it finds now."""
        if DEFAULT_NETWORK not in container.endpoints:
            return []
        return [
            Linked(alias, child, address)
            for alias, child in self._children(container)
            if (address := self._networks.address(child, DEFAULT_NETWORK))
        ]

    def variables(self, container: Container) -> list[str]:
        """The variables that tell of those it finds now: of its first process at a start, of a further one at its own."""
        return variables(container, self.of(container))

    def check(self, container: Container) -> None:
        """Before a start. Raises Conflict, in dockerd's words."""
        if DEFAULT_NETWORK not in container.endpoints:
            return
        for alias, child in self._children(container):
            if not child.state.phase.alive:
                raise Conflict(f"Cannot link to a non running container: /{child.name} AS /{container.name}/{alias}")
            if DEFAULT_NETWORK not in child.endpoints:
                raise Conflict(f"Cannot link to /{child.name}, as it does not belong to the default network")

    def shown(self, container: Container) -> list[str] | None:
        """``HostConfig.Links`` of inspect."""
        return [f"/{child.name}:/{container.name}/{alias}" for alias, child in self._children(container)] or None

    def names(self, child: Container) -> list[str]:
        """What others call it: ``/parent/alias``."""
        found = [
            (parent, alias)
            for parent in self._store.parents(child.id)
            for alias, of in parent.links.items()
            if of == child.id
        ]
        return [f"/{parent.name}/{alias}" for parent, alias in found]

    def parents(self, child: Container) -> list[Container]:
        """Those that run and have a link to it."""
        return [parent for parent in self._store.parents(child.id) if parent.state.phase.alive]

    def remove(self, name: str) -> Container:
        """Take ``parent/alias`` away; the parent without it. Raises as dockerd's ``rm --link`` does."""
        parent, _, alias = name.strip("/").rpartition("/")
        if not parent:
            raise Conflict("Conflict, cannot remove the default link name of the container")

        def without(container: Container) -> Container:
            left = {key: child for key, child in container.links.items() if key != alias}
            return msgspec.structs.replace(container, links=left)

        return self._store.change(self._store.get(parent).id, without)


def variables(parent: Container, linked: Sequence[Linked]) -> list[str]:
    """The variables that tell of links."""
    found: list[str] = []
    for each in linked:
        found += _variables(f"/{parent.name}/{each.alias}", each)
    return found


def _variables(name: str, linked: Linked) -> list[str]:
    prefix = linked.alias.upper().replace("-", "_")
    ports = sorted(
        map(_port, linked.container.config.exposed_ports or {}), key=lambda port: (port[1], port[0] != "tcp", port[0])
    )
    found = []
    if ports:
        protocol, number = ports[0]
        found.append(f"{prefix}_PORT={protocol}://{linked.address}:{number}")
    index = 0
    while index < len(ports):
        last = _last_of_row(ports, index)
        if last > index + 1:
            found += _row(prefix, linked.address, ports[index], ports[last])
            index = last
        index += 1
    for protocol, number in ports:
        key = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found += [
            f"{key}={protocol}://{linked.address}:{number}", f"{key}_ADDR={linked.address}", f"{key}_PORT={number}",
            f"{key}_PROTO={protocol}",
        ]  # fmt: skip
    found.append(f"{prefix}_NAME={name}")
    for variable in linked.container.config.env or ():
        key, equals, value = variable.partition("=")
        if equals and key not in _BUILD_ONLY:
            found.append(f"{prefix}_ENV_{key}={value}")
    return found


def _port(spec: str) -> _Port:
    number, _, protocol = spec.partition("/")
    return (protocol or "tcp").lower(), int(number.partition("-")[0])


def _last_of_row(ports: Sequence[_Port], index: int) -> int:
    """Where a row of numbers that follow one another ends."""
    value = ports[index][1]
    for place in range(index + 1, len(ports)):
        if ports[place][1] > value + 1:
            return place - 1
        value += 1
    return len(ports) - 1


def _row(prefix: str, address: str, first: _Port, last: _Port) -> list[str]:
    key = f"{prefix}_PORT_{first[1]}_{first[0].upper()}"
    return [
        f"{key}_START={first[0]}://{address}:{first[1]}", f"{key}_ADDR={address}", f"{key}_PROTO={first[0]}",
        f"{key}_PORT_START={first[1]}", f"{key}_END={last[0]}://{address}:{last[1]}", f"{key}_PORT_END={last[1]}",
    ]  # fmt: skip
