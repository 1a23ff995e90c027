"""User namespaces as tables of ids: made for id-mapped mounts (mount_setattr(2)), or written for a container's own.

A map is what user_namespaces(7) calls so: lines ``INSIDE OUTSIDE COUNT``. On an id-mapped mount *inside* is what is on disk.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence

from pyd_shim import kernel

__all__ = [
    "Extent",
    "id_mapped",
    "inverse",
    "on_disk",
    "outside",
    "text",
    "unavailable",
    "user_namespace",
    "write_maps",
]

Extent = tuple[int, int, int]
"""First id inside, first id outside, how many."""


def text(extents: Sequence[Extent]) -> str:
    """As the kernel reads it."""
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in extents)


def inverse(extents: Sequence[Extent]) -> list[Extent]:
    """From outside to inside."""
    return [(outside, inside, count) for inside, outside, count in extents]


def on_disk(extents: Sequence[Extent]) -> list[Extent]:
    """The map of a mount that shows ids inside a container as those outside.

    What the kernel makes there in its own name (overlayfs: whiteouts, its work directory) is the host's root's, who needs a
    place on the disk too: the first id that is nobody's inside.
    """
    if any(outside == 0 for _, outside, _ in extents):
        return list(extents)
    return [*extents, (max(inside + count for inside, _, count in extents), 0, 1)]


def outside(number: int, extents: Sequence[Extent]) -> int:
    """What an id inside is on the host; 65534, nobody, when it is not mapped."""
    for first, host, count in extents:
        if first <= number < first + count:
            return host + number - first
    return 65534


def write_maps(pid: int, users: str, groups: str) -> None:
    """Write the maps of *pid*'s user namespace, once for all (user_namespaces(7)). Raises OSError."""
    for name, value in (("gid_map", groups), ("uid_map", users)):
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode("ascii"))
        finally:
            os.close(fd)


def user_namespace(users: Sequence[Extent], groups: Sequence[Extent]) -> int:
    """A descriptor of a user namespace with these maps and nobody in it. The caller is single-threaded. Raises OSError."""
    pid, pidfd = kernel.clone3(kernel.CLONE_NEWUSER, None)
    if pid == 0:
        while True:
            signal.pause()  # it has nothing to do but to be there; SIGKILL ends it
    try:
        write_maps(pid, text(users), text(groups))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)


def unavailable(proc: str = "/proc") -> str:
    """Why there can be no containers with user namespaces on this host; empty when nothing is known against it. Costs a few
    system calls: whether a file system's files can be shown through a map, only `id_mapped` can say.
    """
    if not os.path.exists(f"{proc}/self/ns/user"):
        return "this kernel has no user namespaces (CONFIG_USER_NS)"
    try:
        with open(f"{proc}/sys/user/max_user_namespaces", encoding="ascii") as file:
            if int(file.read()) == 0:
                return "user namespaces are switched off on this host (sysctl user.max_user_namespaces is 0)"
    except FileNotFoundError:
        return "this kernel does not count user namespaces (CONFIG_SYSCTL)"
    try:
        kernel.mount_setattr(-1, 0)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return "this kernel has no id-mapped mounts (Linux 5.12)"
    return ""


def id_mapped(open_: Callable[[], int], users: int, *, recursive: bool = False) -> int:
    """The detached mount that *open_* gives, with ids shown through the user namespace *users*. Raises OSError."""
    fd = open_()
    try:
        kernel.mount_setattr(fd, kernel.MOUNT_ATTR_IDMAP, recursive=recursive, users=users)
    except BaseException:
        os.close(fd)
        raise
    return fd
