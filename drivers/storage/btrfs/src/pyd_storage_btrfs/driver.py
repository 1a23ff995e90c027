"""Snapshots as btrfs subvolumes.

An entry's directory holds ``f``, a subvolume: an empty one for a first layer, else a snapshot of the parent's. Commit
makes it read-only and gives the entry its name by one rename. A view is the parent's own subvolume, mounted read-only.
Mounts are binds of a directory: nothing is needed on the host, and nothing shows there.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyd_contracts.errors import Declined, FailedPrecondition, InvalidArgument
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, Mount, Snapshot, TreeChange, Usage
from pyd_snapshots import idmaps
from pyd_snapshots.catalog import Entry
from pyd_snapshots.drivers import TreeDriver
from pyd_snapshots.errors import translated
from pyd_snapshots.syscalls import statfs_type
from pyd_snapshots.trees import DIRECTORY, opened

from . import kernel, quota
from .differences import changes
from .generations import usage
from .removal import remove_entry
from .subvolumes import nested, read_only, snapshot

__all__ = ["BtrfsDriver"]


class BtrfsDriver(TreeDriver):
    """The storage contract over btrfs.

    root    the driver's directory, on btrfs
    run     emptied by a reboot; remembers what the kernel can do
    quotas  ``auto``, ``simple``, ``full``, ``off``: which may be switched on when a size is first asked for
    sync    write the file system out before a layer counts as committed

    Raises Declined where root is not on btrfs or the kernel does not let us.
    """

    def __init__(
        self, root: Path, run: Path, *, quotas: str = "auto", sync: bool = False, log: logging.Logger | None = None
    ) -> None:
        self._quotas = quotas
        with translated(f"open storage at {root}"):
            _probe(os.path.realpath(root))
            super().__init__(root, sync=sync, log=log, remove=remove_entry)
            mapped = idmaps.supported(self._root, run)
            self._mend()
            with opened(os.open(self._root, DIRECTORY)) as fd:
                sizes = quotas != "off" or quota.state(fd) is not None
        optional = {"size": sizes, "id-mapped": mapped}
        able = {word for word, there in optional.items() if there}
        self.capabilities = frozenset({"layer-targets", "native-diff", "shared"} | able)

    # --- hooks -------------------------------------------------------------------------------------------------

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        """A snapshot of the parent's subvolume."""
        if unknown := sorted(set(options) - {"size"}):
            raise InvalidArgument(f"prepare {key}: btrfs knows no option {', '.join(unknown)}; it knows size")
        if "size" in options and "size" not in self.capabilities:
            raise InvalidArgument(
                f'prepare {key}: no limits of size: quotas are off on this btrfs, and quota = "off" in [storage.btrfs] '
                "leaves them so"
            )
        size = quota.parse_size(options["size"]) if "size" in options else None

        def fill(new: str) -> None:
            with opened(os.open(new, DIRECTORY)) as directory:
                if size is not None:
                    quota.ready(directory, self._quotas)
                if parent is None:
                    kernel.subvolume_create(directory, b"f")
                    os.chmod(f"{new}/f", 0o755)  # noqa: S103  # STO-10; what is above it is 0700
                else:
                    snapshot(f"{self._catalog.get(parent).path}/f", directory, b"f")
                if size is not None:
                    with opened(os.open(f"{new}/f", DIRECTORY)) as subvolume:
                        quota.limit(subvolume, size)

        return self._mounts(self._catalog.create(Kind.ACTIVE, key, parent, fill))

    @hookimpl
    def storage_commit(self, name: str, key: str) -> Snapshot:
        """Nothing moves: the subvolume is sealed and gets its name."""
        entry = self._catalog.check_commit(name, key)
        with translated(f"commit {key} as {name}"):
            try:
                read_only(f"{entry.path}/f", True)
                return super().storage_commit(name, key)
            except BaseException:
                read_only(f"{entry.path}/f", False)
                raise

    @hookimpl
    def storage_changes(self, name: str) -> Iterable[TreeChange]:
        """From the tree: what has not changed since the snapshot is not looked at."""
        entry = self._catalog.get(name)
        if entry.snapshot.kind is Kind.VIEW:
            raise FailedPrecondition(f"{name} is a view, and a view does not change")
        parent = entry.snapshot.parent
        below = None if parent is None else f"{self._catalog.get(parent).path}/f"
        with translated(f"compare {name} at {entry.path} with its parent"):
            return changes(f"{entry.path}/f", below)

    # --- inside ------------------------------------------------------------------------------------------------

    def _usage(self, entry: Entry) -> Usage:
        """What was written since the snapshot was made, from the tree of the file system."""
        with opened(os.open(f"{entry.path}/f", DIRECTORY)) as fd:
            own = kernel.subvolume_info(fd)
            total, inodes = usage(fd, own)
            for each in nested(fd, own.id):
                with opened(kernel.open_inode(fd, each.id, kernel.FIRST_FREE_OBJECTID, DIRECTORY)) as inner:
                    more = usage(inner, kernel.subvolume_info(inner))
                    total, inodes = total + more[0], inodes + more[1]
        return Usage(total, inodes)

    def _mend(self) -> None:
        """Open again what was sealed by a commit that did not come to its end; remove quota groups nobody has."""
        for entry in self._catalog.entries():
            if entry.snapshot.kind is Kind.ACTIVE and os.path.lexists(f"{entry.path}/f"):
                with opened(os.open(f"{entry.path}/f", DIRECTORY)) as fd:
                    sealed = kernel.subvolume_read_only(fd)
                if sealed:
                    read_only(f"{entry.path}/f", False)
        with opened(os.open(self._root, DIRECTORY)) as fd:
            quota.sweep(fd)


def _probe(root: str) -> None:
    """Ask what this driver needs: the file system, its ioctls, and the right to use them."""
    if statfs_type(root) != kernel.BTRFS:
        raise Declined(
            f"{root} is not on btrfs; make one (mkfs.btrfs DEVICE) and mount it there or at the data root, "
            "or use another storage driver"
        )
    try:
        with opened(os.open(root, DIRECTORY)) as fd:
            top = kernel.subvolume_info(fd).id
            nested(fd, top)
            os.close(kernel.open_inode(fd, top, kernel.FIRST_FREE_OBJECTID, DIRECTORY))
    except PermissionError as error:
        raise Declined(f"no permission to work with subvolumes ({error.strerror}); CAP_SYS_ADMIN is needed") from error
    except OSError as error:
        if error.errno in {errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP}:
            raise Declined(
                f"this kernel's btrfs is too old ({error.strerror}); Linux 4.18 or later is needed"
            ) from error
        raise
