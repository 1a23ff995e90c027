"""The volumes service as the routes use it: requests decoded, filters applied, hooks in threads."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from pyd_contracts.errors import Conflict, NotFound
from pyd_daemon.backends import Filters, Json, JsonList
from pyd_daemon.wire.requests import VolumeCreate
from pyd_engine.filters import boolean, like
from pyd_engine.volumes.service import Volumes
from pyd_engine.volumes.store import VolumeRecord

__all__ = ["VolumesFace"]


class VolumesFace:
    """Satisfies `backends.Volumes`."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    async def list(self, *, filters: Filters) -> Json:
        """``GET /volumes``."""
        return await asyncio.to_thread(self._list, filters)

    def _list(self, filters: Filters) -> Json:
        wanted = [each for each in self._volumes.all() if self._wanted(each, filters)]
        return {"Volumes": [self._resource(each) for each in wanted], "Warnings": None}

    async def inspect(self, name: str) -> Json:
        """``GET /volumes/{name}``."""
        return await asyncio.to_thread(self._inspect, name)

    def _inspect(self, name: str) -> Json:
        record = self._volumes.get(name)
        document = self._resource(record)
        if status := self._volumes.status(record):
            document["Status"] = dict(status)
        return document

    async def create(self, request: VolumeCreate) -> Json:
        """``POST /volumes/create``; a volume of that name that is there already is the answer too."""
        record = await asyncio.to_thread(
            self._volumes.create, request.name, request.driver, request.driver_opts, request.labels
        )
        return await asyncio.to_thread(self._resource, record)

    async def remove(self, name: str, *, force: bool) -> None:
        """``DELETE /volumes/{name}``."""
        await asyncio.to_thread(self._volumes.remove, name, force=force)

    async def prune(self, filters: Filters, *, named: bool) -> Json:
        """``POST /volumes/prune``: those that no container has; only *named* asks for those that have a name, too."""
        return await asyncio.to_thread(self._prune, filters, named)

    def _prune(self, filters: Filters, named: bool) -> Json:
        removed, reclaimed = [], 0
        for record in self._volumes.all():
            if not (named or record.anonymous) or self._volumes.holders(record.name) or not _labelled(record, filters):
                continue
            size = self._volumes.size(record)
            with contextlib.suppress(NotFound, Conflict):  # somebody else was faster, or took it
                self._volumes.remove(record.name)
                removed.append(record.name)
                reclaimed += max(0, size)
        return {"VolumesDeleted": removed, "SpaceReclaimed": reclaimed}

    async def usage(self) -> JsonList:
        """For ``GET /system/df``: every volume with its size and how many containers have it."""
        return await asyncio.to_thread(self._usage)

    def _usage(self) -> JsonList:
        return [
            self._resource(each)
            | {"UsageData": {"RefCount": len(self._volumes.holders(each.name)), "Size": self._volumes.size(each)}}
            for each in self._volumes.all()
        ]

    def drivers(self) -> Sequence[str]:
        """Names of volume drivers, for ``GET /info``."""
        return self._volumes.drivers

    # --- parts ---------------------------------------------------------------------------------------------------

    def _resource(self, record: VolumeRecord) -> Json:
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created_ns // 1_000_000_000))
        return {
            "CreatedAt": created,
            "Driver": record.driver,
            "Labels": record.labels,
            "Mountpoint": str(self._volumes.path(record) or ""),
            "Name": record.name,
            "Options": record.options,
            "Scope": self._volumes.scope(record),
        }

    def _wanted(self, record: VolumeRecord, filters: Filters) -> bool:
        if not like(record.name, filters.get("name", ())):
            return False
        if (drivers := filters.get("driver")) and record.driver not in drivers:
            return False
        dangling = boolean(filters, "dangling")
        if dangling is not None and bool(self._volumes.holders(record.name)) is dangling:
            return False
        return _labelled(record, filters)


def _labelled(record: VolumeRecord, filters: Filters) -> bool:
    labels = record.labels or {}

    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in labels and (not equals or labels[key] == value)

    return all(map(has, filters.get("label", ()))) and not any(map(has, filters.get("label!", ())))
