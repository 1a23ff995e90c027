"""``docker pull``: from a name to a recorded image, with the records dockerd streams.

A blob several pulls want is downloaded once. The image gets its name in one transaction at the very end: a broken or cancelled
pull changes no name, and what it downloaded stays until the next garbage collection, so the next try goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pyd_contracts.errors import InvalidArgument, NotFound, Unsupported
from pyd_engine.images.auth import ANONYMOUS, Credentials
from pyd_engine.images.documents import Descriptor, Index, Manifest, parse_config, parse_document
from pyd_engine.images.platform import Platform, acceptable, host_platform
from pyd_engine.images.progress import Progress, Reporter, short_id
from pyd_engine.images.records import ImageRecord, ImageRecords
from pyd_engine.images.reference import Reference
from pyd_engine.images.registry import Registries, Repository
from pyd_engine.layers.errors import LayerError
from pyd_engine.layers.service import LayerDescriptor, Layers, chain_ids
from pyd_engine.layers.sharing import SharedWork, Tell
from pyd_engine.store.content import Content, DigestMismatch, Lease

__all__ = ["Pulled", "Puller", "choose"]

_LAYER_TYPES = frozenset({
    "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did: the image, the digest its name stands for, whether a name changed, and who lost it."""

    image: ImageRecord
    digest: str
    changed: bool
    displaced: tuple[str, ...] = ()


def choose(index: Index, wanted: Platform) -> Descriptor:
    """The manifest of an index that fits a platform best; NotFound with Docker's words when there is none."""
    offered = [(entry, entry.platform.normalised()) for entry in index.manifests if entry.platform]
    for platform in acceptable(wanted):
        for entry, has in offered:
            if has == platform:
                return entry
    if not offered and len(index.manifests) == 1:
        return index.manifests[0]
    known = sorted({str(has) for _, has in offered if has.os != "unknown"})
    raise NotFound(
        f"no matching manifest for {wanted.normalised()} in the manifest list entries"
        + (f": it has {', '.join(known[:20])}" if known else "")
    )


