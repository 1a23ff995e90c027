"""The networks service as the routes use it: requests decoded, filters applied, events told, hooks in threads."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from pyd_contracts.errors import InvalidArgument, NotFound, PydError
from pyd_contracts.values import Passage, PublishedPort
from pyd_daemon.backends import Filters, Json
from pyd_daemon.wire.requests import IpamPool, NetworkCreate
from pyd_engine.filters import boolean, like
from pyd_engine.networks.creation import NetworkRequest
from pyd_engine.networks.explanations import Explanations
from pyd_engine.networks.records import NetworkRecord, SubnetRequest
from pyd_engine.networks.service import Networks
from pyd_engine.networks.views import network_resource

__all__ = ["NetworksFace"]

Emit = Callable[[str, str, str, Mapping[str, str]], object]


class NetworksFace:
    """Satisfies `backends.Networks`."""

    def __init__(self, networks: Networks, explanations: Explanations, emit: Emit) -> None:
        self._networks = networks
        self._explanations = explanations
        self._emit = emit

    async def list(self, *, filters: Filters) -> Sequence[Json]:
        """``GET /networks``. Containers are listed by inspect only, as dockerd has it."""
        for kind in filters.get("type", ()):
            if kind not in ("builtin", "custom"):
                raise InvalidArgument(f"invalid filter: 'type'='{kind}'")
        wanted = [each for each in self._networks.list() if self._wanted(each, filters)]
        return [network_resource(each) for each in wanted]

    async def inspect(self, ref: str) -> Json:
        """``GET /networks/{id}``, with the containers on it."""
        record = self._networks.get(ref)
        return network_resource(record, self._networks.endpoints(record.id))

    async def create(self, request: NetworkCreate) -> tuple[str, str]:
        """``POST /networks/create``: the new network's id, and a warning (empty if none)."""
        ipam = request.ipam
        record = await asyncio.to_thread(
            self._networks.create,
            NetworkRequest(
                name=request.name,
                driver=request.driver or "bridge",
                subnets=tuple(_subnet(each) for each in (ipam.config if ipam else None) or ()),
                options=request.options or {},
                labels=request.labels or {},
                internal=request.internal,
                attachable=request.attachable,
                ipv4=request.enable_ipv4 is not False,
                ipv6=bool(request.enable_ipv6),
                ipam_driver=(ipam.driver if ipam else "") or "default",
                ipam_options=(ipam.options if ipam else None) or {},
                ingress=request.ingress,
                scope=request.scope,
                config_only=request.config_only,
                config_from=request.config_from.network if request.config_from else "",
            ),
        )
        self._tell("create", record)
        return record.id, ""

    async def remove(self, ref: str) -> None:
        """``DELETE /networks/{id}``."""
        self._tell("destroy", await asyncio.to_thread(self._networks.remove, ref))

    async def prune(self, filters: Filters) -> Json:
        """``POST /networks/prune``: what no container uses and is not predefined."""
        until = _until(filters)
        removed = []
        for record in self._networks.list():
            unused = not record.predefined and not self._networks.endpoints(record.id)
            if unused and _labelled(record, filters) and (until is None or record.created < until):
                try:
                    await self.remove(record.id)
                except PydError:  # a container came to it meanwhile, or somebody else removed it
                    continue
                removed.append(record.name)
        self._emit("network", "prune", "", {"reclaimed": "0"})
        return {"NetworksDeleted": removed or None}

    async def rules(self, container: str, port: str) -> Json:
        """``GET /pyd/rules``. Raises NotFound when no container publishes *port* (``8080``, ``53/udp``)."""
        endpoints = self._explanations.endpoints(*_port(port)) if port else self._explanations.endpoints()
        if port and not endpoints:
            raise NotFound(f"no container publishes port {port} of this host")
        known = {each.container: each.container_name for each in endpoints if container in ("", each.container)}
        found = await asyncio.to_thread(lambda: {each: self._explanations.of(each) for each in known})
        return {"Containers": [_explained(each, known[each], rules) for each, rules in found.items()]}

    def _tell(self, action: str, record: NetworkRecord) -> None:
        self._emit("network", action, record.id, {"name": record.name, "type": record.driver})

    def _wanted(self, record: NetworkRecord, filters: Filters) -> bool:
        kind = "builtin" if record.predefined else "custom"
        if not like(record.name, filters.get("name", ())):
            return False
        if (ids := filters.get("id")) and not any(record.id.startswith(each) for each in ids):
            return False
        if (drivers := filters.get("driver")) and network_resource(record)["Driver"] not in drivers:
            return False
        if (scopes := filters.get("scope")) and "local" not in scopes:
            return False
        if (kinds := filters.get("type")) and kind not in kinds:
            return False
        if (dangling := boolean(filters, "dangling")) is not None:
            unused = not record.predefined and not self._networks.endpoints(record.id)
            if unused is not dangling:
                return False
        return _labelled(record, filters)


def _port(text: str) -> tuple[str, int]:
    number, _, protocol = text.partition("/")
    if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536:
        raise InvalidArgument(f"port {text!r}: write 8080 or 53/udp")
    return protocol.lower(), int(number)


def _explained(container: str, name: str, rules: Sequence[tuple[NetworkRecord, Sequence[Passage]]]) -> Json:
    return {
        "Id": container,
        "Name": name,
        "Networks": [
            {
                "Name": network.name,
                "Driver": network.driver,
                "Passages": [
                    {
                        "Sender": each.sender, "Target": each.target, "Allowed": each.allowed, "Reason": each.reason,
                        "Rule": each.rule, "Port": _published(each.port),
                    }
                    for each in passages
                ],
            }
            for network, passages in rules
        ],
    }  # fmt: skip


def _published(port: PublishedPort | None) -> Json | None:
    if port is None:
        return None
    return {
        "Protocol": port.protocol, "HostIp": str(port.host), "HostPort": port.host_port,
        "ContainerPort": port.container_port, "Count": port.count,
    }  # fmt: skip


def _subnet(pool: IpamPool) -> SubnetRequest:
    return SubnetRequest(
        subnet=pool.subnet,
        ip_range=pool.ip_range,
        gateway=pool.gateway,
        auxiliary=pool.auxiliary_addresses or {},
    )


def _labelled(record: NetworkRecord, filters: Filters) -> bool:
    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in record.labels and (not equals or record.labels[key] == value)

    return all(map(has, filters.get("label", ()))) and not any(map(has, filters.get("label!", ())))


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|h|m|s))+")


def _until(filters: Filters) -> float | None:
    """Seconds since the epoch: the filter is a Go duration before now, a unix time, or an RFC 3339 date."""
    values = filters.get("until")
    if not values:
        return None
    text = values[0]
    if _DURATION.fullmatch(text):
        parts = re.findall(r"([0-9.]+)(ms|h|m|s)", text)
        return time.time() - sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        return float(text) if re.fullmatch(r"[0-9.]+", text) else datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise InvalidArgument(f"invalid filter 'until={text}': say a duration (24h), a unix time or a date") from error
