"""Ports of containers: what is asked for of a host's ports, and what inspect and list show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyd_contracts.values import PublishedPort
from pyd_engine.containers.container import Container
from pyd_engine.networks.records import PortWish

__all__ = ["bound", "listed", "wishes"]


def wishes(container: Container) -> tuple[PortWish, ...]:
    """``PortBindings``, and with ``PublishAllPorts`` a port of the kernel's choice for every other exposed one.

    Clients write a range port by port; here it is one wish again.
    """
    host = container.host_config
    found: list[_Line] = []
    for spec, bindings in (host.port_bindings or {}).items():
        for binding in bindings or ():
            first, _, last = binding.host_port.partition("-")
            low = int(first or 0)
            width = int(last or first) - low if low else _ANY
            found += [(kind, binding.host_ip, low - port, width, port) for kind, port in _expanded(spec)]
    if host.publish_all_ports:
        asked = {each for spec in host.port_bindings or {} for each in _expanded(spec)}
        for spec in container.config.exposed_ports or {}:
            found += [(kind, "", 0, _ANY, port) for kind, port in _expanded(spec) if (kind, port) not in asked]
    return _in_sequence(found)


_Line = tuple[str, str, int, int, int]
"""Protocol, host, distance from the container's port to the host's first one, how many more will do as well, and the
container's port. What is in sequence differs in the last part alone, by one."""
_ANY = -1
"""Any port of the host will do."""


def _in_sequence(found: list[_Line]) -> tuple[PortWish, ...]:
    """Neighbours on both sides become one; each stands where its first one stood."""
    joined: list[tuple[int, _Line, int]] = []  # place, first, count
    for each, place in sorted(zip(found, range(len(found)), strict=True)):
        protocol, host, distance, width, port = each
        if joined and not width:
            before, first, count = joined[-1]
            if (protocol, host, distance, width, port - count) == first:
                joined[-1] = min(before, place), first, count + 1
                continue
        joined.append((place, each, 1))
    return tuple(
        PortWish(protocol, port, host)
        if width == _ANY
        else PortWish(protocol, port, host, port + distance, port + distance + width, count)
        for _, (protocol, host, distance, width, port), count in sorted(joined)
    )


def bound(container: Container, published: Iterable[PublishedPort]) -> dict[str, list[dict[str, str]] | None]:
    """``NetworkSettings.Ports`` while it runs: every exposed or published port, with its places on this host."""
    found: dict[str, list[dict[str, str]] | None] = {f"{port}/{kind}": None for kind, port in _exposed(container)}
    for each, step in _singly(published):
        key = f"{each.container_port + step}/{each.protocol}"
        place = {"HostIp": str(each.host), "HostPort": str(each.host_port + step)}
        found[key] = [*(found.get(key) or ()), place]
    return found


def listed(container: Container, published: Iterable[PublishedPort]) -> list[dict[str, Any]]:
    """``Ports`` of a line of ``docker ps``."""
    there = list(_singly(published))
    known = {(each.protocol, each.container_port + step) for each, step in there}
    only_exposed = [
        {"PrivatePort": port, "Type": kind} for kind, port in _exposed(container) if (kind, port) not in known
    ]
    return only_exposed + [
        {
            "IP": str(each.host), "PrivatePort": each.container_port + step, "PublicPort": each.host_port + step,
            "Type": each.protocol,
        }
        for each, step in there
    ]  # fmt: skip


def _singly(published: Iterable[PublishedPort]) -> Iterator[tuple[PublishedPort, int]]:
    """Each port, and the which of its sequence."""
    return ((each, step) for each in published for step in range(each.count))


def _exposed(container: Container) -> Iterator[tuple[str, int]]:
    specs = dict.fromkeys((*(container.config.exposed_ports or {}), *(container.host_config.port_bindings or {})))
    for spec in specs:
        yield from _expanded(spec)


def _expanded(spec: str) -> Iterator[tuple[str, int]]:
    """``80``, ``80/udp``, ``80-90/tcp``."""
    ports, _, protocol = spec.partition("/")
    first, _, last = ports.partition("-")
    for port in range(int(first), int(last or first) + 1):
        yield (protocol or "tcp").lower(), port
