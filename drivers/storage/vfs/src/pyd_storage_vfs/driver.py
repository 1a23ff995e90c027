"""Snapshots as plain copies.

An entry's directory holds ``f``, the whole tree. Prepare costs a copy (blocks are shared where the file system can
reflink: btrfs, xfs, bcachefs), everything else is as cheap as a rename. It works on any file system, on an overlay
too, and shows no artefact of layering: the driver of last resort, and the referee of the others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyd_contracts.errors import Declined
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, Mount
from pyd_snapshots import idmaps
from pyd_snapshots.drivers import TreeDriver, refuse_options
from pyd_snapshots.errors import translated

from .copying import copy_tree

__all__ = ["VfsDriver"]


class VfsDriver(TreeDriver):
    """The storage contract over plain directories.

    root  the driver's directory, on any file system
    run   emptied by a reboot; remembers what the kernel can do
    sync  write the file system out before a layer counts as committed

    Raises Declined without root's rights: owners and devices could not be copied.
    """

    def __init__(self, root: Path, run: Path, *, sync: bool = False, log: logging.Logger | None = None) -> None:
        if os.geteuid() != 0:
            raise Declined(f"vfs copies owners and devices and needs root, it runs as uid {os.geteuid()}")
        super().__init__(root, sync=sync, log=log)
        with translated(f"ask for id-mapped mounts of {root}"):
            mapped = idmaps.supported(self._root, run)
        self.capabilities = frozenset({"layer-targets", *(("id-mapped",) if mapped else ())})

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        """Copy the parent's tree."""
        refuse_options("vfs", key, options)

        def fill(new: str) -> None:
            os.mkdir(f"{new}/f")
            os.chmod(f"{new}/f", 0o755)  # noqa: S103  # STO-10; what is above it is 0700
            if parent is not None:
                copy_tree(f"{self._catalog.get(parent).path}/f", f"{new}/f")

        return self._mounts(self._catalog.create(Kind.ACTIVE, key, parent, fill))
