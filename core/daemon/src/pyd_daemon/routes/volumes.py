"""Volumes: listed, looked at, made, removed."""

from __future__ import annotations

from aiohttp import web

from pyd_contracts.errors import InvalidArgument, Unavailable
from pyd_daemon.routing import Call, Route
from pyd_daemon.wire.requests import VolumeCreate

__all__ = ["ROUTES"]

_LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS = frozenset({"all", "label", "label!"})


async def list_(call: Call) -> web.StreamResponse:
    """Volumes."""
    return call.json(await call.backends.volumes.list(filters=call.filters(_LIST_FILTERS)))


async def inspect(call: Call) -> web.StreamResponse:
    """One volume."""
    return call.json(await call.backends.volumes.inspect(call.name))


async def create(call: Call) -> web.StreamResponse:
    """Make a volume."""
    request = await call.read(VolumeCreate)
    if request is None:
        raise InvalidArgument("create a volume: the body must be a JSON object")
    if request.cluster_volume_spec is not None:
        raise Unavailable("create a cluster volume: this node is not a swarm manager")
    return call.json(await call.backends.volumes.create(request), status=201)


async def update(_call: Call) -> web.StreamResponse:
    """Cluster volumes are the only ones that can be updated."""
    raise Unavailable("update a volume: only cluster volumes can be updated, and this node is not a swarm manager")


async def remove(call: Call) -> web.StreamResponse:
    """Remove a volume that no container has."""
    await call.backends.volumes.remove(call.name, force=call.flag("force"))
    return call.empty()


async def prune(call: Call) -> web.StreamResponse:
    """Remove volumes that no container has; since 1.42 those without a name only, unless told ``all``."""
    filters = call.filters(_PRUNE_FILTERS)
    words = [word.lower() for word in filters.pop("all", [])]
    if any(word not in {"1", "t", "true", "0", "f", "false"} for word in words):
        raise InvalidArgument(f"invalid filter 'all={words[0]}'")
    named = not call.since(42) or any(word in {"1", "t", "true"} for word in words)
    return call.json(await call.backends.volumes.prune(filters, named=named))


ROUTES = (
    Route("GET", "/volumes", list_),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune),
    Route("GET", "/volumes/{id}", inspect),
    Route("PUT", "/volumes/{id}", update),
    Route("DELETE", "/volumes/{id}", remove),
)
