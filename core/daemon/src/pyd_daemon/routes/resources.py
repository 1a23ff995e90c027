"""What containers use, and what they may use."""

from __future__ import annotations

from aiohttp import web

from pyd_contracts.errors import InvalidArgument
from pyd_daemon.routing import Call, Route
from pyd_daemon.streams import send_objects

__all__ = ["ROUTES"]


async def stats(call: Call) -> web.StreamResponse:
    """Figures: one document, or one each second."""
    stream, one_shot = call.flag("stream", True), call.flag("one-shot")
    if stream and one_shot:
        raise InvalidArgument("cannot have stream=true and one-shot=true")
    if not stream:
        return call.json(await call.backends.containers.statistics_once(call.name, one_shot=one_shot))
    return await send_objects(call.request, call.backends.containers.statistics(call.name), call.headers, end=b"\n")


async def update(call: Call) -> web.StreamResponse:
    """Change limits and the restart policy."""
    body = await call.body()
    if not body:
        raise InvalidArgument("update a container: the body must be a JSON object")
    return call.json({"Warnings": await call.backends.containers.update(call.name, body) or None})


ROUTES = (
    Route("GET", "/containers/{name}/stats", stats),
    Route("POST", "/containers/{name}/update", update),
)
