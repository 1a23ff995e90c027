"""Builds: from a request and a context to an image."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pyd_contracts.errors import FailedPrecondition, InvalidArgument, NotFound, PydError, from_oserror
from pyd_contracts.frontend import BuildFrontend
from pyd_contracts.values import Plan, Recipe, Step
from pyd_engine.builds.building import WORKER, Building, Tools
from pyd_engine.builds.cache import Cache, Entry, Intermediates
from pyd_engine.builds.fetching import Fetching, is_git, is_url
from pyd_engine.builds.output import Output
from pyd_engine.builds.request import BuildFailure, BuildRequest, Say
from pyd_engine.builds.running import Running
from pyd_engine.builds.scratch import Scratch
from pyd_engine.containers.service import Containers
from pyd_engine.files.client import work
from pyd_engine.images.platform import Platform, acceptable, host_platform, parse_platform
from pyd_engine.images.records import ImageRecord
from pyd_engine.images.reference import Reference, parse
from pyd_engine.images.service import Images
from pyd_engine.images.transport import RegistryConfig
from pyd_engine.store.database import Database

__all__ = ["Builds", "Frontends"]

_T = TypeVar("_T")
_DIRECTIVE = re.compile(r"#\s*frontend\s*=\s*(\S+)\s*", re.ASCII | re.IGNORECASE)


class Frontends:
    """Those that are ready, and why others are not. *default* reads recipes that name none."""

    def __init__(self, ready: Mapping[str, BuildFrontend], absent: Mapping[str, str], default: str) -> None:
        self._ready = ready
        self._absent = absent
        self._default = default

    def of(self, text: str) -> BuildFrontend:
        """The one that a recipe's first lines name (``# frontend=NAME``), or the default."""
        name = self._default
        for line in text.removeprefix("\ufeff").splitlines():
            if not line.startswith("#"):
                break
            if named := _DIRECTIVE.fullmatch(line):
                name = named[1]
        if name in self._ready:
            return self._ready[name]
        why = self._absent.get(name)
        if why is None:
            known = ", ".join(sorted(self._ready)) or "none"
            raise FailedPrecondition(
                f"the frontend {name!r} is not installed; ready are: {known} (see `pyd plugin ls`)"
            )
        raise FailedPrecondition(f"the frontend {name!r} is not ready: {why}")


class Builds:
    """All builds of this host.

    run      a private directory for mount points
    named    gives an image a name, and tells
    pulled   tells that an image was pulled
    """

    def __init__(
        self, database: Database, images: Images, containers: Containers, frontends: Frontends, registries: RegistryConfig,
        *, data: Path, run: Path, logging: str, named: Callable[[ImageRecord, Reference], None],
        pulled: Callable[[ImageRecord, str], None],
    ) -> None:  # fmt: skip
        self._images = images
        self._frontends = frontends
        self._run = run
        self._named = named
        self._pulled = pulled
        self._scratch = Scratch(data / "tmp")
        self.cache = Cache(database, images.records)
        self._running = Running(containers, Intermediates(database), logging)
        fetching = Fetching(registries)
        self._fetching = fetching
        self._tools = Tools(images, self.cache, self._running, fetching, run)

    async def start_up(self) -> None:
        """Make the place for mount points, and remove what builds of an earlier daemon left."""
        try:
            self._run.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise from_oserror(error, f"make {self._run}") from error
        await self._running.start_up()
        await asyncio.to_thread(self._scratch.sweep)
        self.cache.tidy()

    async def build(
        self, request: BuildRequest, body: AsyncIterator[bytes], say: Say, room: Callable[[], Awaitable[None]]
    ) -> None:
        """One build. What is wrong before the first record is raised; afterwards it is the last record. *room* waits for who
        reads them."""
        output = Output(say, room, quiet=request.quiet)
        names = [parse(each).tagged() for each in request.tags]
        for name in names:
            if name.digest is not None:
                raise InvalidArgument("refusing to create a tag with a digest reference")
        platform = parse_platform(request.platform) if request.platform else host_platform()
        async with AsyncExitStack() as held:
            directory = await held.enter_async_context(self._scratch.directory())
            recipe = await self._context(request, body, directory, platform)
            frontend = self._frontends.of(recipe.text)
            try:
                known, plan = await self._planned(frontend, recipe, request, output)
                building = Building(
                    self._tools,
                    request,
                    output,
                    directory,
                    known,
                    lambda name: self._image(name, request, output),
                    platform,
                    held,
                )
                image = await building.perform(_labelled(plan, request.labels))
                if plan.unused:
                    output.line(f"[Warning] One or more build-args [{' '.join(plan.unused)}] were not consumed")
                for name in names:
                    self._named(image, name)
            except (BuildFailure, PydError) as error:
                if not output.begun and isinstance(error, PydError):
                    raise
                output.failed(error)
                return
            output.finished(image.id)
            for name in names:
                output.line(f"Successfully tagged {name.familiar}")

    # --- what is built -----------------------------------------------------------------------------------------------

    async def _context(
        self, request: BuildRequest, body: AsyncIterator[bytes], directory: Path, platform: Platform
    ) -> Recipe:
        """Unpack it into ``context``; the recipe."""
        context = directory / "context"
        await asyncio.to_thread(context.mkdir, 0o755)
        text: bytes | None = None
        sent = True
        if request.remote:
            sent = False
            if is_git(request.remote):
                tree = await self._fetching.repository(request.remote, directory)
                await asyncio.to_thread(context.rmdir)
                await asyncio.to_thread(tree.rename, context)
            elif is_url(request.remote):
                text = await self._fetching.context(request.remote, context)
            else:
                raise InvalidArgument(f"remoteURL ({request.remote}) could not be recognized as URL")
        name = request.recipe or "Dockerfile"
        if text is None:
            unpack = {"op": "unpack", "directory": str(context), "recipe": name, "archive": sent}
            running = await work(unpack, "unpack the build context", archive=body if sent else None, module=WORKER)
            try:
                name = running.answer["recipe"]
                text = b"".join([piece async for piece in running])
            finally:
                await running.close()
        return Recipe(
            text.decode("utf-8", "replace").removeprefix("\ufeff"), name, request.target, request.arguments, str(platform),
            str(host_platform()),
        )  # fmt: skip

    async def _planned(
        self, frontend: BuildFrontend, recipe: Recipe, request: BuildRequest, output: Output
    ) -> tuple[dict[str, ImageRecord], Plan]:
        """The plan, and the images that it names."""
        known: dict[str, ImageRecord] = {}
        documents: dict[str, Mapping[str, Any]] = {}
        while wanted := await _about_recipe(frontend.frontend_images, recipe, documents):
            for name in sorted(wanted):
                known[name] = await self._image(name, request, output)
                documents[name] = self._images.config(known[name].id).document
        plan: Plan = await _about_recipe(frontend.frontend_plan, recipe, documents)
        elsewhere = self._elsewhere(plan, known, parse_platform(recipe.platform))
        for name, platform in elsewhere.items():
            known[name] = await self._image(name, request, output, platform)
            documents[name] = self._images.config(known[name].id).document
        return known, await _about_recipe(frontend.frontend_plan, recipe, documents) if elsewhere else plan

    def _elsewhere(self, plan: Plan, known: Mapping[str, ImageRecord], usual: Platform) -> dict[str, Platform]:
        """Images that the recipe wants for another platform than the *usual* one (``FROM --platform=``), and that are not here
        for it by their names."""
        wanted: dict[str, Platform] = {}
        for stage in plan.stages:
            if isinstance(stage.base, str) and stage.base in known:
                platform = parse_platform(stage.platform) if stage.platform else usual
                if wanted.setdefault(stage.base, platform) != platform:
                    raise InvalidArgument(
                        f"{stage.base} is wanted for {wanted[stage.base]} and for {platform}: a name stands for one image "
                        "in a build; name one of them by its digest"
                    )
        return {
            name: platform
            for name, platform in wanted.items()
            if platform != usual
            and self._images.config(known[name].id).platform.normalised() not in acceptable(platform)
        }

    async def _image(
        self, name: str, request: BuildRequest, output: Output, platform: Platform | None = None
    ) -> ImageRecord:
        """One that a recipe stands on, pulled if need be; one for a *platform* is not here yet."""
        if not request.pull and platform is None:
            try:
                return self._images.resolve(name)
            except NotFound:
                pass
        reference = parse(name).tagged()
        output.begun = True
        if platform is None and request.platform:
            platform = parse_platform(request.platform)
        pulled = await self._images.pull(
            reference, platform=platform, credentials=request.credentials(reference.domain), progress=output.record
        )
        self._pulled(pulled.image, reference.familiar)
        return pulled.image

    # --- the cache ---------------------------------------------------------------------------------------------------

    def entries(self) -> list[tuple[Entry, bool]]:
        """Steps that are known, and whether an image with a name stands on each."""
        named: set[str] = set()
        for record in self._images.records.all():
            if record.tags or record.digests:
                each: ImageRecord | None = record
                while each is not None and each.id not in named:
                    named.add(each.id)
                    each = self._images.records.get(each.parent) if each.parent else None
        return [(entry, entry.image in named) for entry in self.cache.entries()]

    def prune(self, *, all_: bool, unused_since: int | None, ids: Sequence[str] = ()) -> list[str]:
        """Forget steps that no image with a name stands on, or *all_* of them; their keys. The images stay: ``docker image
        prune`` removes them. *unused_since*: only what was not used since, in nanoseconds."""
        gone = [
            entry.key
            for entry, in_use in self.entries()
            if (all_ or not in_use)
            and (unused_since is None or entry.used_at < unused_since)
            and (not ids or any(entry.key.startswith(each) for each in ids))
        ]
        self.cache.forget(gone)
        self.cache.tidy()
        return gone


async def _about_recipe(hook: Callable[..., _T], recipe: Recipe, known: Mapping[str, Mapping[str, Any]]) -> _T:
    """Ask a frontend. That it finds no target is a fault of the request, not of what is on this host."""
    try:
        return await asyncio.to_thread(hook, recipe=recipe, known=known)
    except NotFound as error:
        raise InvalidArgument(str(error)) from error


def _labelled(plan: Plan, labels: Mapping[str, str]) -> Plan:
    """One more step for each label that the client wants."""
    if not labels or not plan.stages:
        return plan
    last = plan.stages[-1]
    config = dict(last.steps[-1].config if last.steps else last.config)
    author = last.steps[-1].author if last.steps else ""
    steps = list(last.steps)
    for name, value in sorted(labels.items()):
        config = {**config, "Labels": {**(config.get("Labels") or {}), name: value}}
        text = f"LABEL {name}={value}"
        steps.append(Step(text, text, -1, config, author))
    return replace(plan, stages=(*plan.stages[:-1], replace(last, steps=tuple(steps))))
