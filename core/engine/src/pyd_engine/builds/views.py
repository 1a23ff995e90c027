"""The files of images, for a step to look at: views of the storage driver for the time of one step."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pyd_contracts.errors import NotFound
from pyd_contracts.values import Mount
from pyd_engine.images.records import ImageRecord
from pyd_engine.images.service import Images
from pyd_engine.layers.service import VIEW_PREFIX, Storage

__all__ = ["ImageViews"]


class ImageViews:
    """Views in one storage driver."""

    def __init__(self, images: Images, storages: Mapping[str, Storage], driver: str) -> None:
        self._images = images
        self._storages = storages
        self._driver = driver

    @contextlib.asynccontextmanager
    async def of(self, image: ImageRecord | None) -> AsyncIterator[list[list[Any]]]:
        """What to mount to see an image's files; nothing for none."""
        snapshot = await self._images.snapshot(image) if image else None
        if snapshot is None:
            yield []
            return
        storage = self._storages[self._driver]
        key = f"{VIEW_PREFIX}{secrets.token_hex(32)}"
        making = asyncio.ensure_future(asyncio.to_thread(storage.storage_view, key=key, parent=snapshot))
        try:
            yield _plain(await asyncio.shield(making))
        finally:
            await asyncio.wait([making])
            await asyncio.shield(asyncio.to_thread(_drop, storage, key))


def _drop(storage: Storage, key: str) -> None:
    with contextlib.suppress(NotFound):
        storage.storage_remove(name=key)


def _plain(mounts: Any) -> list[list[Any]]:
    found: list[Mount] = list(mounts)
    return [[each.type, each.source, list(each.options)] for each in found]
