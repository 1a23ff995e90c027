"""``docker load`` and layers that arrive as streams.

Both archives people have are read: docker-save's (``manifest.json``) and OCI image layouts (``index.json``). Regular members go
straight into the content store under the digest of their bytes, in one pass; everything the documents name is looked up in the
index of what this archive brought. A path of the host is never built from an archive's words (CVE-2014-9358); a symbolic
link, which docker-save before 25 writes for repeated layers, is followed in that index only, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import posixpath
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_engine.images.documents import (
    MAX_CONFIG,
    MAX_LAYERS,
    MAX_MANIFEST,
    Index,
    Manifest,
    parse_config,
    parse_document,
    parse_json,
)
from pyd_engine.images.feed import Feed, in_thread
from pyd_engine.images.platform import Platform, host_platform
from pyd_engine.images.progress import Progress, Reporter, short_id
from pyd_engine.images.pull import choose
from pyd_engine.images.records import ImageRecord, ImageRecords
from pyd_engine.images.reference import Reference, parse
from pyd_engine.layers.errors import LayerError
from pyd_engine.layers.service import LayerDescriptor, Layers
from pyd_engine.layers.streams import CHUNK, decompressed
from pyd_engine.layers.tar import Limits, Member, TarReader, shown, split_name
from pyd_engine.store.content import Batch, Content, Lease

__all__ = ["Archives", "publishing"]

_MEMBERS = Limits(entries=100_000)


@dataclass(slots=True)
class _Contents:
    """What an archive brought: digest and size of each regular member, and where its symbolic links point."""

    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def find(self, name: object, what: str) -> tuple[str, int]:
        """Digest and size of a regular member; InvalidArgument when the archive has none of that name."""
        if not isinstance(name, str):
            raise InvalidArgument(f"archive: {what}: a string is expected")
        plain = posixpath.normpath(name)
        found = self.files.get(plain) or self.files.get(self.links.get(plain, ""))
        if found is None:
            raise InvalidArgument(f"archive: {what} names {name[:200]!r}, which is no regular file of the archive")
        return found


@dataclass(frozen=True, slots=True)
class _Image:
    config: str
    layers: tuple[LayerDescriptor, ...]
    names: tuple[Reference, ...]
    manifest: str = ""

    def blobs(self) -> list[str]:
        """What of the content store it stands on."""
        return [self.config, self.manifest, *(layer.digest for layer in self.layers)]


Leased = Callable[[], AbstractAsyncContextManager[Lease]]


class Archives:
    """Reads archives into images. *driver* unpacks what was loaded; None leaves that to the first use. *leased* opens a lease
    whose end takes with it what did not become part of an image."""

    def __init__(
        self, content: Content, records: ImageRecords, layers: Layers, leased: Leased, *, driver: str | None
    ) -> None:
        self._content = content
        self._leased = leased
        self._records = records
        self._layers = layers
        self._driver = driver

    async def store_layer(self, chunks: AsyncIterator[bytes], batch: Batch) -> LayerDescriptor:
        """Store a tar stream, compressed or not, as an uncompressed layer of *batch*."""
        feed = Feed(chunks)

        def store() -> tuple[str, int]:
            with batch.ingest() as ingest:
                for piece in decompressed(feed.read):
                    ingest.write(piece)
                return ingest.commit(), ingest.written

        digest, size = await in_thread(feed, store, "archive")
        if not size:
            raise InvalidArgument("archive: it is empty")
        return LayerDescriptor(digest, digest, "application/vnd.oci.image.layer.v1.tar", size)

    async def load(
        self, chunks: AsyncIterator[bytes], *, progress: Progress | None = None, platform: Platform | None = None
    ) -> list[ImageRecord]:
        """``docker load``: record all images of an archive. *progress* gets the records dockerd streams.

        InvalidArgument when the archive is none, or what it says does not hold; nothing is named then.
        """
        feed = Feed(chunks)
        async with self._leased() as lease, self._layers.workers():
            with self._content.batch(lease) as batch:
                contents = await in_thread(feed, lambda: self._store_members(feed, batch), "archive")
                images = await asyncio.to_thread(self._read, contents, platform or host_platform())
                report = Reporter(progress)
                wanted = {digest for image in images for digest in image.blobs()}
                async with publishing(batch, wanted):
                    for image in images:
                        if self._driver is not None:
                            await self._unpack(image, report)
            return [self._record(image, progress) for image in images]

    def _store_members(self, feed: Feed, batch: Batch) -> _Contents:
        reader = TarReader(decompressed(feed.read), _MEMBERS)
        contents = _Contents()
        while (member := reader.next()) is not None:
            name = _name(member)
            if member.kind == "file":
                with batch.ingest() as ingest:
                    for piece in reader.body():
                        ingest.write(piece)
                    digest = ingest.commit()
                contents.links.pop(name, None)
                contents.files[name] = (digest, member.size)
            elif member.kind in ("symlink", "hardlink"):
                target = member.link.decode("utf-8", "surrogateescape")
                base = posixpath.dirname(name) if member.kind == "symlink" else ""
                contents.files.pop(name, None)
                contents.links[name] = posixpath.normpath(posixpath.join(base, target))
        while feed.read(CHUNK):
            pass
        return contents

    # --- what the documents say ----------------------------------------------------------------------------------

    def _read(self, contents: _Contents, platform: Platform) -> list[_Image]:
        if "manifest.json" in contents.files:
            return self._docker(contents)
        if "index.json" in contents.files:
            return self._layout(contents, platform)
        raise InvalidArgument("archive: neither manifest.json (docker save) nor index.json (OCI image layout) is in it")

    def _docker(self, contents: _Contents) -> list[_Image]:
        raw = self._small(contents.find("manifest.json", "the archive"), MAX_MANIFEST, "manifest.json")
        try:
            entries = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"archive: manifest.json: no valid JSON: {str(error)[:200]}") from error
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise InvalidArgument("archive: manifest.json: a list of objects is expected")
        return [self._docker_image(contents, entry, f"manifest.json[{i}]") for i, entry in enumerate(entries)]

    def _docker_image(self, contents: _Contents, entry: dict[str, Any], what: str) -> _Image:
        digest, size = contents.find(entry.get("Config"), f"{what}: Config")
        config = parse_config(self._small((digest, size), MAX_CONFIG, f"{what}: Config"), f"archive: {what}: Config")
        paths, tags = entry.get("Layers") or [], entry.get("RepoTags") or []
        if not isinstance(paths, list) or not isinstance(tags, list) or len(paths) > MAX_LAYERS:
            raise InvalidArgument(
                f"archive: {what}: Layers and RepoTags: lists are expected, of at most {MAX_LAYERS} layers"
            )
        if len(paths) != len(config.diff_ids):
            raise InvalidArgument(f"archive: {what}: invalid manifest, layers length mismatch: "
                                  f"expected {len(config.diff_ids)}, got {len(paths)}")  # fmt: skip
        layers = []
        for path, diff_id in zip(paths, config.diff_ids, strict=True):
            blob, length = contents.find(path, f"{what}: Layers")
            layers.append(LayerDescriptor(blob, diff_id, "", length))
        return _Image(digest, tuple(layers), _names(tags, f"{what}: RepoTags"))

    def _layout(self, contents: _Contents, platform: Platform) -> list[_Image]:
        if "oci-layout" in contents.files:
            marker = parse_json(
                self._small(contents.files["oci-layout"], MAX_MANIFEST, "oci-layout"), "archive: oci-layout"
            )
            if marker.get("imageLayoutVersion") != "1.0.0":
                raise InvalidArgument(
                    f"archive: oci-layout: unknown version {str(marker.get('imageLayoutVersion'))[:50]!r}"
                )
        top = parse_document(
            self._small(contents.files["index.json"], MAX_MANIFEST, "index.json"), "archive: index.json"
        )
        if not isinstance(top, Index):
            raise InvalidArgument("archive: index.json: an index is expected")
        images = []
        for entry in top.manifests:
            document, manifest = self._blob_document(contents, entry.digest), entry.digest
            if isinstance(document, Index):
                manifest = choose(document, platform).digest
                document = self._blob_document(contents, manifest)
            if isinstance(document, Index):
                raise InvalidArgument(f"archive: {entry.digest}: an index inside an index")
            name = entry.annotations.get("io.containerd.image.name") or ""
            short = entry.annotations.get("org.opencontainers.image.ref.name") or ""
            names = [name] if name else [short] if "/" in short or ":" in short else []
            images.append(self._oci_image(contents, document, manifest, _names(names, "index.json: annotations")))
        if not images:
            raise InvalidArgument("archive: index.json: it lists no images")
        return images

    def _oci_image(self, contents: _Contents, manifest: Manifest, digest: str, names: tuple[Reference, ...]) -> _Image:
        what = f"manifest {digest}"
        found = self._blob(contents, manifest.config.digest)
        config = parse_config(self._small(found, MAX_CONFIG, what), f"archive: configuration {manifest.config.digest}")
        if len(config.diff_ids) != len(manifest.layers):
            raise InvalidArgument(f"archive: {what}: {len(config.diff_ids)} diff ids for {len(manifest.layers)} layers")
        layers = []
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
            _, size = self._blob(contents, layer.digest)
            if size != layer.size:
                raise InvalidArgument(f"archive: blob {layer.digest}: {size} bytes instead of {layer.size}")
            layers.append(LayerDescriptor(layer.digest, diff_id, layer.media_type, size))
        return _Image(manifest.config.digest, tuple(layers), names, digest)

    def _blob(self, contents: _Contents, digest: str) -> tuple[str, int]:
        found = contents.find("blobs/" + digest.replace(":", "/"), f"blob {digest}")
        if found[0] != digest:
            raise InvalidArgument(f"archive: blob {digest}: its bytes have the digest {found[0]}")
        return found

    def _blob_document(self, contents: _Contents, digest: str) -> Manifest | Index:
        raw = self._small(self._blob(contents, digest), MAX_MANIFEST, digest)
        return parse_document(raw, f"archive: manifest {digest}")

    def _small(self, found: tuple[str, int], most: int, what: str) -> bytes:
        if found[1] > most:
            raise InvalidArgument(f"archive: {what}: {found[1]} bytes are over the limit of {most}")
        return self._content.read(found[0], most)

    # --- into images ---------------------------------------------------------------------------------------------

    async def _unpack(self, image: _Image, report: Reporter) -> None:
        assert self._driver is not None

        def unpacked(layer: LayerDescriptor, state: str, done: int, total: int) -> None:
            if state != "present":
                report.bytes(short_id(layer.diff_id), "Loading layer", total if state == "complete" else done, total)

        try:
            await self._layers.ensure(self._driver, image.layers, unpacked)
        except LayerError as error:
            raise LayerError(f"failed to register layer: {error}") from error

    def _record(self, image: _Image, progress: Progress | None) -> ImageRecord:
        say: Callable[[dict[str, object]], None] = progress or (lambda _: None)
        for name in image.names:
            before = self._records.by_name(name)
            if before is not None and before.id != image.config:
                say({"stream": f"The image {name.familiar} already exists, renaming the old one with ID {before.id} "
                               "to empty string\n"})  # fmt: skip
        self._records.put(image.config, image.layers, manifest=image.manifest, names=image.names)
        for name in image.names:
            say({"stream": f"Loaded image: {name.familiar}\n"})
        if not image.names:
            say({"stream": f"Loaded image ID: {image.config}\n"})
        record = self._records.get(image.config)
        if record is None:
            raise NotFound(f"No such image: {image.config}")
        return record


@contextlib.asynccontextmanager
async def publishing(batch: Batch, wanted: Collection[str] | None = None) -> AsyncIterator[None]:
    """Make a batch durable, or what is *wanted* of it, while something is done with it; at the end blobs have their names."""
    work = asyncio.ensure_future(asyncio.to_thread(batch.publish, wanted))
    try:
        yield
        await asyncio.shield(work)
    finally:
        await asyncio.wait([work])  # a thread cannot be cancelled, and what it works on must stay until it ends
        if not work.cancelled():
            work.exception()  # it is raised above, unless another error came first


def _name(member: Member) -> str:
    parts = split_name(member.name, _MEMBERS)
    text = b"/".join(parts).decode("utf-8", "surrogateescape")
    if not parts and member.kind != "dir":
        raise InvalidArgument(f"archive: entry {shown(member.name)} has no name")
    return text


def _names(words: Sequence[object], what: str) -> tuple[Reference, ...]:
    names = []
    for word in words:
        if not isinstance(word, str):
            raise InvalidArgument(f"archive: {what}: a string is expected")
        try:
            reference = parse(word)
        except InvalidArgument as error:
            raise InvalidArgument(f"archive: {what}: {word[:200]!r}: {error}") from error
        if reference.digest is not None:
            raise InvalidArgument(f"archive: {what}: {word[:200]!r}: a name with a tag is expected")
        names.append(reference.tagged())
    return tuple(names)
