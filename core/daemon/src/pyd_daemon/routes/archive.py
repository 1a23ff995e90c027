"""Files of containers: copied, exported, compared, committed."""

from __future__ import annotations

import base64
import json
from typing import Any

from aiohttp import web

from pyd_contracts.errors import InvalidArgument
from pyd_daemon import requests
from pyd_daemon.routing import Call, Route
from pyd_daemon.streams import send_bytes
from pyd_daemon.wire.responses import IdResponse
from pyd_engine.containers.config import decode_config

__all__ = ["ROUTES"]

_STAT = "X-Docker-Container-Path-Stat"


def _path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidArgument("bad parameter: path: this parameter cannot be empty")
    if "\0" in path:
        raise InvalidArgument("bad parameter: path: it holds a NUL character")
    return path


def _encoded(stat: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(stat).encode()).decode("ascii")


async def stat(call: Call) -> web.StreamResponse:
    """What is at a path."""
    found = await call.backends.containers.files_stat(call.name, _path(call))
    return web.Response(headers={**call.headers, _STAT: _encoded(found)})


async def get(call: Call) -> web.StreamResponse:
    """A file or a directory as a tar archive."""
    archive = await call.backends.containers.files_get(call.name, _path(call))
    headers = {**call.headers, "Content-Type": "application/x-tar", _STAT: _encoded(archive.stat)}
    return await send_bytes(call.request, archive, headers, primed=False)


async def put(call: Call) -> web.StreamResponse:
    """Extract a tar archive into a directory."""
    await call.backends.containers.files_put(
        call.name,
        _path(call),
        requests.stream_body(call.request),
        keep_kinds=call.flag("noOverwriteDirNonDir"),
        own_user=call.flag("copyUIDGID"),
    )
    return call.empty(200)


async def export(call: Call) -> web.StreamResponse:
    """The root file system as a tar archive."""
    archive = await call.backends.containers.export(call.name)
    return await send_bytes(
        call.request, archive, {**call.headers, "Content-Type": "application/octet-stream"}, primed=False
    )


async def changes(call: Call) -> web.StreamResponse:
    """What is different from the image."""
    return call.json(await call.backends.containers.changes(call.name))


async def commit(call: Call) -> web.StreamResponse:
    """Make an image."""
    ref = call.text("container")
    if not ref:
        raise InvalidArgument("commit: the parameter container cannot be empty")
    body = await call.body()
    image = await call.backends.containers.commit(
        ref,
        decode_config(body) if body.strip() not in (b"", b"null") else None,
        repository=call.text("repo"),
        tag=call.text("tag"),
        changes=[line for text in call.texts("changes") for line in text.split("\n") if line.strip()],
        comment=call.text("comment"),
        author=call.text("author"),
        pause=call.flag("pause", default=True),
    )
    return call.json(IdResponse(image), status=201)


ROUTES = (
    Route("HEAD", "/containers/{id}/archive", stat),
    Route("GET", "/containers/{id}/archive", get),
    Route("PUT", "/containers/{id}/archive", put),
    Route("GET", "/containers/{id}/export", export),
    Route("GET", "/containers/{id}/changes", changes),
    Route("POST", "/commit", commit),
)
