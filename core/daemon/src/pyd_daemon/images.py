"""The images service as the routes and the containers use it: streams of progress, names decoded, events told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence

from pyd_contracts.errors import InvalidArgument, NotFound, PydError
from pyd_daemon.backends import Filters, Json, Login, RegistryAuth
from pyd_engine.containers.agreements import Committed, FoundImage
from pyd_engine.containers.config import image_config
from pyd_engine.containers.records import shown
from pyd_engine.containers.store import ContainerStore
from pyd_engine.images.auth import Credentials
from pyd_engine.images.documents import Index, parse_document
from pyd_engine.images.platform import Platform, acceptable, parse_platform
from pyd_engine.images.progress import Progress
from pyd_engine.images.records import ImageRecord
from pyd_engine.images.reference import Reference, is_id, is_id_prefix, parse
from pyd_engine.images.registry import Registries
from pyd_engine.images.saving import save
from pyd_engine.images.service import Images, Removed, Use
from pyd_engine.store.content import Content

__all__ = ["ImagesFace", "Room", "credentials", "streamed"]

Emit = Callable[[str, str, str, Mapping[str, str]], object]
Jsons = list[Json]
Uses = list[Use]
_WAITING = 256
"""Records that may wait for a client before who reports waits, too."""


class ImagesFace:
    """Satisfies `backends.Images`, and the containers service's `ImageSource`."""

    def __init__(self, images: Images, content: Content, registries: Registries, emit: Emit) -> None:
        self._images = images
        self._registries = registries
        self._content = content
        self._emit = emit
        self._containers: ContainerStore | None = None

    def used_by(self, containers: ContainerStore) -> None:
        """Say whose images may not be removed; containers are made after images, so this comes later."""
        self._containers = containers

    # --- for containers --------------------------------------------------------------------------------------------

    def find(self, ref: str, platform: str | None) -> FoundImage:
        """The image for a new container. Raises NotFound ``No such image: …``, also when it is for another platform."""
        record = self._images.resolve(ref)
        config = self._images.config(record.id)
        if platform and config.platform.normalised() not in acceptable(parse_platform(platform)):
            raise NotFound(
                f"image with reference {ref} was found but does not match the specified platform: {platform}"
            )
        return FoundImage(record.id, image_config(config.document.get("config")))

    def family(self, ref: str) -> Collection[str]:
        """Ids of the image and of all that were made of it; empty when there is none."""
        try:
            found = {self._images.resolve(ref).id}
        except (NotFound, InvalidArgument):
            return ()
        records = self._images.records.all()
        while more := {each.id for each in records if each.parent in found} - found:
            found |= more
        return found

    async def ensure(self, image_id: str, storage: str) -> str:
        """Unpack into a storage driver what is not there yet; the name of the snapshot that containers stand on."""
        return await self._images.furnished(self._images.resolve(image_id), storage)

    def size(self, image_id: str) -> int:
        """Bytes of all layers; 0 when the image is gone."""
        try:
            return self._images.sizes.of(self._images.resolve(image_id))
        except NotFound:
            return 0

    async def commit(self, image_id: str, layer: AsyncIterator[bytes], committed: Committed) -> str:
        """An image with one more layer; ``docker commit``."""
        name = _named(committed.repository, committed.tag) if committed.repository else None
        image = await self._images.commit(
            image_id, layer, config=shown(committed.config), changes=committed.changes, comment=committed.comment,
            author=committed.author, created_by=committed.created_by, name=name,
        )  # fmt: skip
        if name is not None:
            self._publish("tag", image.id, image.id, name.familiar)
        return image.id

    # --- for routes ------------------------------------------------------------------------------------------------

    async def list(self, *, all: bool, filters: Filters, shared_size: bool) -> Jsons:  # noqa: A002
        """``GET /images/json``; with *shared_size*, also what each image shares, and how many containers it has."""
        found = self._images.list(all=all, filters=filters)
        if shared_size:
            shared = self._images.sizes.shared()
            found = [
                {**each, "SharedSize": shared[each["Id"]], "Containers": len(self._uses(each["Id"]))} for each in found
            ]
        return found

    def layers_size(self) -> int:
        """Bytes of all layers, each counted once."""
        return self._images.sizes.total()

    async def inspect(self, name: str) -> Json:
        """``GET /images/{name}/json``."""
        return self._images.inspect(name)

    async def history(self, name: str) -> Jsons:
        """``GET /images/{name}/history``."""
        return self._images.history(name)

    async def tag(self, name: str, repository: str, tag: str) -> None:
        """``POST /images/{name}/tag``."""
        reference = _named(repository, tag)
        if reference.familiar_name == "sha256":
            raise InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
        image = self._images.tag(name, reference)
        self._publish("tag", image.id, image.id, reference.familiar)

    async def remove(self, name: str, *, force: bool, prune: bool) -> Jsons:
        """``DELETE /images/{name}``."""
        done = await self._images.remove(name, in_use=self._uses, force=force, noprune=not prune)
        self._told_removed(done)
        return list(done)

    async def prune(self, filters: Filters) -> Json:
        """``POST /images/prune``."""
        rest = {key: values for key, values in filters.items() if key != "dangling"}
        dangling = not {"0", "false"} & {each.lower() for each in filters.get("dangling", ())}
        done, freed = await self._images.prune(in_use=self._uses, dangling=dangling, filters=rest)
        self._told_removed(done)
        return {"ImagesDeleted": done or None, "SpaceReclaimed": freed}

    async def pull(self, reference: str, *, platform: str | None, auth: RegistryAuth | None) -> AsyncIterator[Json]:
        """``POST /images/create?fromImage=``: dockerd's progress records."""
        name = parse(reference).tagged()

        async def work(progress: Progress) -> None:
            pulled = await self._images.pull(
                name, platform=_platform(platform), credentials=credentials(auth), progress=progress
            )
            self.pulled(pulled.image, name.familiar)

        async with contextlib.aclosing(streamed(work)) as records:
            async for record in records:
                yield record

    async def push(self, name: str, *, tag: str, auth: RegistryAuth | None) -> AsyncIterator[Json]:
        """``POST /images/{name}/push``: dockerd's progress records. Without a tag, all tags of the repository."""
        reference = parse(name)
        if reference.digest is not None:
            raise InvalidArgument("cannot push a digest reference")
        reference = reference.with_tag(tag) if tag else reference

        async def work(progress: Progress) -> None:
            for pushed in await self._images.push(reference, credentials=credentials(auth), progress=progress):
                self._publish("push", pushed.image.id, pushed.name.familiar, pushed.name.familiar_name)

        async with contextlib.aclosing(streamed(work)) as records:
            async for record in records:
                yield record

    async def load(self, archive: AsyncIterator[bytes], *, quiet: bool) -> AsyncIterator[Json]:
        """``POST /images/load``: dockerd's progress records; with *quiet*, only what was loaded."""

        async def work(progress: Progress) -> None:
            def told(record: dict[str, object]) -> None:
                if not quiet or "stream" in record:
                    progress(record)

            for image in await self._images.archives.load(archive, progress=told):
                self._tell("load", image, image.id)

        async with contextlib.aclosing(streamed(work)) as records:
            async for record in records:
                yield record

    async def import_archive(
        self,
        archive: AsyncIterator[bytes],
        *,
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str | None,
    ) -> AsyncIterator[Json]:
        """``POST /images/create?fromSrc=-``: the new image's id."""
        name = _named(repository, tag) if repository else None
        image = await self._images.import_archive(
            archive, name=name, changes=changes, message=message, platform=_platform(platform)
        )
        self._tell("import", image, image.id)
        yield {"status": image.id}

    def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        """``GET /images/get``: an archive of images, in the format of docker save."""
        wanted = []
        for name in names:
            record = self._images.resolve(name)
            by_id = is_id(name) or (
                is_id_prefix(name) and record.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:"))
            )
            wanted.append((record, [] if by_id else [parse(name).tagged()]))  # asked by id, it is saved without a name
        return save(self._content, wanted)

    async def login(self, auth: RegistryAuth) -> Login:
        """Check credentials against the registry they are for; nothing is kept."""
        server = auth.server.removeprefix("https://").removeprefix("http://").partition("/")[0]
        await self._registries.login(server, credentials(auth))
        return Login()

    async def distribution(self, name: str, *, auth: RegistryAuth | None) -> Json:
        """What a registry has under a name, without pulling it: ``GET /distribution/{name}/json``."""
        reference = parse(name).tagged()
        wanted = reference.digest or reference.tag or "latest"
        fetched = await self._registries.repository(reference, credentials(auth)).manifest(wanted)
        document = parse_document(fetched.raw, f"manifest of {reference.familiar}")
        platforms = (
            [
                {"architecture": each.platform.architecture, "os": each.platform.os, "variant": each.platform.variant}
                for each in document.manifests
                if each.platform is not None
            ]
            if isinstance(document, Index)
            else []
        )
        return {
            "Descriptor": {
                "mediaType": document.media_type,
                "digest": fetched.digest,
                "size": len(fetched.raw),
            },
            "Platforms": platforms,
        }

    # --- small things ----------------------------------------------------------------------------------------------

    def _uses(self, image_id: str) -> Uses:
        everyone = self._containers.all() if self._containers is not None else []
        using = [Use(each.id, each.state.phase.alive) for each in everyone if each.image == image_id]
        return using + [Use("of a build", True)] * (image_id in self._images.held)

    def named(self, image: ImageRecord, name: Reference) -> None:
        """Give a new image a name, and tell; a build does."""
        self._images.tag(image.id, name)
        self._publish("tag", image.id, image.id, name.familiar)

    def pulled(self, image: ImageRecord, name: str) -> None:
        """Tell that an image was pulled."""
        self._tell("pull", image, name)

    def _tell(self, action: str, image: ImageRecord, actor: str) -> None:
        names = [name.familiar for name in image.tags]
        self._publish(action, image.id, actor, names[0] if names else image.id)

    def _told_removed(self, done: Removed) -> None:
        for action, image in done.events:
            self._publish(action, image, image, image)

    def _publish(self, action: str, image: str, actor: str, name: str) -> None:
        """With the image's labels, as long as it is there: a filter may ask for them."""
        labels: Mapping[str, str] = {}
        with contextlib.suppress(PydError):
            labels = self._images.config(image).labels
        self._emit("image", action, actor, {**labels, "name": name})


