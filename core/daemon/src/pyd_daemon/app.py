"""The application: versions as dockerd has them, standard headers, one place where errors become answers.

It stands on aiohttp's low-level server, not on its `Application`: a route is found by dictionary once the version is
taken off the path (a hundred regular expressions per request otherwise), names of images may contain slashes, and the
connection must be ours for `hijack`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from pyd_contracts.errors import InvalidArgument
from pyd_daemon import requests
from pyd_daemon.backends import Backends
from pyd_daemon.failures import MethodNotAllowed, describe
from pyd_daemon.hijack import ApiServer, Connection, Taken
from pyd_daemon.routes import ROUTES
from pyd_daemon.routing import Call, Route, Router, Version
from pyd_daemon.streams import Cut, gone
from pyd_daemon.wire.responses import Failure

__all__ = ["MAX_VERSION", "MIN_VERSION", "Api", "make_runner", "version_text"]

MIN_VERSION = (1, 24)
MAX_VERSION = (1, 56)

log = logging.getLogger(__name__)

_VERSION = re.compile(r"/v([0-9.]{1,16})(?=/)")
_encode = msgspec.json.Encoder().encode
_ROUTER = Router(ROUTES)


def version_text(version: Version) -> str:
    """``(1, 44)`` → ``"1.44"``."""
    return ".".join(map(str, version))


@dataclass(slots=True)
class Api:
    """The HTTP face over *backends*. *version* is the product's own; *allowed_hosts*: names TCP clients may use."""

    backends: Backends
    version: str
    allowed_hosts: frozenset[str] = frozenset()
    headers: dict[str, str] = field(init=False)
    json_headers: dict[str, str] = field(init=False)
    connecting: set[asyncio.Future[None]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.headers = {
            "Api-Version": version_text(MAX_VERSION),
            "Docker-Experimental": "false",
            "Ostype": "linux",
            "Server": f"pyd/{self.version} (linux)",
        }
        self.json_headers = {**self.headers, "Content-Type": "application/json"}

    async def __call__(self, request: BaseRequest) -> web.StreamResponse:
        """Answer one request; raises nothing but cancellation."""
        route: Route | None = None
        response: web.StreamResponse
        connection = request.protocol
        try:
            if isinstance(request.transport and request.transport.get_extra_info("sockname"), tuple):
                requests.check_origin(request, self.allowed_hosts)
            version, path = self._version(request)
            route, name = _ROUTER.find(request.method, path)
            response = await route.handler(Call(self, request, version, name))
        except Exception as error:  # noqa: BLE001 # the one place where errors become answers
            if isinstance(error, Cut) or (isinstance(error, ConnectionError) and gone(request)):
                log.debug("%s %s: %s", request.method, request.rel_url.raw_path, error)
                response = Taken()
            else:
                response = self._failure(request, error, route)
        if isinstance(connection, Connection) and not isinstance(response, Taken):
            refused = route is not None and route.hijacks and response.status >= 300
            if not connection.release(keep=not refused):
                response.force_close()
        return response

    def _failure(self, request: BaseRequest, error: Exception, route: Route | None) -> web.Response:
        status, message = describe(
            error, f"{request.method} {request.rel_url.raw_path}", route.statuses if route else None
        )
        if status == 304:
            return web.Response(status=304, headers=self.headers)
        response = web.Response(status=status, body=_encode(Failure(message)) + b"\n", headers=self.json_headers)
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(error.allowed)
        return response

    def _version(self, request: BaseRequest) -> tuple[Version, str]:
        """The API version the client asks for, and the path without it (percent-encoded)."""
        path = request.rel_url.raw_path
        found = _VERSION.match(path)
        if found is None:
            return MAX_VERSION, path
        text = found[1]
        version = tuple(int(part or "0") for part in text.split("."))
        if version < MIN_VERSION:
            raise InvalidArgument(
                f"client version {text} is too old. Minimum supported API version is {version_text(MIN_VERSION)}, "
                "please upgrade your client to a newer version"
            )
        if version > MAX_VERSION:
            raise InvalidArgument(
                f"client version {text} is too new. Maximum supported API version is {version_text(MAX_VERSION)}"
            )
        return version, path[found.end() :]


async def make_runner(api: Api, *, shutdown_timeout: float = 10.0) -> web.ServerRunner:
    """A runner, set up: give it sockets with `aiohttp.web.SockSite(runner, sock)`; end with `runner.cleanup()`.

    Limits: a line of the head has at most 64 KiB, the head 128 lines; an idle or half-sent connection lives 5 minutes.
    """
    server = ApiServer(
        api,
        headers=api.headers,
        access_log=None,
        keepalive_timeout=300.0,
        max_line_size=64 * 1024,
        max_field_size=64 * 1024,
        max_headers=128,
        auto_decompress=False,  # Docker takes bodies as they are: a compressed archive is an archive, not an encoding
    )
    runner = web.ServerRunner(server, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    return runner
