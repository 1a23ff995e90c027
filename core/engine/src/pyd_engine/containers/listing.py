"""``docker ps``: which containers a list shows, by Docker's filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import PublishedPort
from pyd_engine.containers.container import Container, Phase
from pyd_engine.containers.store import ContainerStore
from pyd_engine.filters import boolean, like

__all__ = ["select"]

_KNOWN = frozenset(
    "ancestor before exited expose health id is-task isolation label name network publish since status volume".split()
)
_HEALTHS = frozenset("none starting healthy unhealthy".split())
_STATES = frozenset("created restarting running removing paused exited dead".split())


def select(
    store: ContainerStore, published: Callable[[Container], Iterable[PublishedPort]],
    network_ids: Callable[[Container], Iterable[str]], family: Callable[[str], Collection[str]], *, all_: bool, limit: int,
    filters: Mapping[str, Sequence[str]],
) -> list[Container]:  # fmt: skip
    """The containers a list shows, newest first; *published* gives the ports of one, *network_ids* where it is, *family* an
    image and all that were made of it. Raises InvalidArgument for a filter or value that does not exist.

    ``isolation`` is for Windows, and passed over as dockerd does.
    """
    unknown = sorted(set(filters) - _KNOWN)
    if unknown:
        raise InvalidArgument(f"invalid filter '{unknown[0]}'")
    for value in filters.get("status", ()):
        if value not in _STATES:
            raise InvalidArgument(f"invalid filter 'status={value}'")
    for value in filters.get("health", ()):
        if value not in _HEALTHS:
            raise InvalidArgument(f"unrecognized filter value for health: {value}")
    for value in filters.get("exited", ()):
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", value):
            raise InvalidArgument(f"invalid filter 'exited={value}'")
    ports = {key: [_range(key, value) for value in filters.get(key, ())] for key in ("publish", "expose")}
    task = boolean(filters, "is-task")
    containers = sorted(store.all(), key=lambda each: each.created_ns, reverse=True)
    containers = [each for each in containers if each.state.phase is not Phase.CREATING]
    if limit > 0 or "status" in filters:
        all_ = True
    if not all_:
        containers = [
            each for each in containers if each.state.phase.alive or each.shown_phase == Phase.RESTARTING.value
        ]
    for key in ("before", "since"):
        for ref in filters.get(key, ()):
            edge = store.get(ref).created_ns
            containers = [
                each for each in containers if (each.created_ns < edge if key == "before" else each.created_ns > edge)
            ]
    if task:
        return []  # of a swarm
    containers = [each for each in containers if _matches(each, filters)]
    if filters.get("ancestor"):
        images = {image for ref in filters["ancestor"] for image in family(ref)}
        containers = [each for each in containers if each.image in images]
    if filters.get("network"):
        refs = filters["network"]
        containers = [each for each in containers if _is_on(each, network_ids(each), refs)]
    if any(ports.values()):
        containers = [
            each for each in containers if _has_port(each, published(each), ports["publish"], ports["expose"])
        ]
    return containers[:limit] if limit > 0 else containers


def _matches(container: Container, filters: Mapping[str, Sequence[str]]) -> bool:
    for key, values in filters.items():
        matcher = _MATCHERS.get(key)
        if values and matcher is not None and not matcher(container, values):
            return False
    return True


_Range = tuple[int, int, str]


def _range(key: str, value: str) -> _Range:
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([a-z]+))?", value)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
    if match is None or not first <= last < 65536:
        raise InvalidArgument(f"invalid filter '{key}={value}': expected a port, or first-last, and /protocol")
    return first, last, match[3] or "tcp"


def _is_on(container: Container, ids: Iterable[str], refs: Sequence[str]) -> bool:
    return any(ref in container.endpoints for ref in refs) or any(
        identity.startswith(ref) for identity in ids for ref in refs
    )


def _has_port(
    container: Container, published: Iterable[PublishedPort], outside: Sequence[_Range], inside: Sequence[_Range]
) -> bool:
    """One of those published, or one of those exposed: dockerd asks for either when both are asked for."""
    if any(_is_among(port, outside) for port in published):
        return True
    if not container.state.phase.alive:
        return False  # it has no ports now
    exposed = [_range("expose", port) for port in container.config.exposed_ports or {}]
    return any(
        first <= highest and lowest <= last and protocol == of
        for first, last, protocol in inside
        for lowest, highest, of in exposed
    )


def _is_among(port: PublishedPort, wanted: Iterable[tuple[int, int, str]]) -> bool:
    highest = port.host_port + port.count - 1
    return any(
        first <= highest and port.host_port <= last and port.protocol == protocol for first, last, protocol in wanted
    )


def _by_status(container: Container, values: Sequence[str]) -> bool:
    return container.shown_phase in values


def _by_exited(container: Container, values: Sequence[str]) -> bool:
    return container.state.phase is Phase.EXITED and container.state.exit_code in map(int, values)


def _by_label(container: Container, values: Sequence[str]) -> bool:
    labels = container.config.labels or {}
    for value in values:
        key, equals, wanted = value.partition("=")
        if key not in labels or (equals and labels[key] != wanted):
            return False
    return True


def _by_name(container: Container, values: Sequence[str]) -> bool:
    """With and without its slash, as people write it."""
    return like(f"/{container.name}", values) or like(container.name, values)


def _by_volume(container: Container, values: Sequence[str]) -> bool:
    return any(value in (bind.source, bind.destination) for value in values for bind in container.mounts)


_Matcher = Callable[[Container, Sequence[str]], bool]
_MATCHERS: dict[str, _Matcher] = {
    "status": _by_status,
    "exited": _by_exited,
    "label": _by_label,
    "name": _by_name,
    "id": lambda container, values: any(value and container.id.startswith(value) for value in values),
    "volume": _by_volume,
    "health": lambda container, values: (container.health.status if container.health else "none") in values,
}
