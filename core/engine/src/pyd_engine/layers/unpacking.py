"""Making one committed snapshot: of a layer, or of the places that every container needs.

What is made has a key ``unpack-<chain>-<random>`` until it is committed; whatever a crash leaves behind carries that prefix and
is removed before the next try. The work itself is done by processes of their own (`worker`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pyd_contracts.errors import AlreadyExists, DriverFault, NotFound, PydError, from_oserror
from pyd_contracts.values import Mount, Whiteouts
from pyd_engine.layers.agreements import LayerDescriptor, Storage
from pyd_engine.layers.errors import LayerError
from pyd_engine.layers.process import Workers
from pyd_engine.layers.sharing import Tell
from pyd_engine.layers.slots import Slots
from pyd_engine.layers.tar import Limits
from pyd_engine.store.content import Content

__all__ = ["PREFIX", "Place", "Unpacking"]

PREFIX = "unpack-"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer goes: the snapshot *chain* of *storage*, which is called *driver*, over *parent*, None for the lowest."""

    driver: str
    storage: Storage
    chain: str
    parent: str | None

    @property
    def prefix(self) -> str:
        """What the keys begin with that are used to make it."""
        return PREFIX + self.chain.removeprefix("sha256:")


class _Lower(Exception):
    """The layer has to be applied to the union."""


