"""Snapshots as layers of fuse-overlayfs, a file system in user space.

On disk all is as overlayfs has it: an entry's directory holds ``f``, the layer, and ``w``, a work directory, while it is
active; removals are character devices 0:0. The mounts are of the type ``fuse.fuse-overlayfs``: whoever performs them runs the
program, which ends with the mount. This driver starts nothing that outlives a call.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, Mount
from pyd_snapshots.catalog import Entry
from pyd_snapshots.drivers import refuse_options
from pyd_snapshots.errors import translated
from pyd_snapshots.overlaid import OverlaidDriver
from pyd_snapshots.trees import copy_attributes

from .probe import PROGRAM, probe

__all__ = ["FuseOverlayfsDriver"]


class FuseOverlayfsDriver(OverlaidDriver):
    """The storage contract over fuse-overlayfs.

    root  the driver's directory, on a file system with devices and extended attributes; no colon in its path
    run   emptied by a reboot; remembers that the program works
    sync  write the file system out before a layer counts as committed

    Raises Declined when there is no such program, no fuse, or when it does not work on root.
    """

    capabilities = frozenset({"layer-targets", "rebase", "shared"})

    def __init__(self, root: Path, run: Path, *, sync: bool = False, log: logging.Logger | None = None) -> None:
        super().__init__(root, sync=sync, log=log)
        with translated(f"probe fuse-overlayfs at {root}"):
            probe(self._root, run)
        self._discard_work()

    # --- hooks -------------------------------------------------------------------------------------------------

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        """An upper layer of its own over all layers of the parent."""
        refuse_options("fuse-overlayfs", key, options)

        def fill(new: str) -> None:
            os.mkdir(f"{new}/f")
            if parent is None:
                os.chmod(f"{new}/f", 0o755)  # noqa: S103  # STO-10; what is above it is 0700
                return
            os.mkdir(f"{new}/w", 0o700)
            # the attributes of the upper root directory are shown, not those of the lower ones
            copy_attributes(self._layers(parent)[0], f"{new}/f", but=("trusted.overlay.", "user.overlay."))

        return self._mounts(self._catalog.create(Kind.ACTIVE, key, parent, fill))

    # --- inside ------------------------------------------------------------------------------------------------

    def _union(self, entry: Entry, layers: Sequence[str]) -> Mount:
        lowers = f"lowerdir={':'.join(layers)}"
        if entry.snapshot.kind is Kind.VIEW:
            return Mount(f"fuse.{PROGRAM}", PROGRAM, (lowers, "ro"))
        upper = (f"upperdir={entry.path}/f", f"workdir={entry.path}/w")
        return Mount(f"fuse.{PROGRAM}", PROGRAM, (lowers, *upper))
