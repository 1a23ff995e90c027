"""Builds: images out of a recipe and a context, and the cache of their steps."""

from __future__ import annotations

from aiohttp import web

from pyd_daemon import requests
from pyd_daemon.routing import Call, Route
from pyd_daemon.streams import send_objects
from pyd_daemon.wire.builds import read_build

__all__ = ["ROUTES"]


async def build(call: Call) -> web.StreamResponse:
    """Build an image of the archive in the body, or of what ``remote`` names; records, one per line."""
    request = read_build(call.request.query)
    auths = requests.registry_config(call.request.headers.get("X-Registry-Config"))
    records = call.backends.builds.build(request, auths, requests.stream_body(call.request))
    return await send_objects(call.request, records, call.headers)


async def prune(call: Call) -> web.StreamResponse:
    """Forget steps that were done."""
    return call.json(await call.backends.builds.prune(call.filters(None), all_=call.flag("all")))


ROUTES = (
    Route("POST", "/build", build),
    Route("POST", "/build/prune", prune),
)
