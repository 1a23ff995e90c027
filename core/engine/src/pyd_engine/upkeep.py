"""Holding what is stored against what is recorded, in both directions: ``pyd system check``.

Blobs are read and hashed again; every image must find its configuration and layers; every unpacked chain must stand on the one
below it; every entry of every storage driver must belong to an image, a container or work in progress, and every container
must find its own. With *repair* goes what nobody vouches for; a damaged blob is set aside, so that the next pull fetches it
again; nothing is fetched here, and nothing is removed that something else stands on.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyd_contracts.errors import NotFound, PydError
from pyd_contracts.values import Kind, Snapshot
from pyd_engine.containers.container import Container, Phase
from pyd_engine.images.progress import short_id
from pyd_engine.images.records import ImageRecord
from pyd_engine.images.service import Images
from pyd_engine.layers.service import VIEW_PREFIX, Layers, Storage, chain_ids, skeleton_id
from pyd_engine.store.content import Content
from pyd_engine.store.database import Database

__all__ = ["DriverUsage", "Finding", "Report", "Upkeep"]

_PIECE = 1 << 20


@dataclass(slots=True)
class Finding:
    """Something that is not as it should be. *what* is a word, *about* an id or path; *done* says what repair did."""

    what: str
    about: str
    text: str
    done: str = ""


@dataclass(slots=True)
class Report:
    """What was looked at, and what was found."""

    blobs: int = 0
    bytes: int = 0
    images: int = 0
    containers: int = 0
    snapshots: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, what: str, about: str, text: str) -> Finding:
        """One finding more."""
        self.findings.append(Finding(what, about, text))
        return self.findings[-1]


@dataclass(frozen=True, slots=True)
class DriverUsage:
    """What one storage driver holds: layers of images, roots of containers, and the bytes of both."""

    driver: str
    layers: int
    containers: int
    bytes: int


class Upkeep:
    """Checks one data root. *containers* gives all records, *directories* is where containers' own are."""

    def __init__(
        self,
        database: Database,
        content: Content,
        images: Images,
        layers: Layers,
        storages: Mapping[str, Storage],
        containers: Callable[[], Iterable[Container]],
        directories: Path,
        log: logging.Logger | None = None,
    ) -> None:
        self._database = database
        self._content = content
        self._images = images
        self._layers = layers
        self._storages = storages
        self._containers = containers
        self._directories = directories
        self._log = log or logging.getLogger("pyd.upkeep")
        self._one = asyncio.Lock()
        self._sizes: dict[tuple[str, str], int] = {}

    async def usage(self) -> list[DriverUsage]:
        """What each storage driver holds, by name. Layers never change: each is counted once in a daemon's life."""
        return [
            await asyncio.to_thread(self._usage, driver, storage) for driver, storage in sorted(self._storages.items())
        ]

    def _usage(self, driver: str, storage: Storage) -> DriverUsage:
        layers = containers = size = 0
        for each in list(storage.storage_walk()):
            if each.kind is Kind.VIEW:
                continue
            known = self._sizes.get((driver, each.name))
            if known is None:
                try:
                    known = storage.storage_usage(name=each.name).bytes
                except NotFound:  # removed meanwhile
                    continue
            if each.kind is Kind.COMMITTED:
                self._sizes[driver, each.name] = known
                layers += 1
            else:
                containers += 1
            size += known
        return DriverUsage(driver, layers, containers, size)

    async def check(self, *, repair: bool = False) -> Report:
        """Look at everything, which takes as long as reading all blobs. One at a time; others wait."""
        async with self._one:
            report = Report()
            for line in await asyncio.to_thread(self._database.rows, "PRAGMA integrity_check"):
                if line[0] != "ok":
                    report.add(
                        "metadata", "metadata.db", f"the database is damaged: {line[0]}; restore it from a backup"
                    )
            await self._blobs(report, repair=repair)
            await self._records(report)
            for driver, storage in sorted(self._storages.items()):
                await self._driver(report, driver, storage, repair=repair)
            await self._own(report, repair=repair)
            for finding in report.findings:
                self._log.warning("check: %s %s: %s%s", finding.what, finding.about, finding.text,
                                  f" ({finding.done})" if finding.done else "")  # fmt: skip
            return report

    # --- blobs ---------------------------------------------------------------------------------------------------

    async def _blobs(self, report: Report, *, repair: bool) -> None:
        found = await asyncio.to_thread(lambda: sorted(self._content.walk()))
        for digest, size in found:
            try:
                whole = await asyncio.to_thread(self._hashes, digest)
            except NotFound:  # removed meanwhile
                continue
            report.blobs += 1
            report.bytes += size
            if not whole:
                finding = report.add(
                    "blob", digest, "its bytes are not those of its name; pull or load the images again that need it"
                )
                if repair:
                    place = await asyncio.to_thread(self._content.set_aside, digest)
                    finding.done = f"set aside as {place}"
        for digest, size in await asyncio.to_thread(self._content.unused, self._images.live_blobs):
            finding = report.add("blob", digest, f"no image needs these {size} bytes")
            if repair:
                finding.done = "removed"
        if repair:
            await asyncio.to_thread(self._content.collect, self._images.live_blobs)

    def _hashes(self, digest: str) -> bool:
        found = hashlib.sha256()
        with os.fdopen(self._content.open(digest), "rb", buffering=0) as blob:
            while piece := blob.read(_PIECE):
                found.update(piece)
        return "sha256:" + found.hexdigest() == digest

    async def _records(self, report: Report) -> None:
        for record in self._images.records.all():
            report.images += 1
            needs = [("configuration", record.id), *(("layer", layer.digest) for layer in record.layers)]
            if record.manifest:
                needs.append(("manifest", record.manifest))
            for what, digest in needs:
                if not await asyncio.to_thread(self._content.has, digest):
                    report.add("image", _shown(record), f"its {what} {digest} is not here; pull or load it again")

    # --- drivers -------------------------------------------------------------------------------------------------

    async def _driver(self, report: Report, driver: str, storage: Storage, *, repair: bool) -> None:
        # The driver first: what is finished meanwhile is in the records.
        entries = {each.name: each for each in await asyncio.to_thread(lambda: list(storage.storage_walk()))}
        busy = self._layers.busy_keys(driver)
        report.snapshots[driver] = len(entries)
        lost = []
        for entry in list(entries.values()):
            try:
                known = await asyncio.to_thread(storage.storage_stat, name=entry.name)
            except NotFound:  # removed meanwhile; or lost, and then somebody stands on it or wants it
                lost.append(entries.pop(entry.name))
                continue
            if known != entry:
                report.add("snapshot", f"{driver} {entry.name}", f"listed as {entry}, described as {known}")
        await self._missing(report, driver, entries, lost, repair=repair)
        wanted = self._vouched(driver, entries)
        for record in self._images.records.all():
            self._chain(report, driver, entries, record)
        orphans = {name for name in entries if name not in wanted and name not in busy}
        for name in _leaves_first(entries, orphans):
            kind = entries[name].kind.value
            finding = report.add(
                "snapshot", f"{driver} {name}", f"no image, container or work needs this {kind} snapshot"
            )
            if repair:
                finding.done = await self._remove(storage, name)

    async def _missing(
        self, report: Report, driver: str, entries: Mapping[str, Snapshot], lost: Sequence[Snapshot], *, repair: bool
    ) -> None:
        """What was lost to a disk, or to a person. Layers of images that others stand on are unpacked again."""
        makers = self._makers(driver)
        gone = {entry.parent: entry.name for entry in entries.values() if entry.parent and entry.parent not in entries}
        for snapshot in lost:
            if snapshot.name in makers and snapshot.name not in gone:
                finding = report.add("snapshot", f"{driver} {snapshot.name}", "its content is gone from the disk")
                finding.done = "forgotten; it is unpacked again when it is used next"
        order = list(makers)
        for name in sorted(gone, key=lambda name: order.index(name) if name in makers else -1):
            finding = report.add("snapshot", f"{driver} {gone[name]}", f"what it stands on is not there: {name}")
            if repair and name in makers:
                try:
                    await makers[name]()
                    finding.done = "unpacked again"
                except PydError as error:
                    finding.done = f"could not be unpacked again: {error}"

    def _makers(self, driver: str) -> dict[str, Callable[[], Awaitable[object]]]:
        """By name, what makes the snapshots of all images, each after those it stands on."""
        found: dict[str, Callable[[], Awaitable[object]]] = {}
        for record in self._images.records.all():
            for number, chain in enumerate(chain_ids([layer.diff_id for layer in record.layers]), 1):
                layers = record.layers[:number]
                found.setdefault(chain, functools.partial(self._layers.ensure, driver, layers))
                found.setdefault(skeleton_id(chain), functools.partial(self._layers.furnished, driver, layers))
        return found

    def _vouched(self, driver: str, entries: Mapping[str, Snapshot]) -> set[str]:
        """Entries that somebody needs, and all that these stand on."""
        wanted: set[str] = {skeleton_id(None)}
        for record in self._images.records.all():
            for chain in chain_ids([layer.diff_id for layer in record.layers]):
                wanted |= {chain, skeleton_id(chain)}
        for container in self._containers():
            if container.storage == driver:
                wanted |= {container.id, VIEW_PREFIX + container.id}
        for name in list(wanted):
            entry = entries.get(name)
            while entry is not None and entry.parent is not None:
                wanted.add(entry.parent)
                entry = entries.get(entry.parent)
        return wanted

    def _chain(self, report: Report, driver: str, entries: Mapping[str, Snapshot], record: ImageRecord) -> None:
        below: str | None = None
        for chain in chain_ids([layer.diff_id for layer in record.layers]):
            entry = entries.get(chain)
            if entry is not None and (entry.kind is not Kind.COMMITTED or entry.parent != below):
                report.add(
                    "chain",
                    f"{driver} {chain}",
                    f"a layer of {_shown(record)} should be committed on {below or 'nothing'}, and is {entry.kind.value} on "
                    f"{entry.parent or 'nothing'}",
                )
            below = chain

    async def _remove(self, storage: Storage, name: str) -> str:
        try:
            await asyncio.to_thread(storage.storage_remove, name=name)
        except NotFound:
            return "gone already"
        except PydError as error:
            return f"could not be removed: {error}"
        return "removed"

    # --- containers ----------------------------------------------------------------------------------------------

    async def _own(self, report: Report, *, repair: bool) -> None:
        present = await asyncio.to_thread(lambda: set(os.listdir(self._directories)))
        known = {container.id: container for container in self._containers()}
        report.containers = len(known)
        for container in known.values():
            storage = self._storages.get(container.storage)
            if storage is None:
                report.add(
                    "container",
                    container.name,
                    f"its storage driver {container.storage} is not ready; see `pyd plugin ls`",
                )
                continue
            try:
                await asyncio.to_thread(storage.storage_stat, name=container.id)
            except NotFound:
                if container.state.phase not in (Phase.CREATING, Phase.REMOVING, Phase.DEAD):
                    report.add("container", container.name, f"its root file system is not in {container.storage}")
        for name in sorted(present - known.keys()):
            finding = report.add("directory", str(self._directories / name), "there is no such container")
            if repair:
                await asyncio.to_thread(shutil.rmtree, self._directories / name, ignore_errors=True)
                finding.done = "removed"


def _shown(record: ImageRecord) -> str:
    return str(record.tags[0].familiar) if record.tags else short_id(record.id)


def _leaves_first(entries: Mapping[str, Snapshot], names: set[str]) -> list[str]:
    """*names*, each before what it stands on."""

    def height(name: str) -> int:
        count = 0
        entry: Snapshot | None = entries[name]
        while entry is not None and entry.parent is not None and count <= len(entries):
            count += 1
            entry = entries.get(entry.parent)
        return count

    return sorted(names, key=lambda name: (-height(name), name))
