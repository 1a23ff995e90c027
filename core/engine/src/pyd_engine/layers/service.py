"""Unpacked layers: which snapshot of which storage driver holds which chain of layers.

The content store keeps every layer as it was downloaded; a driver gets it unpacked (`unpacking`) when somebody first needs it
there. The committed snapshot of a chain is named by its OCI ChainID (image-spec config.md, "Layer ChainID"), so the answer to
"is it there" is the driver's own, and no table can disagree with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from pyd_contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.values import Kind, Usage
from pyd_engine.layers.agreements import Arrival, LayerDescriptor, LayerProgress, Storage
from pyd_engine.layers.process import Workers
from pyd_engine.layers.sharing import SharedWork, Tell, together
from pyd_engine.layers.slots import Slots
from pyd_engine.layers.tar import Limits
from pyd_engine.layers.unpacking import PREFIX, Place, Unpacking
from pyd_engine.layers.views import VIEW_PREFIX, Views
from pyd_engine.store.content import Content
from pyd_engine.store.database import Database

__all__ = ["VIEW_PREFIX", "LayerDescriptor", "LayerProgress", "Layers", "Storage", "chain_ids", "skeleton_id"]

_MIGRATIONS = [
    "CREATE TABLE layer_sizes (diff_id TEXT PRIMARY KEY, bytes INTEGER NOT NULL, entries INTEGER NOT NULL) STRICT"
]
_CHAIN = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_SKELETON = "pyd-skeleton-1"
"""Changes with what `skeleton.furnish` makes."""


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The ChainID of each layer, lowest first.

    >>> chain_ids(["sha256:" + "a" * 64])[0] == "sha256:" + "a" * 64
    True
    """
    chains: list[str] = []
    for diff_id in diff_ids:
        if not _CHAIN.fullmatch(diff_id):
            raise InvalidArgument(f"invalid diff id {diff_id[:100]!r}")
        text = f"{chains[-1]} {diff_id}" if chains else ""
        chains.append("sha256:" + hashlib.sha256(text.encode()).hexdigest() if chains else diff_id)
    return tuple(chains)


def skeleton_id(chain: str | None) -> str:
    """The name of the snapshot that containers stand on whose image ends with *chain*: made as a ChainID is."""
    return "sha256:" + hashlib.sha256(f"{chain or ''} {_SKELETON}".encode()).hexdigest()


