"""What layers are to those who use them, and what they use of storage drivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pyd_contracts.values import LayerTarget, Mount, Snapshot, Usage

__all__ = ["Arrival", "LayerDescriptor", "LayerProgress", "Storage"]


@dataclass(frozen=True, slots=True)
class LayerDescriptor:
    """One layer of an image: the blob as downloaded (*digest*, *size* in bytes), and the digest of its tar stream."""

    digest: str
    diff_id: str
    media_type: str = ""
    size: int = 0


LayerProgress = Callable[[LayerDescriptor, str, int, int], None]
"""Called with a layer, ``present``, ``extracting`` or ``complete``, and bytes read of bytes in all."""

Arrival = Callable[[LayerDescriptor], Awaitable[None]]
"""Waits for a layer's blob."""


class Storage(Protocol):
    """A storage driver behind its relay: the hooks of `pyd_contracts.storage`, called by keyword."""

    @property
    def capabilities(self) -> frozenset[str]: ...
    def storage_prepare(self, *, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]: ...
    def storage_view(self, *, key: str, parent: str) -> Sequence[Mount]: ...
    def storage_commit(self, *, name: str, key: str) -> Snapshot: ...
    def storage_remove(self, *, name: str) -> None: ...
    def storage_stat(self, *, name: str) -> Snapshot: ...
    def storage_walk(self) -> Iterable[Snapshot]: ...
    def storage_usage(self, *, name: str) -> Usage: ...
    def storage_layer_target(self, *, key: str) -> LayerTarget: ...
    def storage_rebase(self, *, key: str, parent: str) -> None: ...
