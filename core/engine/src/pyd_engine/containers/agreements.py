"""What the containers service and those around it agree on: what it needs of images, what it gives back, its options."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pyd_engine.containers.config import ContainerConfig
from pyd_engine.containers.host_config import LogConfig
from pyd_engine.containers.limits import HostLimits
from pyd_engine.containers.remap import Remap

__all__ = ["Committed", "Creation", "FoundImage", "ImageSource", "Options"]


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image as a container needs it."""

    id: str
    config: ContainerConfig


class ImageSource(Protocol):
    """What containers need of images."""

    def find(self, ref: str, platform: str | None) -> FoundImage:
        """Raises NotFound ``No such image: …``."""
        ...

    def family(self, ref: str) -> Collection[str]:
        """Ids of the image and of all that were made of it; empty when there is none."""
        ...

    async def ensure(self, image_id: str, storage: str) -> str:
        """Unpack into a storage driver what is not there yet; the name of the snapshot that containers stand on."""
        ...

    def size(self, image_id: str) -> int:
        """Bytes of all layers, unpacked; 0 when the image is gone."""
        ...

    async def commit(self, image_id: str, layer: AsyncIterator[bytes], committed: Committed) -> str:
        """Make an image of an image, one more layer and a configuration; its id."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """What a new image is to be: its name (empty: none), its configuration, and what its history says."""

    repository: str
    tag: str
    config: ContainerConfig
    changes: Sequence[str]
    comment: str
    author: str
    created_by: str


@dataclass(frozen=True, slots=True)
class Creation:
    """A new container, and what could not be done as asked."""

    id: str
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Options:
    """Defaults for what a request leaves open.

    keep_output, hold_output  bytes of a container's output that are kept, and that wait for a log driver
    """

    storage: str
    isolation: str
    limits: HostLimits = field(default_factory=HostLimits)
    logging: LogConfig = field(default_factory=lambda: LogConfig(type="json-file"))
    keep_output: int = 512 << 20
    hold_output: int = 512 << 20
    remap: Remap | None = None
    scratch: Path = Path("/tmp")  # a place for mount points; the daemon gives its own