class Layers:
    """Unpacks layers on demand and removes what nothing uses.

    storages  the ready storage drivers by name; may grow
    run       a private directory for mount points
    workers   how many layers are unpacked at once; 0: one a processor
    """

    def __init__(
        self,
        database: Database,
        content: Content,
        storages: Mapping[str, Storage],
        run: Path,
        *,
        limits: Limits | None = None,
        workers: int = 0,
        log: logging.Logger | None = None,
    ) -> None:
        database.migrate("layers", _MIGRATIONS)
        self._database = database
        self._storages = storages
        self._workers = Workers()
        slots = Slots(workers or len(os.sched_getaffinity(0)))
        self._unpacking = Unpacking(
            content, run, limits or Limits(), self._workers, slots, log or logging.getLogger("pyd.layers")
        )
        self._jobs: SharedWork[tuple[str, str]] = SharedWork()
        self._expected: dict[tuple[str, str], list[asyncio.Future[None]]] = {}
        self._held: Counter[str] = Counter()
        self.views = Views(storages)

    # --- questions -----------------------------------------------------------------------------------------------

    def size(self, diff_id: str) -> int | None:
        """Bytes of files in a layer, known once it was unpacked anywhere."""
        rows = self._database.rows("SELECT bytes FROM layer_sizes WHERE diff_id = ?", (diff_id,))
        return int(rows[0][0]) if rows else None

    async def present(self, driver: str, chain: str) -> bool:
        """Whether a chain's snapshot is there and committed."""
        storage = self._storage(driver)
        try:
            snapshot = await asyncio.to_thread(storage.storage_stat, name=chain)
        except NotFound:
            return False
        return snapshot.kind is Kind.COMMITTED

    async def usage(self, driver: str, chain: str) -> Usage:
        """What the top layer of a chain holds by itself in a driver."""
        return await asyncio.to_thread(self._storage(driver).storage_usage, name=chain)

    def busy_keys(self, driver: str) -> frozenset[str]:
        """Keys and names in a driver that are being made right now, or held for an image that is."""
        names = {name for where, name in self._jobs.busy() if where == driver}
        return self._unpacking.keys(driver) | self.views.keys(driver) | names | self._held.keys()

    def waiting(self, driver: str, layers: Sequence[LayerDescriptor]) -> int:
        """How many callers wait for the top layer to be unpacked right now."""
        return self._jobs.waiting((driver, chain_ids([layer.diff_id for layer in layers])[-1]))

    def workers(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Layers will come: what unpacks them is started now, beside what the caller does first, and kept for all of them."""
        return self._workers.kept(ahead=True)

    # --- unpacking -----------------------------------------------------------------------------------------------

    async def ensure(
        self,
        driver: str,
        layers: Sequence[LayerDescriptor],
        progress: LayerProgress | None = None,
        arrival: Arrival | None = None,
    ) -> str | None:
        """The committed snapshot that holds all of *layers*, lowest first; unpacks what is missing. None for no layers.

        They are unpacked beside one another where the driver can put a layer over another afterwards, each after its *arrival*;
        a layer is complete after those below it. Several callers share one unpacking; when all of them are cancelled it ends
        and leaves nothing. Raises LayerError when a layer's content is at fault, NotFound when its blob is not here, and what
        the driver raises.
        """
        chains = chain_ids([layer.diff_id for layer in layers])
        if not chains:
            return None
        first = 0
        for position in range(len(chains) - 1, -1, -1):
            if await self.present(driver, chains[position]):
                first = position + 1
                break

        async def one(position: int) -> None:
            layer = layers[position]
            if arrival:
                await arrival(layer)
            if position >= first:
                parent = chains[position - 1] if position else None
                await self._share(driver, layer, chains[position], parent, progress)
            elif progress:
                progress(layer, "present", layer.size, layer.size)

        async with self._workers.kept():
            await together(one(position) for position in range(len(layers)))
        return chains[-1]

    async def _share(
        self, driver: str, layer: LayerDescriptor, chain: str, parent: str | None, progress: LayerProgress | None
    ) -> None:
        await self._jobs.join(
            (driver, chain),
            lambda tell: self._unpack(tell, driver, layer, chain, parent),
            (lambda state, done, total: progress(layer, state, done, total)) if progress else None,
        )

    async def _unpack(self, tell: Tell, driver: str, layer: LayerDescriptor, chain: str, parent: str | None) -> None:
        storage = self._storage(driver)
        if await self.present(driver, chain):
            tell("present", layer.size, layer.size)
        else:
            place = Place(driver, storage, chain, parent)
            done = await self._unpacking.unpack(tell, layer, place, lambda: self._there(driver, parent))
            with self._database.transaction() as sql:
                row = (layer.diff_id, done["bytes"], done["entries"])
                sql.execute("INSERT OR REPLACE INTO layer_sizes VALUES (?, ?, ?)", row)
            tell("complete", layer.size, layer.size)
        for waiting in self._expected.pop((driver, chain), ()):
            if not waiting.done():
                waiting.set_result(None)

    async def _there(self, driver: str, chain: str | None) -> None:
        """Wait until a chain is there. Whoever wants what lies over it is at work on it, too, and ends us when that fails."""
        if chain is None:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        expected = self._expected.setdefault((driver, chain), [])
        expected.append(waiting)  # before the look: it may come about meanwhile
        try:
            if not await self.present(driver, chain):
                await waiting
        finally:
            expected.remove(waiting)
            if not expected and self._expected.get((driver, chain)) is expected:
                del self._expected[driver, chain]

    # --- what containers stand on ----------------------------------------------------------------------------------

    async def furnished(self, driver: str, layers: Sequence[LayerDescriptor]) -> str:
        """The committed snapshot for containers of *layers*: these and, above them, the skeleton (`skeleton`).

        Unpacks and makes what is missing; raises as `ensure` does.
        """
        chains = chain_ids([layer.diff_id for layer in layers])
        name = skeleton_id(chains[-1] if chains else None)
        if not await self.present(driver, name):
            parent = await self.ensure(driver, layers)
            await self._jobs.join((driver, name), lambda _tell: self._furnish(driver, name, parent), None)
        return name

    async def _furnish(self, driver: str, name: str, parent: str | None) -> None:
        storage = self._storage(driver)
        if await self.present(driver, name):
            return
        await self._unpacking.furnish(Place(driver, storage, name, parent))

    # --- holding and removal -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def hold(self, layers: Sequence[LayerDescriptor]) -> Iterator[None]:
        """Keep the snapshots of these layers from `remove_unused`: an image is being made of them."""
        chains = chain_ids([layer.diff_id for layer in layers])
        self._held.update(chains)
        try:
            yield
        finally:
            self._held.subtract(chains)
            self._held += Counter()  # drops what is zero

    async def remove_unused(self, keep: Collection[str]) -> int:
        """Remove all committed chains, in all drivers, that are not in *keep*, below a kept one or in use; returns how many.

        What a container stands on stays: the driver refuses to remove it. So do the skeletons above what is kept.
        """
        keep = {*keep, *map(skeleton_id, (None, *keep))}
        removed = 0
        for driver, storage in list(self._storages.items()):
            if any(name == driver for name, _ in self._jobs.busy()):
                continue  # a chain being unpacked stands on one that may have no child yet: the next collection has it
            entries = {s.name: s for s in await asyncio.to_thread(lambda s=storage: list(s.storage_walk()))}  # type: ignore[misc]
            children: dict[str, int] = {}
            for entry in entries.values():
                if entry.parent is not None:
                    children[entry.parent] = children.get(entry.parent, 0) + 1
            work = [name for name in entries if not children.get(name)]
            while work:
                name = work.pop()
                entry = entries[name]
                if entry.kind is not Kind.COMMITTED or not _CHAIN.fullmatch(name) or name in keep or self._held[name]:
                    continue
                try:
                    await asyncio.to_thread(storage.storage_remove, name=name)
                except NotFound:
                    pass
                except FailedPrecondition:
                    continue
                removed += 1
                if entry.parent is not None and entry.parent in entries:
                    children[entry.parent] -= 1
                    if not children[entry.parent]:
                        work.append(entry.parent)
        return removed

    async def sweep(self) -> None:
        """Remove what crashed unpackings and comparisons left, in all drivers: at start-up."""
        for driver, storage in list(self._storages.items()):
            await self._unpacking.sweep(driver, storage, (PREFIX, VIEW_PREFIX))

    def _storage(self, driver: str) -> Storage:
        try:
            return self._storages[driver]
        except KeyError:
            known = ", ".join(sorted(self._storages)) or "none"
            raise NotFound(f"storage driver {driver!r} is not loaded; loaded: {known}") from None
