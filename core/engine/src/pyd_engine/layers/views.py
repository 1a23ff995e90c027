"""Looking at the files of a chain of layers for a moment: a view of the storage driver, gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence

from pyd_contracts.errors import NotFound
from pyd_contracts.values import Mount
from pyd_engine.layers.agreements import Storage

__all__ = ["VIEW_PREFIX", "Views"]

VIEW_PREFIX = "base-"
"""Of views on what a container stands on, or a step of a build, while somebody looks."""


class Views:
    """Views in all drivers. What a crash leaves carries the prefix and is removed at the next start."""

    def __init__(self, storages: Mapping[str, Storage]) -> None:
        self._storages = storages
        self._keys: set[tuple[str, str]] = set()

    def keys(self, driver: str) -> frozenset[str]:
        """Those that are open right now."""
        return frozenset(key for where, key in self._keys if where == driver)

    @contextlib.asynccontextmanager
    async def open(self, driver: str, chain: str) -> AsyncIterator[Sequence[Mount]]:
        """What to mount to see a committed chain."""
        storage = self._storages[driver]
        key = f"{VIEW_PREFIX}{secrets.token_hex(32)}"
        self._keys.add((driver, key))
        making = asyncio.ensure_future(asyncio.to_thread(storage.storage_view, key=key, parent=chain))
        try:
            yield await asyncio.shield(making)
        finally:
            await asyncio.wait([making])  # a thread cannot be cancelled: what it makes is removed when it is there
            await asyncio.shield(asyncio.to_thread(_drop, storage, key))
            self._keys.discard((driver, key))


def _drop(storage: Storage, key: str) -> None:
    with contextlib.suppress(NotFound):
        storage.storage_remove(name=key)
