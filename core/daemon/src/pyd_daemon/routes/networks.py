"""Networks: listed, looked at, made, removed."""

from __future__ import annotations

from aiohttp import web

from pyd_contracts.errors import InvalidArgument
from pyd_daemon.routing import Call, Route
from pyd_daemon.wire.requests import NetworkCreate
from pyd_daemon.wire.responses import NetworkCreated

__all__ = ["ROUTES"]

_LIST_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PRUNE_FILTERS = frozenset({"label", "label!", "until"})


async def list_(call: Call) -> web.StreamResponse:
    """Networks."""
    return call.json(await call.backends.networks.list(filters=call.filters(_LIST_FILTERS)))


async def inspect(call: Call) -> web.StreamResponse:
    """One network, with its containers."""
    return call.json(await call.backends.networks.inspect(call.name))


async def create(call: Call) -> web.StreamResponse:
    """Make a network."""
    request = await call.read(NetworkCreate)
    if request is None or not request.name.strip():
        raise InvalidArgument("create a network: the body must be a JSON object with a Name")
    network_id, warning = await call.backends.networks.create(request)
    return call.json(NetworkCreated(network_id, warning), status=201)


async def remove(call: Call) -> web.StreamResponse:
    """Remove a network that no container uses."""
    await call.backends.networks.remove(call.name)
    return call.empty()


async def connect(call: Call) -> web.StreamResponse:
    """Give a container a place on a network."""
    await call.backends.containers.connect(call.name, await call.body())
    return call.empty(200)


async def disconnect(call: Call) -> web.StreamResponse:
    """Take it away."""
    await call.backends.containers.disconnect(call.name, await call.body())
    return call.empty(200)


async def prune(call: Call) -> web.StreamResponse:
    """Remove what no container uses."""
    return call.json(await call.backends.networks.prune(call.filters(_PRUNE_FILTERS)))


async def rules(call: Call) -> web.StreamResponse:
    """Of our own: which rules let packets in to containers, or keep them out."""
    container = call.text("container")
    if container:
        container = (await call.backends.containers.inspect(container, size=False))["Id"]
    return call.json(await call.backends.networks.rules(container, call.text("port")))


ROUTES = (
    Route("GET", "/networks", list_),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/prune", prune),
    Route("GET", "/networks/{id}", inspect),
    Route("POST", "/networks/{id}/connect", connect),
    Route("POST", "/networks/{id}/disconnect", disconnect),
    Route("DELETE", "/networks/{id}", remove),
    Route("GET", "/pyd/rules", rules),
)
