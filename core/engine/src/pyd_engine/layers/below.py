"""What is below a layer: directories that a layer writes into without an entry of their own. Standard library only."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from pyd_engine.layers import kernel
from pyd_engine.layers.tar import shown

__all__ = ["DEFAULT_ACL", "OVERLAYS_OWN", "OVERLAY_OPAQUE", "Below", "NeedsLower", "is_opaque"]

_PLAIN = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_NO_SYMLINKS
_OPEN = os.O_RDONLY | os.O_DIRECTORY
OVERLAY_OPAQUE = b"trusted.overlay.opaque"
DEFAULT_ACL = b"system.posix_acl_default"
OVERLAYS_OWN = (b"trusted.overlay.", b"user.overlay.")
"""Attributes that steer overlayfs: redirects, and data of other files (CVE-2023-0386's kin)."""


class NeedsLower(Exception):
    """The layer stands on names of lower layers in a way that a directory of its own cannot hold: apply it to the union."""


class Below:
    """The union of the layers below, read only; mounted when it is first looked at.

    point   an empty directory
    mounts  (type, source, options) triples, to be mounted there in a mount namespace of this process' own
    """

    def __init__(self, point: str, mounts: Sequence[tuple[str, str, Sequence[str]]]) -> None:
        self._point = os.fsencode(point)
        self._mounts = mounts
        self._root = -1

    def copy(self, path: bytes, target: int) -> tuple[int, bytes] | None:
        """Give *target*, a new directory of the layer, what the directory *path* below has but for its content, as overlayfs
        does when it copies up. None, and nothing done, when nothing has that name.

        Returns what is to be set last: its modification time, and its default ACL or nothing. NeedsLower when something else
        has the name, or is on the way.
        """
        if self._root < 0:
            self._mount()
        acl = b""
        try:
            found = kernel.openat2(self._root, path, _OPEN, _PLAIN)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise NeedsLower(f"{shown(path)} is no directory in the layers below") from error
            raise
        try:
            status = os.fstat(found)
            os.fchown(target, status.st_uid, status.st_gid)
            os.fchmod(target, status.st_mode & 0o7777)
            for key in os.listxattr(found):
                name = os.fsencode(key)
                if name == DEFAULT_ACL:
                    acl = os.getxattr(found, name)
                elif not name.startswith(OVERLAYS_OWN):
                    os.setxattr(target, name, os.getxattr(found, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
            raise NeedsLower(f"attributes of {shown(path)}: {os.strerror(error.errno).lower()}") from error
        finally:
            os.close(found)
        return status.st_mtime_ns, acl

    def _mount(self) -> None:
        try:
            kernel.private_mounts()
            kernel.mount_all(self._mounts, self._point)
            self._root = os.open(self._point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:  # the union is mounted in the same way: it has the better words for what is wrong
            raise NeedsLower(f"the layers below cannot be mounted: {error}") from error


def is_opaque(directory: int) -> bool:
    """Whether a directory of the layer hides what is below it."""
    try:
        return os.getxattr(directory, OVERLAY_OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise
