"""One build: the steps of a plan over their images, each done, or found done before."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyd_contracts.errors import Conflict, InvalidArgument, NotFound, PydError
from pyd_contracts.values import Copy, Plan, Run, Stage, Step
from pyd_engine.builds.cache import Cache, key_of
from pyd_engine.builds.fetching import Fetching
from pyd_engine.builds.inherited import Inherited
from pyd_engine.builds.output import Output
from pyd_engine.builds.request import BuildRequest
from pyd_engine.builds.running import Running
from pyd_engine.files.client import work
from pyd_engine.identities import new_id
from pyd_engine.images.making import Change
from pyd_engine.images.platform import Platform
from pyd_engine.images.records import ImageRecord
from pyd_engine.images.service import Images

__all__ = ["WORKER", "Building", "Tools"]

WORKER = "pyd_engine.builds.worker"
_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class Tools:
    """What builds are done with. *run* is a place for mount points."""

    images: Images
    cache: Cache
    running: Running
    fetching: Fetching
    run: Path


@dataclass(slots=True)
class _Done:
    """A step's image. *container* is where it was made, for those who read along; empty: nowhere."""

    image: ImageRecord
    container: str = ""
    cached: bool = False


class Building:
    """Carries a plan out.

    directory  private: the context is in ``context``, what is downloaded and unpacked beside it
    known      images by the names that the plan has for them; *image* finds further ones
    """

    def __init__(
        self, tools: Tools, request: BuildRequest, output: Output, directory: Path, known: dict[str, ImageRecord],
        image: Callable[[str], Awaitable[ImageRecord]], platform: Platform, held: AsyncExitStack,
    ) -> None:  # fmt: skip
        self._tools = tools
        self._request = request
        self._output = output
        self._directory = directory
        self._known = known
        self._image = image
        self._platform = platform
        self._held = held
        self._warm = False
        self._results: list[ImageRecord | None] = []
        self._inherited = Inherited(tools.images, request.cache_from) if request.cache_from else None

    async def perform(self, plan: Plan) -> ImageRecord:
        """All of it; the image of the last stage."""
        total = len(plan.preamble) + sum(1 + sum(step.line != 0 for step in stage.steps) for stage in plan.stages)
        number = 0
        for text in plan.preamble:
            self._output.step(number := number + 1, total, text)
        for stage in plan.stages:
            number = await self._stage(stage, number, total)
        last = self._results[-1] if self._results else None
        if last is None:
            raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
        return last

    async def _stage(self, stage: Stage, number: int, total: int) -> int:
        output = self._output
        output.step(number := number + 1, total, stage.text)
        image = self._base(stage.base)
        if image is not None:
            self._held.enter_context(self._tools.images.hold(image.id))
        config: Mapping[str, Any] = stage.config
        triggers = sum(step.line == 0 for step in stage.steps)
        if triggers:
            output.line(f"# Executing {triggers} build trigger{'s' if triggers > 1 else ''}")
        told = False
        for step in stage.steps:
            if step.line and not told:
                output.image(image.id if image else "")
                told = True
            if step.line:
                output.step(number := number + 1, total, step.text)
            done = await self._step(image, config, step)
            if done.cached:
                output.line(" ---> Using cache")
            image, config = done.image, step.config
            self._held.enter_context(self._tools.images.hold(image.id))
            if step.line:
                output.image(image.id)
        if not told:
            output.image(image.id if image else "")
        if image is not None:
            output.result(image.id)
        self._results.append(image)
        return number

    def _base(self, base: str | int | None) -> ImageRecord | None:
        if isinstance(base, int):
            return self._results[base]
        return None if base is None else self._known[base]

    # --- steps -------------------------------------------------------------------------------------------------------

    async def _step(self, below: ImageRecord | None, before: Mapping[str, Any], step: Step) -> _Done:
        if isinstance(step.work, Run):
            return await self._run(below, before, step, step.work)
        if isinstance(step.work, Copy):
            return await self._copy(below, step, step.work)
        directory = str(step.config.get("WorkingDir") or "")
        if directory and directory != str(before.get("WorkingDir") or ""):
            return await self._copy(below, step, Copy((), directory.rstrip("/") + "/"))
        return await self._configure(below, step)

    async def _configure(self, below: ImageRecord | None, step: Step) -> _Done:
        """Nothing but the configuration changes."""
        change = self._change(step, f"{_shell(step)} #(nop)  {step.meaning}")
        key = key_of(below.id if below else "", step, change.created_by)
        if (hit := await self._hit(below, key, change)) is not None:
            return _Done(hit, cached=True)
        self._nowhere()
        return await self._made(below, key, step, None, change)

    def _nowhere(self) -> None:
        """Readers expect a container where dockerd makes one. There is none: nothing has to be run."""
        container = new_id()
        self._output.running(container)
        if not self._request.keep:
            self._output.removing(container)

    async def _run(self, below: ImageRecord | None, before: Mapping[str, Any], step: Step, run: Run) -> _Done:
        words = " ".join(run.command)
        if run.environment:
            words = " ".join((f"|{len(run.environment)}", *sorted(run.environment), words))
        change = self._change(step, words)
        key = key_of(below.id if below else "", step, change.created_by)
        if (hit := await self._hit(below, key, change)) is not None:
            return _Done(hit, cached=True)
        await self._warm_up()
        if below is None:  # a container has an image, were it an empty one
            below = await self._tools.images.extend(None, None, Change(before, platform=self._platform))
        async with self._tools.running.done(run, below.id, before, self._request, self._output) as layer:
            return await self._made(below, key, step, layer, change)

    async def _copy(self, below: ImageRecord | None, step: Step, copy: Copy) -> _Done:
        verb = step.meaning.split(maxsplit=1)[0] if step.meaning else "COPY"
        plain = not copy.sources and not copy.inline
        async with AsyncExitStack() as held:
            files = await self._files(copy, held)
            origin = await self._origin(copy.origin, held)
            request = {
                "op": "copy", "directory": str(self._directory / "context"), "origin": origin,
                "sources": [each for each in copy.sources if not _is_url(each, copy)], "files": files,
                "image": await self._seen(below, held),
                "target": held.enter_context(tempfile.TemporaryDirectory(prefix="build-", dir=self._tools.run)),
                "destination": copy.destination,
                "owner": None if copy.origin is not None and not copy.owner else copy.owner, "mode": copy.mode,
                "unpack": held.enter_context(self._place("unpack-")) if copy.fetch else None,
            }  # fmt: skip
            try:
                running = await work(request, verb, module=WORKER)
            except Conflict as error:
                raise InvalidArgument(f"When using {verb} with more than one source file, {error}") from error
            except (NotFound, InvalidArgument) as error:
                raise type(error)(f"{verb} failed: {error}") from error
            held.push_async_callback(running.close)
            digest = running.answer["digest"]
            chown = f"--chown={copy.owner}" if copy.owner else ""  # no blank behind it: nor has dockerd one
            what = step.meaning if plain else f"{verb} {chown}{digest} in {step.meaning.rpartition(' ')[2]} "
            change = self._change(step, f"{_shell(step)} #(nop) {what}")
            key = key_of(below.id if below else "", step, change.created_by)
            if (hit := await self._hit(below, key, change)) is not None:
                return _Done(hit, cached=True)
            if plain:
                self._nowhere()
            await self._warm_up()
            await running.further()
            return await self._made(below, key, step, aiter(running), change)

    async def _made(
        self, below: ImageRecord | None, key: str, step: Step, layer: AsyncIterator[bytes] | None, change: Change
    ) -> _Done:
        image = await self._tools.images.extend(below, layer, change)
        self._tools.cache.add(key, below.id if below else "", image.id, step.text)
        return _Done(image)

    # --- what a step needs -----------------------------------------------------------------------------------------

    async def _hit(self, below: ImageRecord | None, key: str, change: Change) -> ImageRecord | None:
        if self._request.no_cache:
            return None
        parent = below.id if below else ""
        if self._inherited is None:
            return self._tools.cache.find(key, parent)
        found = self._tools.cache.find(key, parent, self._inherited.belongs)
        if found is None and (found := await self._inherited.restore(below, change)) is not None:
            self._tools.cache.add(key, parent, found.id, change.created_by)
        return found

    def _change(self, step: Step, created_by: str) -> Change:
        return Change(step.config, step.author, created_by, platform=self._platform)

    async def _warm_up(self) -> None:
        """Something is to be unpacked: from now on what does it is kept, to the end of the build."""
        if not self._warm:
            self._warm = True
            await self._held.enter_async_context(self._tools.images.workers())

    async def _origin(self, origin: int | str | None, held: AsyncExitStack) -> list[list[Any]] | None:
        if origin is None:
            return None
        image = self._results[origin] if isinstance(origin, int) else await self._named(origin)
        return await self._seen(image, held)

    async def _named(self, name: str) -> ImageRecord:
        """An image that files are copied from; pulled when it is needed."""
        if name not in self._known:
            try:
                self._known[name] = await self._image(name)
            except PydError as error:
                raise type(error)(f"invalid from flag value {name}: {error}") from error
        return self._known[name]

    async def _seen(self, image: ImageRecord | None, held: AsyncExitStack) -> list[list[Any]]:
        mounts = await held.enter_async_context(self._tools.images.viewed(image))
        return [[each.type, each.source, list(each.options)] for each in mounts]

    async def _files(self, copy: Copy, held: AsyncExitStack) -> list[list[str]]:
        """What is downloaded, and what the recipe holds: paths, and the names that they get."""
        urls = [each for each in copy.sources if _is_url(each, copy)]
        if not urls and not copy.inline:
            return []
        place = Path(held.enter_context(self._place("files-")))
        found: list[list[str]] = []
        for index, url in enumerate(urls):
            path = place / f"d{index}"
            name = await self._tools.fetching.file(url, path, self._output)
            if not name and copy.destination.endswith("/"):
                raise InvalidArgument(f"cannot determine filename for url: {url}")
            found.append([str(path), name])
        for index, (name, data) in enumerate(copy.inline.items()):
            path = place / f"i{index}"
            path.write_bytes(data)
            path.chmod(0o644)
            found.append([str(path), name])
        return found

    @contextlib.contextmanager
    def _place(self, prefix: str) -> Any:
        """A directory that goes with all others at the end of the build."""
        yield tempfile.mkdtemp(prefix=prefix, dir=self._directory)


def _is_url(source: str, copy: Copy) -> bool:
    return copy.fetch and source.startswith(("http://", "https://"))


def _shell(step: Step) -> str:
    return " ".join(step.config.get("Shell") or _SHELL)
