"""What the host's root does for a container with a user namespace, whatever backend builds it: maps, binds, devices, streams.

docs/decisions/0018 says how files get their owners. Runs in builders, which are short-lived: standard library only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from pyd_shim.idmaps import Extent, id_mapped, on_disk, outside, user_namespace
from pyd_shim.mounts import DEVICE_KINDS, bind_source

__all__ = ["IdMap", "bound", "give_streams", "make_node"]


class IdMap:
    """The user namespace through which mounts of this container show the ids on the disk; made when first needed."""

    def __init__(self, users: Sequence[Extent], groups: Sequence[Extent]) -> None:
        self._users = on_disk(users)
        self._groups = on_disk(groups)
        self._fd = -1

    def fd(self) -> int:
        """Its descriptor. Raises OSError."""
        if self._fd < 0:
            self._fd = user_namespace(self._users, self._groups)
        return self._fd

    def close(self) -> None:
        """Mounts keep what they need of it. Twice is once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def bound(each: Mapping[str, Any], idmap: IdMap, warnings: list[str]) -> int:
    """The source of a bind. Those of the engine's own are shown with the container's ids, where the file system can."""
    wanted = {"idmap", "ridmap"} & set(each["options"])
    if wanted:
        try:
            return id_mapped(lambda: bind_source(each), idmap.fd(), recursive="ridmap" in wanted)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
            warnings.append(
                f"{each['destination']}: the file system of {each['source']} cannot be id-mapped; "
                "files on it show the host's owners"
            )
    return bind_source(each)


def make_node(
    directory: int, name: str, device: Mapping[str, Any], users: Sequence[Extent], groups: Sequence[Extent]
) -> None:
    """A device node with the owners of inside, on a file system that is the host's: mknod(2) is refused inside.

    The caller's umask is 0.
    """
    number = os.makedev(device.get("major", 0), device.get("minor", 0))
    os.mknod(name, DEVICE_KINDS[device["type"]] | device.get("fileMode", 0o666), number, dir_fd=directory)
    owner = outside(device.get("uid", 0), users), outside(device.get("gid", 0), groups)
    os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)


def give_streams(fds: Sequence[int] | None, owner: Sequence[int]) -> None:
    """Let the container's root own its pipes, so that it can open /dev/stdout again and give it to others."""
    for fd in fds or ():
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            os.fchown(fd, *owner)
