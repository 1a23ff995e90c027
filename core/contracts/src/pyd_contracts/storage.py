"""The storage contract, `pyd.storage.v1`: layered root file systems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pyd_contracts.markers import hookspec
from pyd_contracts.values import LayerTarget, Mount, Snapshot, TreeChange, Usage

__all__ = [
    "CAPABILITIES",
    "GROUP",
    "DiffSource",
    "LayerTargets",
    "Rebasing",
    "Reclaiming",
    "Releasing",
    "StorageDriver",
]

GROUP = "pyd.storage.v1"


class StorageDriver(Protocol):
    """Layered root file systems.

    Vocabulary. A *key* names a snapshot that may still change (*active*) or that is only looked at (*view*); a *name*
    names one that never changes again (*committed*). Keys and names live in one space. Only commit makes a name, and
    only names are parents. They are strings of 1 to 128 characters out of ``[a-zA-Z0-9_.:-]``, first an alphanumeric.

    Life cycle::

        prepare(key, parent) ── active ── commit(name, key) ── committed ── parent of others ── remove(name)
                                   └───── remove(key)
        view(key, parent) ──── view ───── remove(key)

    To import an image: prepare on the layer below, write the layer into the mounts, commit. To run a container: prepare
    on the top layer, mount inside the container's mount namespace, remove when the container is removed.

    Drivers *describe* mounts and do not perform them: the host's mount table stays clean whatever is killed.

    STO-1   Each hook happens whole or raises and leaves everything as it was.
    STO-2   Each hook may be repeated after a crash at any point of its earlier run, the driver reopened in between.
    STO-3   Hooks are called from several threads; calls for different keys do not disturb each other.
    STO-4   All entries survive close and reopen on the same root.
    STO-5   A driver keeps to its root and run directories, and makes no mounts that outlive a call.
    STO-6   Where space, inodes or a quota run out, a hook raises ResourceExhausted; once some is free, it works.
    STO-7   ``capabilities`` (an attribute, a frozenset of words) names what the driver can do here, found out by trying,
            not by guessing, and nothing else; it does not change while the driver is open.

    The words, each with the clauses that it switches on:

    ==================  ======================================================================================
    ``layer-targets``   LayerTargets: layers are written straight into a directory
    ``rebase``          Rebasing: a layer is written before what it lies over is there; with ``layer-targets``
    ``native-diff``     DiffSource: what differs from the parent is known without reading both trees
    ``release``         Releasing: what mounts hold while they are not mounted can be let go
    ``shrink``          Reclaiming: space that nothing uses any more can be given back
    ``size``            prepare takes the option ``size``, a number of bytes (STO-13)
    ``shared``          what a snapshot has in common with its parent is stored once (STO-46)
    ``usage-cheap``     usage is read off a counter, whatever the number of files (STO-47)
    ``id-mapped``       the mounts can be id-mapped (STO-22)
    ==================  ======================================================================================
    """

    @hookspec(firstresult=True)
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        """Open a writable snapshot and say how to mount it.

        STO-10  The mounted tree starts equal to *parent*, or empty with mode 0755 when there is none.
        STO-11  *parent* does not change, whatever is written.
        STO-12  AlreadyExists when *key* is taken; NotFound when there is no *parent*; InvalidArgument when *parent* is
                not committed, when *key* is malformed or when *options* holds what the driver does not know.
        STO-13  ``size`` bounds what *key* can hold by itself, also after reopen: more is refused with ENOSPC or EDQUOT and
                disturbs nothing else. Anything but a decimal number of bytes, or too few to work with, is InvalidArgument.
        """

    @hookspec(firstresult=True)
    def storage_view(self, key: str, parent: str) -> Sequence[Mount]:
        """Open a read-only snapshot of *parent* and say how to mount it.

        STO-15  The mounted tree equals *parent* and refuses writes (EROFS).
        STO-16  Errors as in prepare.
        """

    @hookspec(firstresult=True)
    def storage_mounts(self, key: str) -> Sequence[Mount]:
        """Say again how to mount an active snapshot or a view.

        STO-20  The answer is equal to that of the prepare or view that made *key*, also after reopen.
        STO-21  NotFound when there is no *key*; FailedPrecondition when it is committed.
        STO-22  ``id-mapped``: what the mounts name can be cloned and id-mapped (mount_setattr(2), MOUNT_ATTR_IDMAP): the
                source of a bind mount, the layers of an overlay, a device's file system. Layers stand in the mount
                namespace of who makes the overlay: before Linux 6.15 it takes no others.
        """

    @hookspec(firstresult=True)
    def storage_commit(self, name: str, key: str) -> Snapshot:
        """Turn an active snapshot into a committed one. Nobody has it mounted.

        STO-25  *key* is gone and *name* is there, with what was written and with the parent that *key* had.
        STO-26  AlreadyExists when *name* is taken; NotFound when there is no *key*; FailedPrecondition when *key* is a
                view or committed.
        """

    @hookspec(firstresult=True)
    def storage_remove(self, name: str) -> None:
        """Remove a key or a name. Nobody has it mounted.

        STO-30  Nothing of it is left on disk.
        STO-31  FailedPrecondition while something stands on it; NotFound when it is not there.
        """

    @hookspec(firstresult=True)
    def storage_stat(self, name: str) -> Snapshot:
        """Describe one entry.

        STO-35  Kind and parent are those it was made with. NotFound when it is not there.
        """

    @hookspec(firstresult=True)
    def storage_walk(self) -> Iterable[Snapshot]:
        """List all entries, in any order.

        STO-40  Exactly the entries that stat knows; leftovers of a crash are not among them and are removed at the
                latest by the next open.
        """

    @hookspec(firstresult=True)
    def storage_usage(self, name: str) -> Usage:
        """Count what an entry holds by itself.

        STO-45  Bytes grow by at least what was written to it.
        STO-46  ``shared``: what it has from its parent is not counted, and takes no space a second time.
        STO-47  ``usage-cheap``: the answer takes as long for a million files as for one.
        """

    @hookspec(firstresult=True)
    def storage_close(self) -> None:
        """Let go of everything that is not on disk.

        STO-50  Twice is once.
        """


class LayerTargets(Protocol):
    """Optional: layers may be written straight into a directory, without mounting (capability ``layer-targets``)."""

    @hookspec(firstresult=True)
    def storage_layer_target(self, key: str) -> LayerTarget:
        """Name the directory that receives the changes of an active snapshot.

        STO-60  What is written there, with removals in the dialect the answer names, appears in the mounts of *key*.
        STO-61  NotFound when there is no *key*; FailedPrecondition when it is not active.
        """


class Rebasing(Protocol):
    """Optional: a layer can be written before what it will lie over is there (capability ``rebase``, with ``layer-targets``).

    ::

        prepare(key, None) ── layer_target(key) ── rebase(key, parent) ── commit(name, key)

    So layers of an image are written at once, in any order, and committed from the lowest up.
    """

    @hookspec(firstresult=True)
    def storage_rebase(self, key: str, parent: str) -> None:
        """Put an active snapshot that was prepared without a parent over one. Nobody has it mounted.

        STO-80  Afterwards it is as if *key* had been prepared on *parent* and its layer target written then, removals in the
                dialect that the target's answer named included; also after reopen.
        STO-81  The root directory has the parent's owner, mode, attributes and times, whatever was written: what the layer says
                of it is written once more.
        STO-82  A second time over the same *parent* changes nothing.
        STO-83  NotFound when there is no *key* or no *parent*; InvalidArgument when *parent* is not committed;
                FailedPrecondition when *key* is not active or has another parent.
        """


class DiffSource(Protocol):
    """Optional: the driver knows what differs between an entry and its parent (capability ``native-diff``).

    Who has no better way than to compare both trees does not declare it: the engine can do that too, in a process of its own.
    """

    @hookspec(firstresult=True)
    def storage_changes(self, name: str) -> Iterable[TreeChange]:
        """List what was changed in an active or committed entry against its parent, mounted or not, read by nobody else.

        STO-65  Made to a copy of the parent, the changes give the entry: DELETED removes a name and all below it, ADDED and
                MODIFIED take the name as the entry has it, without what is below.
        STO-66  Directories come before what is in them, and no path comes twice. A directory in which something changed is
                MODIFIED, as is the root for a change in it (its path is empty). What did not change is not named, nor is a
                directory that has only another time, nor what is below a DELETED name. Below an ADDED name all is ADDED.
        STO-67  Without a parent all but the root is ADDED.
        STO-68  NotFound when there is no *name*; FailedPrecondition when it is a view.
        """


class Releasing(Protocol):
    """Optional: mounts need something that is there between them, a device or a process (capability ``release``)."""

    @hookspec(firstresult=True)
    def storage_release(self, key: str) -> None:
        """Let go of what the mounts of an active snapshot or a view hold. Nobody has it mounted.

        A hint, given when a container ended or a layer was read; `storage_mounts` takes hold again.

        STO-70  Entry and content stay, and mounts says and gives the same as before.
        STO-71  Twice is once. NotFound when there is no *key*; FailedPrecondition when it is committed.
        """


class Reclaiming(Protocol):
    """Optional: removing does not by itself give all space back to the file system or device below (``shrink``)."""

    @hookspec(firstresult=True)
    def storage_shrink(self) -> int:
        """Give back what nothing uses any more; how many bytes that were, as far as known.

        STO-75  Entries and content stay as they are, also of what is mounted.
        STO-76  A second time right after the first gives back nothing.
        """


CAPABILITIES: Mapping[str, type[object] | None] = {
    "layer-targets": LayerTargets,
    "rebase": Rebasing,
    "native-diff": DiffSource,
    "release": Releasing,
    "shrink": Reclaiming,
    "size": None,
    "shared": None,
    "usage-cheap": None,
    "id-mapped": None,
}
"""Every word a driver may declare, and the further contract that comes with it."""
