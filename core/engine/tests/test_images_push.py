"""Pushing to registries that misbehave: nothing is sent where it must not go, and what failed is tried again or told."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pyd_contracts.errors import InvalidArgument, NotFound, PermissionDenied, PydError, Unavailable
from pyd_engine.images.push import Pusher
from pyd_engine.images.records import ImageRecords
from pyd_engine.images.reference import parse
from pyd_engine.images.registry import Registries
from pyd_engine.images.transport import RegistryConfig
from pyd_engine.layers.service import LayerDescriptor
from pyd_engine.store.content import Content
from pyd_engine.store.database import Database

LAYER = b"not quite a tar archive " * 1000
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """Takes what is sent. *place* is the Location of an upload, *answers* are statuses for the next PUTs of blobs."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.place = "/v2/app/blobs/uploads/1?_state=a%3D%3D"
        self.answers: list[int] = []
        self.code = "DENIED"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        tail = request.path.removeprefix("/v2/")
        if not tail:
            return web.Response()
        if request.method == "HEAD":
            return web.Response(status=200 if tail.rpartition("/")[2] in self.blobs else 404)
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": self.place})
        body = await request.read()
        if "/manifests/" in tail:
            self.manifests[tail.rpartition("/")[2]] = request.headers["Content-Type"], body
            return web.Response(status=201)
        if self.answers:
            error = {"errors": [{"code": self.code, "message": "no more room for you"}]}
            return web.json_response(error, status=self.answers.pop(0))
        assert request.query["_state"] == "a=="
        assert sha(body) == request.query["digest"]
        self.blobs[request.query["digest"]] = body
        return web.Response(status=201)


def push(root: Path, registry: Registry, name: str = "app:1") -> list[dict[str, Any]]:
    """Push an image of one plain layer; the records that clients get."""
    seen: list[dict[str, Any]] = []

    async def run() -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", registry.handle)
        async with TestServer(app) as server:
            registries = Registries(RegistryConfig(backoff=0.01, retries=3))
            content, records = Content(root / "content"), ImageRecords(Database(Path(":memory:")))
            layer = LayerDescriptor(
                content.add(LAYER), sha(LAYER), "application/vnd.oci.image.layer.v1.tar", len(LAYER)
            )
            image = content.add(json.dumps({"rootfs": {"diff_ids": [sha(LAYER)]}}).encode())
            reference = parse(f"127.0.0.1:{server.port}/app:1")
            records.put(image, [layer], names=[reference])
            try:
                wanted = parse(f"127.0.0.1:{server.port}/{name}")
                await Pusher(content, records, registries).push(wanted, progress=seen.append)
                assert [each.digest for each in records.get(image).digests]  # type: ignore[union-attr]
            finally:
                await registries.close()

    asyncio.run(run())
    return seen


def test_a_plain_layer_is_sent_compressed(tmp_path: Path) -> None:
    registry = Registry()
    seen = push(tmp_path, registry)
    kind, raw = registry.manifests["1"]
    document = json.loads(raw)
    assert document["mediaType"] == kind
    [layer] = document["layers"]
    assert gzip.decompress(registry.blobs[layer["digest"]]) == LAYER
    assert layer["size"] == len(registry.blobs[layer["digest"]])
    assert document["config"]["digest"] in registry.blobs
    assert seen[-1]["aux"] == {"Tag": "1", "Digest": sha(raw), "Size": len(raw)}
    again = push(tmp_path, registry)
    assert "Layer already exists" in [each.get("status") for each in again]
    assert registry.manifests["1"] == (kind, raw)


def test_a_registry_that_stumbles_is_asked_again(tmp_path: Path) -> None:
    registry = Registry()
    registry.answers = [503, 502]
    push(tmp_path, registry)
    assert registry.manifests


@pytest.mark.parametrize(
    ("answers", "code", "kind", "words"),
    [
        ([403], "DENIED", PermissionDenied, "denied: no more room for you"),
        ([413], "SIZE_INVALID", InvalidArgument, "size invalid: no more room for you"),
        ([503, 503, 503], "", Unavailable, "received unexpected HTTP status: 503"),
    ],
)
def test_a_registry_that_refuses(
    tmp_path: Path, answers: list[int], code: str, kind: type[PydError], words: str
) -> None:
    registry = Registry()
    registry.answers, registry.code = answers, code
    with pytest.raises(kind, match=words):
        push(tmp_path, registry)
    assert not registry.manifests


@pytest.mark.parametrize("place", ["", "ftp://127.0.0.1/x", "http://[::bad/x"])
def test_uploads_go_to_addresses_only(tmp_path: Path, place: str) -> None:
    registry = Registry()
    registry.place = place
    with pytest.raises((InvalidArgument, NotFound)):
        push(tmp_path, registry)
    assert not registry.manifests


def test_no_such_image(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="An image does not exist locally with the tag: 127.0.0.1:[0-9]+/other"):
        push(tmp_path, Registry(), "other:1")
    with pytest.raises(NotFound, match="with the tag"):
        push(tmp_path, Registry(), "other")
