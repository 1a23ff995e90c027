"""``docker push``: from a recorded image to a name in a registry, with the records dockerd streams.

An image that was pulled is pushed with the very manifest it came with, so that it keeps its digest. For others a manifest is
made (Docker schema 2), and layers that are stored as plain tar archives are compressed first.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from pyd_contracts.errors import NotFound
from pyd_engine.images.auth import ANONYMOUS, Credentials
from pyd_engine.images.documents import MAX_MANIFEST, Descriptor, Index, Manifest, parse_document
from pyd_engine.images.progress import Progress, Reporter, short_id
from pyd_engine.images.records import ImageRecord, ImageRecords
from pyd_engine.images.reference import Reference
from pyd_engine.images.registry import Registries
from pyd_engine.images.upload import Uploads
from pyd_engine.layers.service import LayerDescriptor
from pyd_engine.layers.streams import CHUNK, compression
from pyd_engine.store.content import Content, Lease

__all__ = ["Pushed", "Pusher"]

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_OTHERS = {"zstd": "application/vnd.oci.image.layer.v1.tar+zstd"}
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did: the image, the name, and the digest of its manifest."""

    image: ImageRecord
    name: Reference
    digest: str


class Pusher:
    """Pushes images; *parallel* layers of one at a time."""

    def __init__(self, content: Content, records: ImageRecords, registries: Registries, *, parallel: int = 5) -> None:
        self._content = content
        self._records = records
        self._registries = registries
        self._parallel = parallel

    async def push(
        self, reference: Reference, *, credentials: Credentials = ANONYMOUS, progress: Progress | None = None
    ) -> list[Pushed]:
        """Push one name, or all tags of a repository when *reference* has none.

        Raises NotFound, Unauthorized, PermissionDenied, Unavailable.
        """
        report = Reporter(progress)
        report.message(f"The push refers to repository [{reference.repository}]")
        names = [reference] if reference.tag else self._tags(reference)
        uploads = Uploads(self._registries.host(reference.domain, credentials), reference, self._registries.config)
        return [await self._one(name, uploads, report) for name in names]

    def _tags(self, reference: Reference) -> list[Reference]:
        found = [
            name for record in self._records.all() for name in record.tags if name.repository == reference.repository
        ]
        if not found:
            raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
        return sorted(found, key=str)

    async def _one(self, name: Reference, uploads: Uploads, report: Reporter) -> Pushed:
        image = self._records.by_name(name)
        if image is None:
            raise NotFound(f"An image does not exist locally with the tag: {name.familiar_name}")
        with self._content.lease([image.id, *(layer.digest for layer in image.layers)]) as lease:
            original = await asyncio.to_thread(self._original, image, lease)
            layers = await self._send_layers(image, original, uploads, lease, name, report)
            if original is None:
                raw, media_type = self._made(image, layers), _MANIFEST
            else:
                raw, media_type = original
            config = Descriptor(_CONFIG, image.id, self._content.size(image.id))
            if not await uploads.has(config.digest):
                await uploads.blob(config, self._content, lambda _done: None)
            digest = "sha256:" + hashlib.sha256(raw).hexdigest()
            assert name.tag is not None
            await uploads.manifest(name.tag, media_type, raw)
            self._records.put(image.id, image.layers, names=[name.with_digest(digest)])
        report.message(f"{name.tag}: digest: {digest} size: {len(raw)}")
        report.result({"Tag": name.tag, "Digest": digest, "Size": len(raw)})
        return Pushed(image, name, digest)

    def _original(self, image: ImageRecord, lease: Lease) -> tuple[bytes, str] | None:
        """The manifest an image came with and its media type; None when there is none, or when it is not of these blobs."""
        if not image.manifest or not self._content.has(image.manifest):
            return None
        lease.add(image.manifest)
        raw = self._content.read(image.manifest, MAX_MANIFEST)
        manifest = parse_document(raw, f"manifest {image.manifest}")
        if isinstance(manifest, Index) or not _describes(manifest, image):
            return None
        return raw, manifest.media_type

    async def _send_layers(
        self, image: ImageRecord, original: object, uploads: Uploads, lease: Lease, name: Reference, report: Reporter
    ) -> list[Descriptor]:
        slots = asyncio.Semaphore(self._parallel)
        elsewhere = self._elsewhere(image, name)
        for layer in image.layers:
            report.step(short_id(layer.diff_id), "Preparing")

        async def send(layer: LayerDescriptor) -> Descriptor:
            shown = short_id(layer.diff_id)
            async with slots:
                descriptor = await asyncio.to_thread(self._packed, layer, lease, as_it_is=original is not None)
                if await uploads.has(descriptor.digest):
                    report.step(shown, "Layer already exists")
                    return descriptor
                mounted = await uploads.blob(
                    descriptor,
                    self._content,
                    lambda done: report.bytes(shown, "Pushing", done, descriptor.size),
                    elsewhere,
                )
                report.step(shown, f"Mounted from {elsewhere}" if mounted else "Pushed")
                return descriptor

        once = {layer.digest: layer for layer in image.layers}
        tasks = {digest: asyncio.create_task(send(layer)) for digest, layer in once.items()}
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return [tasks[layer.digest].result() for layer in image.layers]

    @staticmethod
    def _elsewhere(image: ImageRecord, name: Reference) -> str:
        """Another repository of the same registry that had this image: its layers need no transfer."""
        found = [other.path for other in image.digests if other.domain == name.domain and other.path != name.path]
        return found[0] if found else ""

    def _packed(self, layer: LayerDescriptor, lease: Lease, *, as_it_is: bool) -> Descriptor:
        """A layer's blob as registries take it, compressed now if it is not."""
        size = self._content.size(layer.digest)
        with os.fdopen(self._content.open(layer.digest), "rb") as blob:
            kind = compression(blob.read(16))
            if as_it_is or kind != "plain":
                return Descriptor(_OTHERS.get(kind, _LAYER), layer.digest, size)
            from isal import isal_zlib

            blob.seek(0)
            packer = isal_zlib.compressobj(
                _LEVEL, isal_zlib.DEFLATED, 31
            )  # gzip, without a time: the same bytes each time
            with self._content.ingest() as ingest:
                while piece := blob.read(CHUNK):
                    ingest.write(packer.compress(piece))
                ingest.write(packer.flush())
                digest, size = ingest.commit(), ingest.written
        lease.add(digest)
        return Descriptor(_LAYER, digest, size)

    def _made(self, image: ImageRecord, layers: Sequence[Descriptor]) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "size": self._content.size(image.id), "digest": image.id},
            "layers": [{"mediaType": each.media_type, "size": each.size, "digest": each.digest} for each in layers],
        }
        return json.dumps(document, indent=3).encode()


def _describes(manifest: Manifest, image: ImageRecord) -> bool:
    return manifest.config.digest == image.id and [each.digest for each in manifest.layers] == [
        each.digest for each in image.layers
    ]
