"""Values of storage and volumes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ChangeKind", "Kind", "LayerTarget", "Mount", "Snapshot", "TreeChange", "Usage", "Volume", "Whiteouts"]


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount, not yet made: drivers describe mounts, others perform them.

    type     file system type as mount(8) writes it, or ``bind``
    source   a path, a device or a word for the mount table
    options  one option an item, ``key=value`` or ``flag``; a value may hold any character (no separators, no escapes) and be
             of any length; an overlay's lower layers are one ``lowerdir+`` each, topmost first, whatever the kernel takes
    """

    type: str
    source: str
    options: tuple[str, ...] = ()


class Kind(enum.Enum):
    """What a snapshot is."""

    ACTIVE = "active"
    VIEW = "view"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One entry of a storage driver: a key (active, view) or a name (committed), and what it stands on."""

    name: str
    kind: Kind
    parent: str | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a snapshot or a volume holds by itself, parents excluded: bytes allocated, and inodes."""

    bytes: int
    inodes: int


class Whiteouts(enum.Enum):
    """How a directory tree says "this name of a lower layer is gone".

    PLAIN    it does not: the tree holds the union, a removed name is removed
    OVERLAY  character device 0:0, and ``trusted.overlay.opaque=y`` (Documentation/filesystems/overlayfs.rst)
    """

    PLAIN = "plain"
    OVERLAY = "overlay"


@dataclass(frozen=True, slots=True)
class LayerTarget:
    """A directory where a layer may be written without mounting, and its whiteout dialect."""

    path: Path
    whiteouts: Whiteouts


class ChangeKind(enum.Enum):
    """What became of a name: Docker's ``Kind`` of a change, which has these numbers."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


@dataclass(frozen=True, slots=True)
class TreeChange:
    """One name that differs between two trees. *path* is relative to the root, without a slash at its ends; empty: the root."""

    kind: ChangeKind
    path: bytes


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume of a driver.

    path    where its content is on this host while it is used; None when that is not known before
    status  what else the driver has to say of it, for people (Docker's ``Status``)
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    status: Mapping[str, str] = field(default_factory=dict)
