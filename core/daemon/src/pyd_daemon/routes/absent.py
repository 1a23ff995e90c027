"""What clients ask every daemon for and this one does not have: answered in the words that clients understand.

A daemon that is not part of a swarm says so with 503; one without managed plugins lists none; and for BuildKit, a
clear 501 is better than a 404 that a client takes for an old daemon.
"""

from __future__ import annotations

from aiohttp import web

from pyd_contracts.errors import Unavailable, Unsupported
from pyd_daemon.routing import Call, Route

__all__ = ["ROUTES"]

_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


async def swarm(_call: Call) -> web.StreamResponse:
    """Not a swarm manager."""
    raise Unavailable(_NO_SWARM)


async def lone(call: Call) -> web.StreamResponse:
    """Neither begins nor joins a swarm."""
    raise Unsupported(
        f"{call.request.path.rpartition('/')[2]} a swarm: this daemon works by itself and runs no services over several daemons"
    )


async def managed(_call: Call) -> web.StreamResponse:
    """Docker's managed plugins cannot be installed."""
    raise Unsupported("managed plugins are not supported: drivers are Python distributions, see `pyd plugin ls`")


async def search(_call: Call) -> web.StreamResponse:
    """No search: it is Docker Hub's own interface, not one of registries."""
    raise Unsupported("search for images: not supported; ask the registry's web page, then pull by name")


async def plugins(call: Call) -> web.StreamResponse:
    """Docker's managed plugins: none. Drivers of this daemon are shown by ``/info``."""
    call.filters(frozenset({"capability", "enabled", "enable"}))
    return call.json([])


async def session(_call: Call) -> web.StreamResponse:
    """No BuildKit."""
    raise Unsupported("open a build session: this daemon has no BuildKit; set DOCKER_BUILDKIT=0")


_NOUNS = ("nodes", "services", "tasks", "secrets", "configs")

ROUTES = (
    *(Route("GET", path, swarm) for path in ("/swarm", "/swarm/unlockkey")),
    *(Route("POST", f"/swarm/{verb}", swarm) for verb in ("leave", "update", "unlock")),
    *(Route("POST", f"/swarm/{verb}", lone) for verb in ("init", "join")),
    *(Route("GET", f"/{noun}", swarm) for noun in _NOUNS),
    *(Route("GET", f"/{noun}/{{id}}", swarm) for noun in _NOUNS),
    *(Route("POST", f"/{noun}/create", swarm) for noun in ("services", "secrets", "configs")),
    *(Route("POST", f"/{noun}/{{id}}/update", swarm) for noun in ("nodes", "services", "secrets", "configs")),
    *(Route("DELETE", f"/{noun}/{{id}}", swarm) for noun in ("nodes", "services", "secrets", "configs")),
    *(Route("GET", f"/{noun}/{{id}}/logs", swarm) for noun in ("services", "tasks")),
    Route("GET", "/plugins", plugins),
    *(Route("POST", f"/plugins/{verb}", managed) for verb in ("pull", "create")),
    *(Route("POST", f"/plugins/{{name}}/{verb}", managed) for verb in ("enable", "disable", "upgrade", "push", "set")),
    Route("GET", "/plugins/privileges", managed),
    Route("GET", "/plugins/{name}/json", managed),
    Route("DELETE", "/plugins/{name}", managed),
    Route("GET", "/images/search", search),
    Route("POST", "/session", session),
)
