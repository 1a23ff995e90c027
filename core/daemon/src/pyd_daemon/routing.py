"""Route tables, finding a route, and a request as a handler sees it.

A route is found by dictionary, not by trying patterns in turn. Names of images contain slashes, so that ``{name}``
takes all that is between the noun and the verb. Paths are never normalised: ``//containers/json`` and ``/v1.44/../x``
are 404, so what a policy hook saw is what a handler gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from pyd_daemon import requests
from pyd_daemon.backends import Backends
from pyd_daemon.failures import MethodNotAllowed, PageNotFound, Statuses

__all__ = ["Call", "Face", "Handler", "Route", "Router", "Version"]

T = TypeVar("T")

Version = tuple[int, ...]
Handler = Callable[["Call"], Awaitable[web.StreamResponse]]

_encode = msgspec.json.Encoder().encode


class Face(Protocol):
    """The application, as calls see it."""

    backends: Backends
    headers: dict[str, str]
    json_headers: dict[str, str]
    connecting: set[asyncio.Future[None]]
    """Clients that were told that they are attached, and are not wired yet."""


@dataclass(frozen=True, slots=True)
class Route:
    """One row of a route table.

    *path*: ``/noun``, ``/noun/verb``, ``/noun/{id}``, ``/noun/{id}/verb``, ``/noun/{id}/verb/way``; ``{name}`` for ``{id}``
    may contain slashes.
    *statuses*: where Docker answers with another status than the common table says.
    *hijacks*: the connection may become a program's input. After a refusal it is closed: what the client sent behind the
    request is never another request.
    """

    method: str
    path: str
    handler: Handler
    statuses: Statuses | None = None
    hijacks: bool = False


class Call:
    """One request as a handler sees it: its backends, its API version, its arguments, and how to answer."""

    __slots__ = ("api", "backends", "name", "request", "version")

    def __init__(self, api: Face, request: BaseRequest, version: Version, name: str) -> None:
        self.api = api
        self.backends: Backends = api.backends
        self.request = request
        self.version = version
        self.name = name

    def since(self, minor: int) -> bool:
        """The client speaks API 1.*minor* or later."""
        return self.version >= (1, minor)

    # ---- arguments

    def text(self, name: str) -> str:
        """A query argument, ``""`` if it is not there."""
        return self.request.query.get(name, "")

    def texts(self, name: str) -> list[str]:
        """All values of a query argument that may be repeated."""
        return self.request.query.getall(name, [])

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean query argument."""
        return requests.flag(self.request.query.get(name), default)

    def integer(self, name: str, default: int | None = None) -> int | None:
        """A number in the query."""
        return requests.integer(self.request.query.get(name), name, default)

    def filters(self, known: frozenset[str] | None) -> dict[str, list[str]]:
        """The ``filters`` argument; *known* names only."""
        return requests.filters(self.request.query.get("filters"), known)

    async def body(self) -> bytes:
        """A JSON body as it came, checked for type, size and depth; ``b""`` if there is none."""
        return await requests.json_body(self.request)

    async def read(self, kind: type[T]) -> T | None:
        """A JSON body as *kind*; None if there is none."""
        body = await self.body()
        return requests.decode(body, kind) if body else None

    # ---- answers

    @property
    def headers(self) -> dict[str, str]:
        """What every response carries."""
        return self.api.headers

    def encode(self, value: Any) -> bytes:
        """*value* as JSON, with the newline that Go's encoder adds."""
        return _encode(value) + b"\n"

    def json(self, value: Any, status: int = 200) -> web.Response:
        """*value* as a JSON body."""
        return web.Response(status=status, body=self.encode(value), headers=self.api.json_headers)

    def empty(self, status: int = 204) -> web.Response:
        """No body."""
        return web.Response(status=status, headers=self.api.headers)


class Router:
    """Finds a route by dictionary: exact paths first, then ``/noun/*/verb/way``, ``/noun/*/verb``, ``/noun/*``; per method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._verbs: dict[tuple[str, str], dict[str, Route]] = {}
        self._items: dict[str, dict[str, Route]] = {}
        self._slashes: set[Route] = set()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        parts = route.path.split("/")[1:]
        variable = len(parts) > 1 and parts[1] in {"{id}", "{name}"}
        table: dict[str, Route]
        if not variable and "{" not in route.path:
            table = self._exact.setdefault(route.path, {})
        elif variable and len(parts) == 2:
            table = self._items.setdefault(parts[0], {})
        elif variable and len(parts) in (3, 4):
            table = self._verbs.setdefault((parts[0], "/".join(parts[2:])), {})
        else:
            raise ValueError(f"route {route.method} {route.path}: not one of the five shapes")
        if route.method in table:
            raise ValueError(f"route {route.method} {route.path}: there twice")
        table[route.method] = route
        if "{name}" in route.path:
            self._slashes.add(route)

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """The route and the value of its variable. *path*: percent-encoded, without version.

        Raises `PageNotFound`, or `MethodNotAllowed` if the path exists with other methods only.
        """
        allowed: set[str] = set()
        table = self._exact.get(path)
        if table is not None:
            route = table.get(method)
            if route is not None:
                return route, ""
            allowed.update(table)
        parts = path.split("/")
        if len(parts) > 4:
            found = self._variable(self._verbs.get((parts[1], "/".join(parts[-2:]))), method, parts[2:-2], allowed)
            if found is not None:
                return found
        if len(parts) > 3:
            found = self._variable(self._verbs.get((parts[1], parts[-1])), method, parts[2:-1], allowed)
            if found is not None:
                return found
        if len(parts) > 2:
            found = self._variable(self._items.get(parts[1]), method, parts[2:], allowed)
            if found is not None:
                return found
        if allowed:
            raise MethodNotAllowed(method, path, tuple(sorted(allowed)))
        raise PageNotFound("page not found")

    def _variable(
        self, table: dict[str, Route] | None, method: str, parts: list[str], allowed: set[str]
    ) -> tuple[Route, str] | None:
        if table is None or "" in parts or ".." in parts or "." in parts:
            return None
        route = table.get(method)
        if route is None:
            allowed.update(other for other, row in table.items() if len(parts) == 1 or row in self._slashes)
            return None
        if len(parts) > 1 and route not in self._slashes:
            return None
        name = "/".join(parts)
        return route, unquote(name, errors="replace") if "%" in name else name
