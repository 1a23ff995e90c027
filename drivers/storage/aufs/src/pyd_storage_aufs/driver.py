"""Snapshots as branches of aufs, a union file system that was never part of Linux itself, and is in some kernels.

An entry's directory holds ``f``, a branch. What is gone is said by names: ``.wh.NAME`` for a name of a lower branch, and
``.wh..wh..opq`` in a directory that hides all below it (aufs(5), "whiteout"). No dialect of the contract says so: layers are
applied to the union.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyd_contracts.errors import Declined, Unsupported
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, Mount
from pyd_snapshots.catalog import Entry
from pyd_snapshots.drivers import StackedDriver, refuse_options
from pyd_snapshots.trees import copy_attributes

from . import kernel

__all__ = ["AufsDriver"]

_BRANCHES_MAX = 127  # CONFIG_AUFS_BRANCH_MAX_127, what distributions built with
_SEPARATORS = ":=,+"  # of branches, their permissions, options


class AufsDriver(StackedDriver):
    """The storage contract over aufs.

    root  the driver's directory, on a file system that aufs takes as a writable branch
    run   where aufs makes, and at once unlinks, the files in which it keeps inode numbers
    sync  write the file system out before a layer counts as committed

    Raises Declined on kernels without aufs.
    """

    capabilities = frozenset({"shared"})

    def __init__(self, root: Path, run: Path, *, sync: bool = False, log: logging.Logger | None = None) -> None:
        self._run = os.path.realpath(run)
        _probe(os.path.realpath(root), self._run)
        super().__init__(root, sync=sync, log=log)

    # --- hooks -------------------------------------------------------------------------------------------------

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        """An upper layer of its own over all layers of the parent."""
        refuse_options("aufs", key, options)

        def fill(new: str) -> None:
            os.mkdir(f"{new}/f")
            if parent is None:
                os.chmod(f"{new}/f", 0o755)  # noqa: S103  # STO-10; what is above it is 0700
                return
            self._stackable(key, parent)
            # the attributes of the topmost branch's root directory are shown
            copy_attributes(self._layers(parent)[0], f"{new}/f")

        return self._mounts(self._catalog.create(Kind.ACTIVE, key, parent, fill))

    # --- inside ------------------------------------------------------------------------------------------------

    def _union(self, entry: Entry, layers: Sequence[str]) -> Mount:
        if entry.snapshot.kind is Kind.VIEW:
            return Mount("aufs", "none", (*_branches([f"{each}=ro+wh" for each in layers]), "noxino", "ro"))
        branches = _branches([f"{entry.path}/f=rw", *(f"{each}=ro+wh" for each in layers)])
        return Mount("aufs", "none", (*branches, "dio", "dirperm1", f"xino={self._run}/{entry.number}.xino"))

    def _stackable(self, key: str, parent: str) -> None:
        if (count := len(self._layers(parent)) + 1) > _BRANCHES_MAX:
            raise Unsupported(f"snapshot {key}: {count} branches, and aufs stacks {_BRANCHES_MAX} at most")


def _branches(branches: Sequence[str]) -> list[str]:
    """One option a branch, topmost first: ``br:`` for the first, ``append:`` for the others. So none is long."""
    return [f"br:{branches[0]}", *(f"append:{each}" for each in branches[1:])]


def _probe(root: str, run: str) -> None:
    if "aufs" not in kernel.file_systems():
        raise Declined(
            "no aufs in this kernel (it never was part of Linux itself); overlay does the same with every kernel since 3.18"
        )
    for path in (root, run):
        if found := sorted(set(path) & set(_SEPARATORS)):
            raise Declined(f"aufs takes no path with {' '.join(found)} in it, as there is in {path}")
