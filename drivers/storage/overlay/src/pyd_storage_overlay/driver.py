"""Snapshots as overlayfs layers.

An entry's directory holds ``f``, the layer, and ``w``, overlayfs' work directory, while it is active. A committed layer
stays where it was written: commit costs one rename and children name the same path. Host mounts are never made; even
the probe's overlay is detached or in a mount namespace of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyd_contracts.errors import FailedPrecondition, InvalidArgument, Unsupported
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, Mount, TreeChange
from pyd_snapshots.catalog import Entry, number_of
from pyd_snapshots.errors import translated
from pyd_snapshots.overlaid import OverlaidDriver
from pyd_snapshots.removal import remove_tree
from pyd_snapshots.trees import DIRECTORY, copy_attributes, opened

from . import quota
from .diff import tree_changes
from .options import borne, check_options, for_view
from .probe import PROJECTS, mount_options, probe

__all__ = ["OverlayDriver"]

_LAYERS_MAX = 500  # OVL_MAX_STACK, fs/overlayfs/params.h


class OverlayDriver(OverlaidDriver):
    """The storage contract over overlayfs.

    root     the driver's directory, on a file system that can hold upper layers (not an overlay)
    run      emptied by a reboot; remembers what the kernel can do
    options  further overlay mount options, one an item
    sync     write the file system out before a layer counts as committed

    Raises Declined when overlayfs does not work here, InvalidArgument for unknown options.
    """

    def __init__(
        self,
        root: Path,
        run: Path,
        *,
        options: Sequence[str] = (),
        sync: bool = False,
        log: logging.Logger | None = None,
    ) -> None:
        self._options = check_options(options)
        super().__init__(root, sync=sync, log=log)
        with translated(f"probe overlayfs at {root}"):
            self._options = borne(self._root, self._options)
            self._features = probe(self._root, run, self._options)
        found = {"size": self._features.quotas, "id-mapped": self._features.id_maps}
        self.capabilities = frozenset(
            {"layer-targets", "rebase", "native-diff", "shared", *(word for word in found if found[word])}
        )
        self._discard_work()

    # --- hooks -------------------------------------------------------------------------------------------------

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        """An upper layer of its own over all layers of the parent."""
        size = self._size(key, options)

        def fill(new: str) -> None:
            os.mkdir(f"{new}/f")
            if parent is not None:
                os.mkdir(f"{new}/w", 0o700)
            if size:
                project = PROJECTS + number_of(new)
                for each in os.listdir(new):
                    quota.in_project(f"{new}/{each}", project)
                quota.bound(new, project, size)
            if parent is None:
                os.chmod(f"{new}/f", 0o755)  # noqa: S103  # STO-10; what is above it is 0700
                return
            self._stackable(key, parent)
            # overlayfs shows the attributes of the upper root directory, not of the lower ones
            copy_attributes(self._layers(parent)[0], f"{new}/f", but=("trusted.overlay.",))

        return self._mounts(self._catalog.create(Kind.ACTIVE, key, parent, fill))

    @hookimpl
    def storage_mounts(self, key: str) -> Sequence[Mount]:
        """The same again; a volatile upper layer is made fit for it."""
        entry = self._catalog.get(key)
        if "volatile" in self._options and entry.snapshot.kind is Kind.ACTIVE:
            self._forgive(entry)
        return super().storage_mounts(key)

    @hookimpl
    def storage_remove(self, name: str) -> None:
        """Out of sight by one rename, then deleted."""
        entry = self._catalog.get(name)
        project = 0
        if self._features.quotas and entry.snapshot.kind is not Kind.VIEW:
            with translated(f"remove {name}"):
                project = quota.project_of(f"{entry.path}/f")
        super().storage_remove(name)
        if project > PROJECTS:
            with contextlib.suppress(OSError):  # a bound on nothing; its number gets a new one with its next use
                quota.unbound(self._root, project)

    @hookimpl
    def storage_changes(self, name: str) -> Iterable[TreeChange]:
        """Read from the upper directory; see `diff`."""
        entry = self._catalog.get(name)
        if entry.snapshot.kind is Kind.VIEW:
            raise FailedPrecondition(f"{name} is a view: nothing was changed in it")
        with translated(f"compare {name} with its parent"):
            lowers = self._layers(entry.snapshot.parent) if entry.snapshot.parent is not None else []
            return tree_changes([f"{entry.path}/f", *lowers], own=1)

    # --- inside ------------------------------------------------------------------------------------------------

    def _size(self, key: str, options: Mapping[str, str]) -> int:
        """What the option ``size`` says; 0 without it."""
        unknown = sorted(options.keys() - {"size"})
        if unknown:
            raise InvalidArgument(f"prepare {key}: overlay knows no option {', '.join(unknown)}; it knows size")
        if "size" not in options:
            return 0
        if not self._features.quotas:
            raise InvalidArgument(
                f"prepare {key}: the option size needs project quotas that hold, and {self._root} has none; xfs mounted with "
                "pquota has, and other storage drivers need none"
            )
        return quota.read_size(options["size"])

    def _union(self, entry: Entry, layers: Sequence[str]) -> Mount:
        if entry.snapshot.kind is Kind.ACTIVE:
            return Mount("overlay", "overlay", tuple(self._overlay(layers, entry.path)))
        return Mount("overlay", "overlay", (*self._overlay(layers, None), "ro"))

    def _overlay(self, layers: Sequence[str], upper: str | None) -> list[str]:
        options = self._options if upper is not None else for_view(self._options)
        return mount_options(self._features, options, layers, upper)

    def _stand(self, path: str, top: str) -> None:
        super()._stand(path, top)
        if self._features.quotas and (project := quota.project_of(f"{path}/f")) > PROJECTS:
            quota.in_project(f"{path}/w", project)

    def _stackable(self, key: str, parent: str) -> None:
        if (count := len(self._layers(parent))) > _LAYERS_MAX:
            raise Unsupported(f"snapshot {key}: {count} layers, and overlayfs stacks {_LAYERS_MAX} at most")

    def _forgive(self, entry: Entry) -> None:
        """overlayfs refuses an upper layer that was volatile before; whoever set the option accepted the risk."""
        with (
            translated(f"mounts of {entry.snapshot.name}"),
            contextlib.suppress(FileNotFoundError),
            opened(os.open(f"{entry.path}/w/work/incompat", DIRECTORY)) as fd,
        ):
            remove_tree(fd, "volatile")
