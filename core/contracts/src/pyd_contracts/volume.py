"""The volume contract, `pyd.volume.v1`: directories that outlive the containers which use them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from pyd_contracts.markers import hookspec
from pyd_contracts.values import Usage, Volume

__all__ = ["GROUP", "VolumeDriver"]

GROUP = "pyd.volume.v1"


class VolumeDriver(Protocol):
    """Directories with names, which containers share and leave behind.

    A *name* is 2 to 255 characters out of ``[a-zA-Z0-9_.-]``, first an alphanumeric; what it means to people (labels, when
    it was made, who uses it) the engine keeps. A *user* is an id of 64 hex digits: a container, or one use by the engine.

    A volume may have to be brought to this host before it can be used (a mount): `volume_mount` says that somebody begins,
    `volume_unmount` that somebody ends. The engine says so again after a crash, for everyone it finds running, and takes
    back what it finds ended.

    VOL-1   Each hook happens whole or raises and leaves everything as it was.
    VOL-2   Each hook may be repeated after a crash at any point of its earlier run, the driver reopened in between.
    VOL-3   Hooks are called from several threads; calls for different names do not disturb each other.
    VOL-4   All volumes survive close and reopen on the same root, with their content.
    VOL-5   A driver makes files and mounts below its root and run directories only.

    Capabilities (an attribute ``capabilities: frozenset[str]``): ``global`` volumes are the same on every host that has the
    driver (Docker's scope; without it they are local).
    """

    @hookspec(firstresult=True)
    def volume_create(self, name: str, options: Mapping[str, str]) -> None:
        """Make an empty volume.

        VOL-10  It is there afterwards; making it again with the same options changes nothing.
        VOL-11  InvalidArgument when *name* is malformed, or *options* holds what the driver does not know or cannot do.
        VOL-12  AlreadyExists when it is there with other options.
        """

    @hookspec(firstresult=True)
    def volume_remove(self, name: str) -> None:
        """Remove a volume and all it holds.

        VOL-15  Nothing of it is left; what lies on other devices that options name stays.
        VOL-16  NotFound when it is not there; FailedPrecondition while it has a user.
        """

    @hookspec(firstresult=True)
    def volume_mount(self, name: str, user: str) -> Path:
        """Let *user* use the volume; the directory on this host.

        VOL-20  The directory exists and is the same for every user, and what one writes there the others see.
        VOL-21  A second time for the same user is the same as once.
        VOL-22  NotFound when there is no such volume.
        """

    @hookspec(firstresult=True)
    def volume_unmount(self, name: str, user: str) -> None:
        """*user* does not use it any more.

        VOL-25  After the last user, no mount is left on this host.
        VOL-26  Of a user or a volume that is not known, or a second time: nothing.
        """

    @hookspec(firstresult=True)
    def volume_get(self, name: str) -> Volume:
        """Describe a volume.

        VOL-30  Name and options are those it was made with; NotFound when it is not there.
        """

    @hookspec(firstresult=True)
    def volume_walk(self) -> Iterable[Volume]:
        """List all volumes, in any order.

        VOL-35  Exactly those that get knows; leftovers of a crash are not among them.
        """

    @hookspec(firstresult=True)
    def volume_usage(self, name: str) -> Usage:
        """Count what a volume holds.

        VOL-40  Bytes grow by at least what was written to it, where the driver keeps it on this host.
        """

    @hookspec(firstresult=True)
    def volume_close(self) -> None:
        """Let go of everything that is not on disk; volumes in use stay usable.

        VOL-45  Twice is once.
        """