class Unpacking:
    """Fills snapshots and commits them.

    run    a private directory for mount points
    slots  bounds how many layers are worked on at once
    """

    def __init__(
        self, content: Content, run: Path, limits: Limits, workers: Workers, slots: Slots, log: logging.Logger
    ) -> None:
        self._slots = slots
        self._content = content
        self._run = run
        self._limits = limits
        self._workers = workers
        self._log = log
        self._keys: set[tuple[str, str]] = set()

    def keys(self, driver: str) -> frozenset[str]:
        """What is being made in a driver right now."""
        return frozenset(key for where, key in self._keys if where == driver)

    async def unpack(
        self, tell: Tell, layer: LayerDescriptor, place: Place, parent_there: Callable[[], Awaitable[None]]
    ) -> dict[str, int]:
        """Commit *layer* in its *place*; returns the worker's counts. LayerError when its content is at fault.

        *parent_there* waits for the parent. A driver that can put a layer over one afterwards has it waited for after the work.
        """
        await self.sweep(place.driver, place.storage, place.prefix)
        if "layer-targets" in place.storage.capabilities:
            try:
                return await self._direct(tell, layer, place, parent_there)
            except _Lower as need:
                self._log.info("layer %s in %s: applied to the union: %s", place.chain, place.driver, need)
        await parent_there()
        async with self._growing(place) as (_, mounts):
            with self._mount_point() as target:
                request = {
                    "target": str(target),
                    "mounts": _plain(mounts),
                    "overlay": False,
                    "lower": place.parent is not None,
                }
                answer = await self._apply(tell, layer, request)
                done: dict[str, int] = answer["done"]
                return done

    async def furnish(self, place: Place) -> None:
        """Commit the skeleton in its *place*."""
        await self.sweep(place.driver, place.storage, place.prefix)
        what = "make the places that every container needs"
        with self._mount_point() as target:
            async with self._growing(place) as (_, mounts):
                request = {"skeleton": True, "target": str(target), "mounts": _plain(mounts)}
                answer = await self._workers.ask(request, lambda _: None, what)
                if "done" not in answer:
                    raise _of_system(answer, what)

    async def sweep(self, driver: str, storage: Storage, prefix: str | tuple[str, ...]) -> None:
        """Remove what has such a key and is not being made."""
        for snapshot in await asyncio.to_thread(lambda: list(storage.storage_walk())):
            if snapshot.name.startswith(prefix) and (driver, snapshot.name) not in self._keys:
                await self._discard(storage, snapshot.name)

    async def _direct(
        self, tell: Tell, layer: LayerDescriptor, place: Place, parent_there: Callable[[], Awaitable[None]]
    ) -> dict[str, int]:
        """Write the layer into a directory of the driver's. _Lower when that cannot hold it."""
        storage, parent = place.storage, place.parent
        early = parent is not None and "rebase" in storage.capabilities
        if not early:
            await parent_there()
        async with self._growing(place, alone=early) as (key, _):
            target = await asyncio.to_thread(storage.storage_layer_target, key=key)
            over = target.whiteouts is Whiteouts.OVERLAY
            request = {"target": str(target.path), "mounts": [], "overlay": over, "lower": parent is not None}
            answer = await self._apply(tell, layer, request)
            if early:
                await parent_there()
                await _whole(lambda: storage.storage_rebase(key=key, parent=parent or ""))
            if parent is not None and over:
                left = answer["open"] if early else {**answer["open"], "root": None}
                await self._settle(layer, place, key, str(target.path), left)
            done: dict[str, int] = answer["done"]
            return done

    async def _apply(self, tell: Tell, layer: LayerDescriptor, request: dict[str, Any]) -> dict[str, Any]:
        async with self._slots.one():
            tell("extracting", 0, layer.size)
            request |= {"digest": layer.digest, "diff_id": layer.diff_id, "limits": asdict(self._limits)}
            blob = await asyncio.to_thread(self._content.open, layer.digest)
            try:
                answer = await self._workers.ask(
                    request, lambda done: tell("extracting", done, layer.size), f"unpack layer {layer.diff_id}", (blob,)
                )
            finally:
                os.close(blob)
        if answer.get("failed") == "damaged":
            await asyncio.to_thread(self._content.delete, layer.digest)
            raise DriverFault(f"unpack layer {layer.diff_id}: {answer['message']}; it is removed, pull the image again")
        return self._done(layer, answer)

    async def _settle(self, layer: LayerDescriptor, place: Place, key: str, target: str, left: dict[str, Any]) -> None:
        """What the layer left open is settled now that the layers below it are there."""
        if not left["directories"] and not left["root"]:
            return
        request: dict[str, Any] = {"settle": left, "target": target, "below": None}
        async with contextlib.AsyncExitStack() as stack:
            if left["directories"]:
                view = await stack.enter_async_context(self._view(place, key))
                request["below"] = [str(stack.enter_context(self._mount_point())), _plain(view)]
            await stack.enter_async_context(self._slots.one(short=True))
            self._done(layer, await self._workers.ask(request, lambda _: None, f"settle layer {layer.diff_id}"))

    def _done(self, layer: LayerDescriptor, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer of work that was done; else what is wrong is raised."""
        if "done" in answer:
            if refused := answer["done"]["refused"]:
                self._log.warning("layer %s: %d extended attributes are not supported here", layer.diff_id, refused)
            return answer
        kind, what = answer.get("failed"), f"unpack layer {layer.diff_id}"
        if kind == "lower":
            raise _Lower(answer["message"])
        if kind == "layer":
            raise LayerError(f"{what}: {answer['message']}")
        raise _of_system(answer, what)

    @contextlib.asynccontextmanager
    async def _growing(self, place: Place, *, alone: bool = False) -> AsyncIterator[tuple[str, Sequence[Mount]]]:
        """A key and its mounts to fill; becomes the chain at the end, unless that came about meanwhile. Gone after a failure.

        *alone*: over nothing yet; who fills it puts it over the parent.
        """
        storage, parent = place.storage, None if alone else place.parent
        key = f"{place.prefix}-{secrets.token_hex(4)}"
        self._keys.add((place.driver, key))
        committed = False
        try:
            yield key, await _whole(lambda: storage.storage_prepare(key=key, parent=parent, options={}))
            with contextlib.suppress(AlreadyExists):
                await _whole(lambda: storage.storage_commit(name=place.chain, key=key))
                committed = True
        finally:
            if not committed:
                await asyncio.shield(self._discard(storage, key))
            self._keys.discard((place.driver, key))

    @contextlib.asynccontextmanager
    async def _view(self, place: Place, key: str) -> AsyncIterator[Sequence[Mount]]:
        """How to look at what is below the layer that *key* will be."""
        view = f"{key}-below"
        self._keys.add((place.driver, view))
        try:
            yield await _whole(lambda: place.storage.storage_view(key=view, parent=place.parent or ""))
        finally:
            await asyncio.shield(self._discard(place.storage, view))
            self._keys.discard((place.driver, view))

    async def _discard(self, storage: Storage, key: str) -> None:
        try:
            await asyncio.to_thread(storage.storage_remove, name=key)
        except NotFound:
            pass
        except PydError as error:  # the next try sweeps it; the first error is the one to tell
            self._log.warning("remove %s after an unpack: %s", key, error)

    @contextlib.contextmanager
    def _mount_point(self) -> Iterator[Path]:
        self._run.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unpack-", dir=self._run) as directory:
            yield Path(directory)


def _of_system(answer: Mapping[str, Any], what: str) -> PydError:
    """What the kernel said to a worker, as if it had been said here."""
    return from_oserror(OSError(answer.get("errno", 0), answer["message"], answer.get("path") or None), what)


def _plain(mounts: Sequence[Mount]) -> list[list[object]]:
    return [[mount.type, mount.source, list(mount.options)] for mount in mounts]


async def _whole(hook: Callable[[], _T]) -> _T:
    """Run a hook in a thread to its end, cancelled or not: what it makes must be there before it can be removed."""
    task = asyncio.ensure_future(asyncio.to_thread(hook))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