class Puller:
    """Pulls images. *driver* unpacks each layer right after its download; None leaves that to the first use."""

    def __init__(
        self, content: Content, records: ImageRecords, registries: Registries, layers: Layers, *,
        driver: str | None, parallel: int = 3,
    ) -> None:  # fmt: skip
        self._content = content
        self._records = records
        self._registries = registries
        self._layers = layers
        self._driver = driver
        self._parallel = parallel
        self._blobs: SharedWork[str] = SharedWork()

    def downloading(self, digest: str) -> int:
        """How many pulls wait for a blob right now."""
        return self._blobs.waiting(digest)

    async def pull(
        self, reference: Reference, *, platform: Platform | None = None, credentials: Credentials = ANONYMOUS,
        progress: Progress | None = None,
    ) -> Pulled:  # fmt: skip
        """Pull one image. Raises NotFound, Unauthorized, Unavailable, InvalidArgument (what the registry sent is wrong)."""
        reference = reference.tagged()
        report = Reporter(progress)
        repository = self._registries.repository(reference, credentials)
        with self._content.lease() as lease:
            wanted = reference.digest or reference.tag or "latest"
            top = await repository.manifest(wanted)
            report.message(f"Pulling from {reference.path}", wanted)
            document = parse_document(top.raw, f"manifest of {reference.familiar}")
            await self._keep(lease, top.raw, top.digest)
            manifest_digest = top.digest
            if isinstance(document, Index):
                entry = choose(document, platform or host_platform())
                fetched = await repository.manifest(entry.digest)
                if len(fetched.raw) != entry.size:
                    raise DigestMismatch(f"manifest {entry.digest}: {len(fetched.raw)} bytes instead of {entry.size}")
                await self._keep(lease, fetched.raw, fetched.digest)
                inner = parse_document(fetched.raw, f"manifest {entry.digest}")
                if isinstance(inner, Index):
                    raise InvalidArgument(f"manifest {entry.digest}: an index inside an index")
                document, manifest_digest = inner, fetched.digest
            layers = await self._describe(document, repository, lease, reference)
            with self._layers.hold(layers):
                if self._records.get(document.config.digest) is None or not await self._complete(layers):
                    await self._transfer(layers, repository, report)
            names = [reference.with_digest(top.digest)]
            if reference.tag and not reference.digest:
                names.insert(0, reference)
            before = self._records.by_name(names[0])
            displaced = self._records.put(document.config.digest, layers, manifest=manifest_digest, names=names)
            image = self._records.get(document.config.digest)
            assert image is not None
        changed = before is None or before.id != image.id
        report.message(f"Digest: {top.digest}")
        words = "Downloaded newer image for" if changed else "Image is up to date for"
        report.message(f"Status: {words} {reference.familiar}")
        return Pulled(image, top.digest, changed, tuple(displaced))

    async def _keep(self, lease: Lease, raw: bytes, digest: str) -> None:
        lease.add(digest)
        if not await asyncio.to_thread(self._content.has, digest):
            await asyncio.to_thread(self._content.add, raw)

    async def _describe(
        self, manifest: Manifest, repository: Repository, lease: Lease, reference: Reference
    ) -> list[LayerDescriptor]:
        lease.add(manifest.config.digest, *(layer.digest for layer in manifest.layers))
        for layer in manifest.layers:
            if layer.media_type not in _LAYER_TYPES:
                raise Unsupported(f"{reference.familiar}: unsupported layer media type {layer.media_type[:100]!r}")
        for blob in (manifest.config, *manifest.layers):  # what is here already is not downloaded, so not measured
            if await asyncio.to_thread(self._content.has, blob.digest):
                size = await asyncio.to_thread(self._content.size, blob.digest)
                if size != blob.size:
                    raise DigestMismatch(f"{reference.familiar}: blob {blob.digest} has {size} bytes, not {blob.size}")
        raw = await repository.small_blob(manifest.config, self._content)
        config = parse_config(raw, f"configuration of {reference.familiar}")
        if len(config.diff_ids) != len(manifest.layers):
            raise InvalidArgument(
                f"configuration of {reference.familiar}: {len(config.diff_ids)} diff ids for {len(manifest.layers)} layers"
            )
        if config.os not in ("linux", ""):
            raise Unsupported(
                f'{reference.familiar}: image operating system "{config.os}" cannot be used on this platform'
            )
        return [
            LayerDescriptor(layer.digest, diff_id, layer.media_type, layer.size)
            for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
        ]

    async def _complete(self, layers: Sequence[LayerDescriptor]) -> bool:
        return await asyncio.to_thread(lambda: all(self._content.has(layer.digest) for layer in layers))

    async def _transfer(self, layers: Sequence[LayerDescriptor], repository: Repository, report: Reporter) -> None:
        chains = chain_ids([layer.diff_id for layer in layers])
        slots = asyncio.Semaphore(self._parallel)
        downloads: dict[str, asyncio.Task[None]] = {}
        there = [
            await asyncio.to_thread(self._content.has, layer.digest)
            and (self._driver is None or await self._layers.present(self._driver, chain))
            for layer, chain in zip(layers, chains, strict=True)
        ]
        for layer, done in zip(layers, there, strict=True):
            report.step(short_id(layer.digest), "Already exists" if done else "Pulling fs layer")
        try:
            for layer, done in zip(layers, there, strict=True):
                if not done and layer.digest not in downloads:
                    if len(downloads) >= self._parallel:
                        report.step(short_id(layer.digest), "Waiting")
                    downloads[layer.digest] = asyncio.create_task(self._download(layer, repository, report, slots))
            # one that fails ends the others now, not when it is its turn to be unpacked
            gathered = asyncio.gather(*downloads.values())  # fails as soon as one does
            unpacking = asyncio.create_task(self._register(layers, there, downloads, report))
            try:
                await asyncio.gather(gathered, unpacking)
            finally:
                unpacking.cancel()
                await asyncio.gather(unpacking, return_exceptions=True)
        finally:
            for task in downloads.values():
                task.cancel()
            await asyncio.gather(*downloads.values(), return_exceptions=True)

    async def _register(
        self,
        layers: Sequence[LayerDescriptor],
        there: Sequence[bool],
        downloads: dict[str, asyncio.Task[None]],
        report: Reporter,
    ) -> None:
        missing = {id(layer) for layer, done in zip(layers, there, strict=True) if not done}  # one may be in it twice

        async def arrival(layer: LayerDescriptor) -> None:
            if id(layer) in missing:
                await asyncio.shield(downloads[layer.digest])
                if self._driver is not None:
                    report.bytes(short_id(layer.digest), "Extracting", 0, layer.size)

        def unpacked(layer: LayerDescriptor, state: str, done: int, total: int) -> None:
            if id(layer) not in missing:
                return
            if state == "extracting":
                report.bytes(short_id(layer.digest), "Extracting", done, total)
            else:
                report.bytes(short_id(layer.digest), "Extracting", layer.size, layer.size)
                report.step(short_id(layer.digest), "Pull complete")

        if self._driver is None:
            for layer in layers:
                await arrival(layer)
                if id(layer) in missing:
                    report.step(short_id(layer.digest), "Pull complete")
            return
        try:
            await self._layers.ensure(self._driver, layers, unpacked, arrival)
        except LayerError as error:
            raise LayerError(f"failed to register layer: {error}") from error

    async def _download(
        self, layer: LayerDescriptor, repository: Repository, report: Reporter, slots: asyncio.Semaphore
    ) -> None:
        name = short_id(layer.digest)
        async with slots:
            if not await asyncio.to_thread(self._content.has, layer.digest):

                async def start(tell: Tell) -> None:
                    descriptor = Descriptor(layer.media_type, layer.digest, layer.size)
                    await repository.blob(descriptor, self._content, lambda done: tell("Downloading", done, layer.size))

                await self._blobs.join(
                    layer.digest, start, lambda state, done, total: report.bytes(name, state, done, total)
                )
                report.step(name, "Verifying Checksum")
            report.step(name, "Download complete")
