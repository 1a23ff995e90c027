"""New images out of old ones: one more layer or none, another configuration, one more line of history."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pyd_engine.images.archive import Archives, Leased, publishing
from pyd_engine.images.documents import ImageConfig
from pyd_engine.images.platform import Platform, host_platform
from pyd_engine.images.records import ImageRecord
from pyd_engine.images.reference import Reference
from pyd_engine.layers.service import LayerDescriptor, Layers
from pyd_engine.store.content import Content

__all__ = ["Change", "Making", "now", "single_layer_document"]

_EMPTY_TAR = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""Two blocks of zeros: an archive without entries."""


@dataclass(frozen=True, slots=True)
class Change:
    """What makes an image differ from the one it is made of.

    config      the whole ``config`` object
    created_by, comment  for the history
    platform    of an image that is made of none; None: this host's
    """

    config: Mapping[str, Any]
    author: str = ""
    created_by: str = ""
    comment: str = ""
    platform: Platform | None = None


class _Create(Protocol):
    def __call__(
        self, layers: Sequence[LayerDescriptor], config: Mapping[str, Any], names: Sequence[Reference], parent: str
    ) -> Awaitable[ImageRecord]: ...


class Making:
    """Makes images. *config* is the parsed configuration of one, *create* records one; *driver* unpacks new layers."""

    def __init__(
        self, content: Content, layers: Layers, archives: Archives, leased: Leased,
        config: Callable[[str], ImageConfig], create: _Create, driver: str,
    ) -> None:  # fmt: skip
        self._content = content
        self._layers = layers
        self._archives = archives
        self._leased = leased
        self._config = config
        self._create = create
        self._driver = driver

    async def extend(
        self, below: ImageRecord | None, chunks: AsyncIterator[bytes] | None, change: Change,
        names: Sequence[Reference] = (),
    ) -> ImageRecord:  # fmt: skip
        """An image over *below* (None: over nothing) with *chunks*, a tar stream, as one more layer. None, and a stream that
        holds nothing, are no layer."""
        if chunks is None:
            return await self._record(below, None, change, names)
        async with self._leased() as lease, self._layers.workers():
            with self._content.batch(lease) as batch:
                layer: LayerDescriptor | None = await self._archives.store_layer(chunks, batch)
                assert layer is not None
                async with publishing(batch):
                    if layer.diff_id == _EMPTY_TAR:
                        layer = None
                    else:
                        await self._layers.ensure(self._driver, [*(below.layers if below else ()), layer])
            return await self._record(below, layer, change, names)

    async def restore(
        self, source: ImageRecord, layers: int, lines: int, change: Change, below: ImageRecord | None
    ) -> ImageRecord:
        """The image that *source* was after the first *layers* of its layers and *lines* of its history."""
        whole = self._config(source.id).document
        kept = source.layers[:layers]
        history = list(whole.get("history") or ())[:lines]
        document = {
            **whole,
            "created": history[-1].get("created") or now(),
            "config": dict(change.config),
            "author": change.author,
            "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in kept]},
            "history": history,
        }
        if not change.author:
            del document["author"]
        return await self._create(kept, document, (), below.id if below else "")

    async def _record(
        self, below: ImageRecord | None, layer: LayerDescriptor | None, change: Change, names: Sequence[Reference]
    ) -> ImageRecord:
        layers = [*(below.layers if below else ()), *([layer] if layer else ())]
        document = dict(self._config(below.id).document) if below else _platform(change.platform)
        created = now()
        entry = {
            "created": created,
            "created_by": change.created_by,
            "author": change.author,
            "comment": change.comment,
        }
        history: dict[str, Any] = {key: value for key, value in entry.items() if value}
        if layer is None:
            history["empty_layer"] = True
        document |= {
            "created": created,
            "config": dict(change.config),
            "author": change.author,
            "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
            "history": [*(document.get("history") or ()), history],
        }
        if not change.author:
            del document["author"]
        return await self._create(layers, document, names, below.id if below else "")


def now() -> str:
    """RFC 3339 text."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _platform(platform: Platform | None) -> dict[str, Any]:
    built_for = platform or host_platform()
    document = {"architecture": built_for.architecture, "os": built_for.os}
    if built_for.variant:
        document["variant"] = built_for.variant
    return document


def single_layer_document(
    layer: LayerDescriptor, config: Mapping[str, Any], *, comment: str, platform: Platform | None
) -> dict[str, Any]:
    """An OCI image configuration for one layer; *config* is its ``config`` object."""
    created = now()
    return _platform(platform) | {
        "created": created,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [{"created": created, "comment": comment}],
    }
