"""What the daemon says about itself: ping, version, info, disk usage, events; and whether credentials are good."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from pyd_contracts.errors import InvalidArgument, Unauthorized
from pyd_contracts.values import Event
from pyd_daemon import requests
from pyd_daemon.backends import Json
from pyd_daemon.routes.images import of_old
from pyd_daemon.routing import Call, Route
from pyd_daemon.streams import send_objects
from pyd_daemon.wire.requests import AuthConfig
from pyd_daemon.wire.responses import AuthResult
from pyd_daemon.wire.usage import summaries
from pyd_engine.events.wire import as_json

__all__ = ["ROUTES"]

_KINDS = frozenset({"container", "image", "volume", "build-cache"})
_SEQUENCE = "application/json-seq"
_LINES = (_SEQUENCE, "application/jsonl", "application/x-ndjson")


async def ping(call: Call) -> web.StreamResponse:
    """``OK``, and in the headers what a client needs to choose its API version.

    The builder is "1": BuildKit is not there, and a client that reads "2" would try to open a session with it.
    """
    return web.Response(
        body=b"OK" if call.request.method != "HEAD" else None,
        headers={
            **call.headers,
            "Builder-Version": "1",
            "Swarm": "inactive",
            "Cache-Control": "no-cache, no-store, must-revalidate",
            "Pragma": "no-cache",
            "Content-Type": "text/plain; charset=utf-8",
        },
    )


async def version(call: Call) -> web.StreamResponse:
    """Versions of the daemon and its parts."""
    return call.json(await call.backends.system.version())


async def info(call: Call) -> web.StreamResponse:
    """Everything about this daemon and its host."""
    return call.json(await call.backends.system.info())


async def disk_usage(call: Call) -> web.StreamResponse:
    """What takes how much room."""
    kinds = call.texts("type")
    for kind in kinds:
        if kind not in _KINDS:
            raise InvalidArgument(f"unknown object type: {kind[:80]}")
    found = await call.backends.system.disk_usage(frozenset(kinds) or _KINDS)
    if "Images" in found:
        found = found | {"Images": of_old(call, found["Images"])}
    if call.since(52):
        # The lists stay beside the summaries: scripts on docker-py read them whatever version it negotiated.
        found = found | summaries(found, verbose=call.flag("verbose"))
    return call.json(found)


async def check(call: Call) -> web.StreamResponse:
    """Hold what is stored against what is recorded: pyd's own, Docker has no such thing."""
    return call.json(await call.backends.system.check(repair=call.flag("repair")))


async def events(call: Call) -> web.StreamResponse:
    """Events, one object per line, from the past and from now on; the head is sent at once."""
    since = requests.timestamp(call.text("since"), "since")
    until = requests.timestamp(call.text("until"), "until")
    if since is not None and until is not None and since > until:
        raise InvalidArgument(f"`since` time ({since:.9f}) cannot be after `until` time ({until:.9f})")
    subscription = call.backends.events.subscribe(call.filters(None), since, until)
    kind = _media_type(call)
    return await send_objects(
        call.request,
        _Objects(subscription),
        {**call.headers, "Content-Type": kind},
        primed=False,
        start=b"\x1e" if kind == _SEQUENCE else b"",
        end=b"\n",
    )


def _media_type(call: Call) -> str:
    """How events are set apart: what the client asks for (API 1.52), ``application/json`` for all before."""
    accepted = call.request.headers.get("Accept", "") if call.since(52) else ""
    return next((kind for kind in _LINES if kind in accepted), "application/json")


class _Objects(AsyncIterator[Json]):
    """A subscription as JSON objects; closes it even if it was never asked for an event."""

    def __init__(self, source: AsyncIterator[Event]) -> None:
        self._source = source

    async def __anext__(self) -> Json:
        return as_json(await anext(self._source))

    async def aclose(self) -> None:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


async def auth(call: Call) -> web.StreamResponse:
    """Ask a registry whether these credentials are good."""
    credentials = requests.credentials(await call.read(AuthConfig))
    if credentials is None:
        raise Unauthorized("log in: no username and password or token given")
    login = await call.backends.images.login(credentials)
    return call.json(AuthResult(login.status, login.identity_token))


ROUTES = (
    Route("GET", "/_ping", ping),
    Route("HEAD", "/_ping", ping),
    Route("GET", "/version", version),
    Route("GET", "/info", info),
    Route("GET", "/system/df", disk_usage),
    Route("GET", "/events", events),
    Route("POST", "/pyd/check", check),
    Route("POST", "/auth", auth),
)