class Room:
    """Lets who reports wait for who reads: a program can write faster than a client takes it."""

    def __init__(self) -> None:
        self.records: asyncio.Queue[Json | None] = asyncio.Queue()
        self.taken = asyncio.Event()

    async def wait(self) -> None:
        """Until not much is waiting."""
        while self.records.qsize() > _WAITING:
            self.taken.clear()
            await self.taken.wait()


async def streamed(work: Callable[[Progress], Awaitable[None]], room: Room | None = None) -> AsyncGenerator[Json, None]:
    """The records that *work* reports, as they come; its error at the end; it is cancelled when nobody listens."""
    room = room or Room()
    records = room.records

    async def run() -> None:
        try:
            await work(records.put_nowait)
        finally:
            records.put_nowait(None)

    task = asyncio.create_task(run(), name="image work")
    try:
        while (record := await records.get()) is not None:
            room.taken.set()
            yield record
        await task
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, PydError):
                await task


def _named(repository: str, tag: str) -> Reference:
    """The repository is read by itself: with a tag behind it, 64 digits would pass for a name and be taken for an id after."""
    name = parse(repository)
    return (name.with_tag(tag) if tag else name).tagged()


def _platform(text: str | None) -> Platform | None:
    return parse_platform(text) if text else None


def credentials(auth: RegistryAuth | None) -> Credentials:
    """What the engine is given."""
    if auth is None:
        return Credentials()
    return Credentials(auth.username, auth.password, auth.identity_token, auth.registry_token)
