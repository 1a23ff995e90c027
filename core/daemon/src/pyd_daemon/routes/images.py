"""Images: pulled, pushed, imported, loaded, saved, listed, looked at, tagged, removed. Names may contain slashes and ports."""

from __future__ import annotations

from aiohttp import web

from pyd_contracts.errors import InvalidArgument, Unsupported
from pyd_daemon import requests
from pyd_daemon.backends import Json
from pyd_daemon.routing import Call, Route
from pyd_daemon.streams import send_bytes, send_objects

__all__ = ["ROUTES", "of_old"]

_LIST_FILTERS = frozenset({"before", "dangling", "label", "label!", "reference", "since", "until"})
_PRUNE_FILTERS = frozenset({"dangling", "label", "label!", "until"})


async def create(call: Call) -> web.StreamResponse:
    """Pull (``fromImage``) or import (``fromSrc=-``); progress objects, one per line."""
    source, name = call.text("fromSrc"), call.text("fromImage")
    platform = requests.platform(call.text("platform"))
    if name:
        auth = requests.registry_auth(call.request.headers.get("X-Registry-Auth"))
        progress = call.backends.images.pull(_reference(name, call.text("tag")), platform=platform, auth=auth)
        return await send_objects(call.request, progress, call.headers)
    if not source:
        raise InvalidArgument("create an image: give fromImage (pull) or fromSrc (import)")
    if source != "-":
        raise Unsupported(
            "import an image from a URL: not supported; fetch it yourself and send it as the body, with fromSrc=-"
        )
    imported = call.backends.images.import_archive(
        requests.stream_body(call.request),
        repository=call.text("repo"),
        tag=call.text("tag"),
        message=call.text("message"),
        changes=call.texts("changes"),
        platform=platform,
    )
    return await send_objects(call.request, imported, call.headers)


def _reference(name: str, tag: str) -> str:
    """`tag` may be a tag or a digest, and takes precedence over a tag in the name; a digest in the name stays."""
    if not tag or "@" in name:
        return name
    if ":" in tag:  # a digest: sha256:…
        return f"{_untagged(name)}@{tag}"
    return f"{_untagged(name)}:{tag}"


def _untagged(name: str) -> str:
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name


async def load(call: Call) -> web.StreamResponse:
    """Read images from an archive in the body."""
    # Quiet is the default of the API; the command line asks for progress when it has a terminal.
    loaded = call.backends.images.load(requests.stream_body(call.request), quiet=call.flag("quiet", default=True))
    return await send_objects(call.request, loaded, call.headers)


async def list_(call: Call) -> web.StreamResponse:
    """Images; those of final layers only, unless `all`."""
    found = await call.backends.images.list(
        all=call.flag("all"), filters=call.filters(_LIST_FILTERS), shared_size=call.flag("shared-size")
    )
    return call.json(of_old(call, found))


async def inspect(call: Call) -> web.StreamResponse:
    """Everything about one image."""
    [found] = of_old(call, [await call.backends.images.inspect(call.name)])
    # Gone from the API with 1.45. docker-compose 1.29 reads volumes there, whatever version it speaks, and would end in a
    # KeyError where it makes containers again.
    return call.json({**found, "ContainerConfig": found["Config"]})


def of_old(call: Call, images: list[Json]) -> list[Json]:
    """Images as older clients read them: before API 1.44 `VirtualSize` is there, which is the size once more. docker up to 24
    counts with it (``docker system df -v``)."""
    return images if call.since(44) else [{**each, "VirtualSize": each.get("Size", 0)} for each in images]


async def history(call: Call) -> web.StreamResponse:
    """How it was made, newest step first."""
    return call.json(await call.backends.images.history(call.name))


async def tag(call: Call) -> web.StreamResponse:
    """Give it a further name."""
    repository = call.text("repo")
    if not repository:
        raise InvalidArgument(f"tag image {call.name}: repo is empty")
    await call.backends.images.tag(call.name, repository, call.text("tag"))
    return call.empty(201)


async def push(call: Call) -> web.StreamResponse:
    """Send it to the registry its name tells; progress objects, one per line."""
    auth = requests.registry_auth(call.request.headers.get("X-Registry-Auth"))
    progress = call.backends.images.push(call.name, tag=call.text("tag"), auth=auth)
    return await send_objects(call.request, progress, call.headers)


async def remove(call: Call) -> web.StreamResponse:
    """Take a name away, and the image with its last one."""
    removed = await call.backends.images.remove(call.name, force=call.flag("force"), prune=not call.flag("noprune"))
    return call.json(removed)


async def prune(call: Call) -> web.StreamResponse:
    """Remove what nothing uses."""
    return call.json(await call.backends.images.prune(call.filters(_PRUNE_FILTERS)))


async def save(call: Call) -> web.StreamResponse:
    """One image as an archive."""
    return await _save(call, [call.name])


async def save_many(call: Call) -> web.StreamResponse:
    """Several images as one archive."""
    names = call.texts("names")
    if not names:
        raise InvalidArgument("save images: give at least one name (names=…)")
    return await _save(call, names)


async def _save(call: Call, names: list[str]) -> web.StreamResponse:
    archive = call.backends.images.save(names)
    return await send_bytes(call.request, archive, {**call.headers, "Content-Type": "application/x-tar"})


async def distribution(call: Call) -> web.StreamResponse:
    """What the registry says about a name: digest and platforms."""
    auth = requests.registry_auth(call.request.headers.get("X-Registry-Auth"))
    return call.json(await call.backends.images.distribution(call.name, auth=auth))


ROUTES = (
    Route("POST", "/images/create", create),
    Route("POST", "/images/load", load),
    Route("POST", "/images/prune", prune),
    Route("GET", "/images/json", list_),
    Route("GET", "/images/get", save_many),
    Route("GET", "/images/{name}/json", inspect),
    Route("GET", "/images/{name}/history", history),
    Route("GET", "/images/{name}/get", save),
    Route("POST", "/images/{name}/tag", tag),
    Route("POST", "/images/{name}/push", push),
    Route("DELETE", "/images/{name}", remove),
    Route("GET", "/distribution/{name}/json", distribution),
)
