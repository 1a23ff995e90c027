"""Images: names, records, and everything a client does with them."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import io
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyd_contracts.errors import Conflict, InvalidArgument, NotFound, ResourceExhausted
from pyd_contracts.values import Mount
from pyd_engine.images import views
from pyd_engine.images.archive import Archives, publishing
from pyd_engine.images.auth import ANONYMOUS, Credentials
from pyd_engine.images.documents import MAX_CONFIG, ImageConfig, parse_config
from pyd_engine.images.making import Change, Making, single_layer_document
from pyd_engine.images.platform import Platform
from pyd_engine.images.progress import Progress, short_id
from pyd_engine.images.pull import Pulled, Puller
from pyd_engine.images.push import Pushed, Pusher
from pyd_engine.images.records import ImageRecord, ImageRecords
from pyd_engine.images.reference import Reference, is_id, is_id_prefix, parse
from pyd_engine.images.registry import Registries
from pyd_engine.images.sizes import Sizes
from pyd_engine.layers.service import LayerDescriptor, Layers, chain_ids
from pyd_engine.store.content import Content, Lease
from pyd_engine.store.database import Database

__all__ = ["Images", "Removed", "Use"]


@dataclass(frozen=True, slots=True)
class Use:
    """A container that was made from an image."""

    container: str
    running: bool


class Removed(builtins.list[dict[str, str]]):
    """Items as clients get them (``{"Untagged": name}``, ``{"Deleted": id}``), and what events tell: (action, image id)."""

    def __init__(self) -> None:
        super().__init__()
        self.events: builtins.list[tuple[str, str]] = []


class Images:
    """All images of this host.

    driver          the default storage driver: its name is shown, and layers are unpacked into it
    unpack_on_pull  unpack right after the download; else when first used
    """

    def __init__(
        self, database: Database, content: Content, layers: Layers, registries: Registries, *,
        driver: str, unpack_on_pull: bool = True, log: logging.Logger | None = None,
    ) -> None:  # fmt: skip
        self._content = content
        self._layers = layers
        self._registries = registries
        self._driver = driver
        self._log = log or logging.getLogger("pyd.images")
        self._configs: dict[str, ImageConfig] = {}
        self.held: Counter[str] = Counter()
        """Images that builds stand on."""
        self.records = ImageRecords(database)
        unpack = driver if unpack_on_pull else None
        self.sizes = Sizes(self.records, layers)
        self._puller = Puller(content, self.records, registries, layers, driver=unpack)
        self._pusher = Pusher(content, self.records, registries)
        self.archives = Archives(content, self.records, layers, self.leased, driver=unpack)
        making = Making(content, layers, self.archives, self.leased, self.config, self.create, driver)
        self.extend, self.restore = making.extend, making.restore

    # --- finding -------------------------------------------------------------------------------------------------

    def resolve(self, text: str) -> ImageRecord:
        """The image a person means: a name, a whole id, or the beginning of one. NotFound, InvalidArgument for no reference."""
        if is_id(text):
            found = self.records.get("sha256:" + text.removeprefix("sha256:"))
            if found is None:
                raise NotFound(f"No such image: sha256:{text.removeprefix('sha256:')}")
            return found
        if text.startswith("sha256:") and is_id_prefix(text):
            reference = None
        else:
            reference = parse(text).tagged()
            named = self.records.by_name(reference)
            if named is not None:
                return named
        if is_id_prefix(text):
            candidates = self.records.by_prefix(text.removeprefix("sha256:"))
            if len(candidates) == 1:
                return candidates[0]
        raise NotFound(f"No such image: {reference.familiar if reference else text}")

    def config(self, image: str) -> ImageConfig:
        """The parsed configuration of an image. Its values are strings of strangers."""
        found = self._configs.get(image)
        if found is None:
            found = parse_config(self._content.read(image, MAX_CONFIG), f"configuration of image {short_id(image)}")
            if len(self._configs) > 256:
                self._configs.clear()
            self._configs[image] = found
        return found

    def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - the API's own word
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> builtins.list[dict[str, Any]]:
        """ImageSummary objects, newest first. Without *all*, images that only others were built on are left out."""
        records = self.records.all()
        fits = views.keep(filters or {}, self.resolve, lambda record: views.nanoseconds(self.config(record.id).created))
        parents = {record.parent for record in records if record.parent}
        shown = []
        for record in records:
            config = self.config(record.id)
            if not all and record.id in parents and not record.tags:
                continue
            if fits(record, config):
                named = views.named_like((filters or {}).get("reference", ()), record)
                shown.append(views.summary(named, config, self.sizes.of(record)))
        return sorted(shown, key=lambda item: int(item["Created"]), reverse=True)

    def inspect(self, text: str) -> dict[str, Any]:
        """ImageInspect of one image."""
        record = self.resolve(text)
        return views.inspect(record, self.config(record.id), self.sizes.of(record), self._driver)

    def history(self, text: str) -> builtins.list[dict[str, Any]]:
        """The lines of ``docker history``, newest first."""
        record = self.resolve(text)
        return views.history(self._family(record), self.config(record.id), self.sizes.each(record))

    def _family(self, record: ImageRecord) -> builtins.list[ImageRecord]:
        """An image and those that it was built on, as far as they are here."""
        found = [record]
        while record.parent and (parent := self.records.get(record.parent)) is not None:
            found.append(record := parent)
        return found

    # --- making --------------------------------------------------------------------------------------------------

    async def pull(
        self, reference: Reference, *, platform: Platform | None = None, credentials: Credentials = ANONYMOUS,
        progress: Progress | None = None,
    ) -> Pulled:  # fmt: skip
        """``docker pull``; see `Puller.pull`."""
        try:
            return await self._puller.pull(reference, platform=platform, credentials=credentials, progress=progress)
        except ResourceExhausted:  # what it brought so far would keep the disk full
            await self.collect()
            raise

    async def push(
        self, reference: Reference, *, credentials: Credentials = ANONYMOUS, progress: Progress | None = None
    ) -> builtins.list[Pushed]:
        """``docker push``; see `Pusher.push`."""
        return await self._pusher.push(reference, credentials=credentials, progress=progress)

    async def pull_all(
        self, reference: Reference, *, platform: Platform | None = None, credentials: Credentials = ANONYMOUS,
        progress: Progress | None = None,
    ) -> builtins.list[Pulled]:  # fmt: skip
        """``docker pull --all-tags``: every tag of a repository, one after the other."""
        tags = await self._registries.repository(reference, credentials).tags()
        more: Any = {"platform": platform, "credentials": credentials, "progress": progress}
        return [await self.pull(reference.with_tag(tag), **more) for tag in tags]

    async def snapshot(self, record: ImageRecord, driver: str | None = None) -> str | None:
        """The committed snapshot of an image in a storage driver, unpacked now if need be; None when it has no layers."""
        return await self._layers.ensure(driver or self._driver, record.layers)

    @contextlib.asynccontextmanager
    async def viewed(self, record: ImageRecord | None) -> AsyncIterator[Sequence[Mount]]:
        """What to mount to see an image's files; nothing for none, and for one without layers."""
        chain = await self.snapshot(record) if record else None
        if chain is None:
            yield ()
            return
        async with self._layers.views.open(self._driver, chain) as mounts:
            yield mounts

    @contextlib.contextmanager
    def hold(self, image: str) -> Iterator[None]:
        """A build stands on an image: it is in use meanwhile, whatever names it has."""
        self.held[image] += 1
        try:
            yield
        finally:
            self.held[image] -= 1
            self.held += Counter()  # drops what is zero

    def workers(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Several images will be made one after the other: what unpacks layers is kept meanwhile."""
        return self._layers.workers()

    async def furnished(self, record: ImageRecord, driver: str) -> str:
        """The committed snapshot that containers of an image stand on (`Layers.furnished`)."""
        return await self._layers.furnished(driver, record.layers)

    def tag(self, text: str, name: Reference) -> ImageRecord:
        """Give an image one more name. InvalidArgument when the name has a digest."""
        record = self.resolve(text)
        if name.digest is not None:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        self.records.name(record.id, name.tagged())
        return record

    async def create(
        self,
        layers: Sequence[LayerDescriptor],
        config: Mapping[str, Any],
        names: Sequence[Reference] = (),
        parent: str = "",
    ) -> ImageRecord:
        """Record an image from layers whose blobs are stored and a configuration document; commit and build use this."""
        raw = json.dumps(config, separators=(",", ":"), ensure_ascii=False).encode()
        parsed = parse_config(raw, "image configuration")
        if parsed.diff_ids != tuple(layer.diff_id for layer in layers):
            raise InvalidArgument("image configuration: rootfs.diff_ids do not name the layers")
        with self._content.lease([layer.digest for layer in layers]) as lease:
            for layer in layers:
                await asyncio.to_thread(self._content.size, layer.digest)
            digest = await asyncio.to_thread(self._content.add, raw, lease)
            self.records.put(digest, layers, parent=parent, names=[name.tagged() for name in names])
        record = self.records.get(digest)
        assert record is not None
        return record

    async def import_tree(self, name: Reference, tar: bytes, config: Mapping[str, Any]) -> ImageRecord:
        """An image with one layer out of a tar archive in memory: the image that comes with the engine."""

        async def chunks() -> AsyncIterator[bytes]:
            stream = io.BytesIO(tar)
            while piece := stream.read(1 << 20):
                yield piece

        async with self.leased() as lease:
            with self._content.batch(lease) as batch:
                layer = await self.archives.store_layer(chunks(), batch)
                async with publishing(batch):
                    pass
            document = single_layer_document(layer, config, comment="", platform=None)
            record = await self.create([layer], document, [name])
        await self.snapshot(record)
        return record

    async def import_archive(
        self, chunks: AsyncIterator[bytes], *, name: Reference | None = None, changes: Sequence[str] = (),
        message: str = "", platform: Platform | None = None,
    ) -> ImageRecord:  # fmt: skip
        """``docker import``: a root file system as a tar stream, compressed or not, becomes an image of one layer."""
        from pyd_engine.images.changes import apply_changes

        config = apply_changes({}, changes)
        async with self.leased() as lease, self._layers.workers():
            with self._content.batch(lease) as batch:
                layer = await self.archives.store_layer(chunks, batch)
                # what is no layer must not become an image: unpack first
                async with publishing(batch):
                    await self._layers.ensure(self._driver, [layer])
            document = single_layer_document(layer, config, comment=message or "Imported from -", platform=platform)
            return await self.create([layer], document, [name] if name else [])

    async def commit(
        self, base: str, chunks: AsyncIterator[bytes], *, config: Mapping[str, Any], changes: Sequence[str],
        comment: str, author: str, created_by: str, name: Reference | None,
    ) -> ImageRecord:  # fmt: skip
        """``docker commit``: the image *base* with one more layer, a tar stream; none when it holds nothing."""
        from pyd_engine.images.changes import apply_changes

        change = Change(apply_changes(config, changes), author, created_by, comment)
        return await self.extend(self.resolve(base), chunks, change, [name] if name else [])

    @contextlib.asynccontextmanager
    async def leased(self) -> AsyncIterator[Lease]:
        """A lease whose end takes what did not become part of an image; a failure takes what was unpacked, too."""
        mine: frozenset[str] = frozenset()
        try:
            with self._content.lease() as lease:
                try:
                    yield lease
                finally:
                    mine = lease.digests
        except BaseException:
            await asyncio.shield(self.collect())
            raise
        await asyncio.to_thread(self._content.collect, self.live_blobs, mine)

    # --- removing ------------------------------------------------------------------------------------------------

    async def remove(
        self, text: str, *, in_use: Callable[[str], Sequence[Use]], force: bool = False, noprune: bool = False
    ) -> Removed:
        """``docker rmi``: take a name away, or the image with it when that was its last. Returns Untagged and Deleted items.

        *in_use* names the containers made from an image id. Conflict, with Docker's words, when something needs the image.
        """
        record = self.resolve(text)
        done = Removed()
        by_id = record.id.startswith(text) or record.id.removeprefix("sha256:").startswith(text)
        names = [*record.tags, *record.digests]
        if not by_id:
            reference = parse(text).tagged()
            if reference.digest:
                reference = reference.with_digest(reference.digest)
            using = in_use(record.id)
            if using and not force and _single(names):
                raise Conflict(
                    f'conflict: unable to remove repository reference "{text}" (must force) - container '
                    f"{using[0].container[:12]} is using its referenced image {short_id(record.id)}"
                )
            self._untag(record, reference, done)
            names.remove(reference)
            if reference.digest is None and not any(n.repository == reference.repository and n.tag for n in names):
                for name in [n for n in names if n.repository == reference.repository]:
                    self._untag(record, name, done)
                    names.remove(name)
            if names:
                return done
        elif _single(names):
            self._check(record, in_use, force=force, named=False)
            for name in names:
                self._untag(record, name, done)
        await self._delete(record.id, in_use, done, force=force, prune=not noprune, quiet=False)
        await self.collect()
        return done

    def _untag(self, record: ImageRecord, name: Reference, done: Removed) -> None:
        self.records.unname(name)
        done.append({"Untagged": name.familiar})
        done.events.append(("untag", record.id))

    async def _delete(
        self, image: str, in_use: Callable[[str], Sequence[Use]], done: Removed, *,
        force: bool, prune: bool, quiet: bool,
    ) -> None:  # fmt: skip
        record = self.records.get(image)
        if record is None:
            return
        if quiet and (record.tags or record.digests or in_use(image) or self._children(image)):
            return
        self._check(record, in_use, force=force, named=True)
        for name in (*record.tags, *record.digests):
            self._untag(record, name, done)
        self.records.delete(image)
        self._configs.pop(image, None)
        done.append({"Deleted": image})
        done.events.append(("delete", image))
        kept = self._live_chains()
        chains = chain_ids([layer.diff_id for layer in record.layers])
        done.extend({"Deleted": chain} for chain in reversed(chains) if chain not in kept)
        if prune and record.parent:
            await self._delete(record.parent, in_use, done, force=False, prune=True, quiet=True)

    def _children(self, image: str) -> bool:
        return any(other.parent == image for other in self.records.all())

    def _check(self, record: ImageRecord, in_use: Callable[[str], Sequence[Use]], *, force: bool, named: bool) -> None:
        uses = in_use(record.id)
        running = next((use for use in uses if use.running), None)
        if self._children(record.id):
            reason, hard = "image has dependent child images", True
        elif running:
            reason, hard = f"image is being used by running container {running.container[:12]}", True
        elif named and (record.tags or record.digests) and not force:
            reason, hard = "image is referenced in multiple repositories", False
        elif uses and not force:
            reason, hard = f"image is being used by stopped container {uses[0].container[:12]}", False
        else:
            return
        word = "cannot be forced" if hard else "must be forced"
        raise Conflict(f"conflict: unable to delete {short_id(record.id)} ({word}) - {reason}")

    async def prune(
        self, *, in_use: Callable[[str], Sequence[Use]], dangling: bool = True,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> tuple[Removed, int]:  # fmt: skip
        """Remove images without a tag, or with *dangling* false all that no container uses; returns items and bytes freed."""
        fits = views.keep(filters or {}, self.resolve, lambda record: views.nanoseconds(self.config(record.id).created))
        done = Removed()
        freed = 0
        for record in self.records.all():
            if (dangling and record.tags) or in_use(record.id) or self._children(record.id):
                continue
            if not fits(record, self.config(record.id)):
                continue
            before = self._live_chains()
            sizes = self.sizes.chains(record)
            await self._delete(record.id, in_use, done, force=True, prune=True, quiet=False)
            freed += sum(sizes.get(chain, 0) for chain in before - self._live_chains())
        await self.collect()
        return done, freed

    def _live_chains(self) -> set[str]:
        return {
            chain for record in self.records.all() for chain in chain_ids([layer.diff_id for layer in record.layers])
        }

    def live_blobs(self) -> set[str]:
        """What images need of the content store."""
        live: set[str] = set()
        for record in self.records.all():
            live.update((record.id, record.manifest, *(layer.digest for layer in record.layers)))
            live.update(name.digest for name in record.digests if name.digest)
        return live

    async def collect(self) -> None:
        """Remove blobs and unpacked layers that no image has. What containers stand on stays."""
        await asyncio.to_thread(self._content.collect, self.live_blobs)
        await self._layers.remove_unused(self._live_chains())


def _single(names: Sequence[Reference]) -> bool:
    """At most one tag, and all digests in its repository (moby daemon/images, isSingleReference)."""
    if len(names) <= 1:
        return True
    tags = [name for name in names if name.digest is None]
    repositories = {name.repository for name in names if name.digest is not None}
    if len(tags) > 1 or len(repositories) != 1:
        return False
    return (tags or names)[0].repository in repositories
