"""``docker save``: images as an archive that is both an OCI image layout and what ``docker load`` of any version reads."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from pyd_contracts.errors import ResourceExhausted
from pyd_engine.images.records import ImageRecord
from pyd_engine.images.reference import Reference
from pyd_engine.layers.streams import compression
from pyd_engine.store.content import Content

__all__ = ["save"]

_PIECE = 1 << 20
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYERS = {
    "plain": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}


async def save(content: Content, wanted: Sequence[tuple[ImageRecord, Sequence[Reference]]]) -> AsyncIterator[bytes]:
    """The archive's bytes, in pieces. Each image comes with the names it is to have when it is loaded."""
    manifests: list[dict[str, Any]] = []
    docker: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    generated: dict[str, bytes] = {}
    stored: dict[str, int] = {}
    with content.lease() as lease:
        for record, names in wanted:
            lease.add(record.id, *(layer.digest for layer in record.layers))
            raw = await asyncio.to_thread(_manifest, content, record)
            digest = "sha256:" + hashlib.sha256(raw).hexdigest()
            generated[digest] = raw
            for blob in (record.id, *(layer.digest for layer in record.layers)):
                stored[blob] = await asyncio.to_thread(content.size, blob)
            entry: dict[str, Any] = {"mediaType": _MANIFEST, "digest": digest, "size": len(raw)}
            for name in names:
                notes = {"io.containerd.image.name": str(name), "org.opencontainers.image.ref.name": name.tag or ""}
                manifests.append({**entry, "annotations": notes})
                repositories.setdefault(name.familiar_name, {})[name.tag or "latest"] = record.id.removeprefix(
                    "sha256:"
                )
            if not names:
                manifests.append(entry)
            docker.append({
                "Config": _path(record.id),
                "RepoTags": [name.familiar for name in names] or None,
                "Layers": [_path(layer.digest) for layer in record.layers],
            })  # fmt: skip
        yield _header("blobs/", 0, directory=True) + _header("blobs/sha256/", 0, directory=True)
        for digest, raw in generated.items():
            yield _file(_path(digest), raw)
        for digest, size in stored.items():
            if digest not in generated:
                async for piece in _blob(content, digest, size):
                    yield piece
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}
        yield _file("index.json", json.dumps(index).encode())
        yield _file("manifest.json", json.dumps(docker).encode())
        yield _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        yield _file("repositories", json.dumps(repositories).encode()) + bytes(1024)


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _manifest(content: Content, record: ImageRecord) -> bytes:
    """An OCI manifest for the blobs as they are stored; the bytes are the same each time."""
    layers = []
    for layer in record.layers:
        fd = content.open(layer.digest)
        try:
            kind = compression(os.read(fd, 16))
        finally:
            os.close(fd)
        layers.append({
            "mediaType": _LAYERS.get(kind, _LAYERS["plain"]), "digest": layer.digest, "size": content.size(layer.digest),
        })  # fmt: skip
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": record.id, "size": content.size(record.id),
    }  # fmt: skip
    return json.dumps({"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers}).encode()


async def _blob(content: Content, digest: str, size: int) -> AsyncIterator[bytes]:
    yield _header(_path(digest), size)
    fd = await asyncio.to_thread(content.open, digest)
    read: Callable[[int], bytes] = lambda count: os.read(fd, count)  # noqa: E731
    try:
        left = size
        while left:
            piece = await asyncio.to_thread(read, min(_PIECE, left))
            if not piece:
                raise ResourceExhausted(f"blob {digest}: the disk has {left} bytes less than it said")
            left -= len(piece)
            yield piece
    finally:
        os.close(fd)
    yield bytes(-size % 512)


def _file(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + bytes(-len(data) % 512)


def _header(name: str, size: int, *, directory: bool = False) -> bytes:
    """A ustar header; the time is 1970, so that equal images give equal archives."""
    number = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
    head = bytearray(512)
    head[: len(name)] = name.encode()
    head[100:108] = b"0000755\0" if directory else b"0000644\0"
    head[108:116] = head[116:124] = b"0000000\0"
    head[124:136] = number
    head[136:148] = b"00000000000\0"
    head[148:156] = b" " * 8
    head[156:157] = b"5" if directory else b"0"
    head[257:265] = b"ustar\x0000"
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)
