"""Mounts made detached: copies of others with their attributes, new file systems, the mounts of a root file system, and what
an OCI document's mounts and devices are to the kernel.

What backends on shims have in common. Imported by zygotes: nothing but what they have imported anyway.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pyd_shim import fuse
from pyd_shim import kernel as k
from pyd_shim.ends import LaunchError
from pyd_shim.overlay import mount_overlay

__all__ = [
    "DEVICE_KINDS",
    "bind_source",
    "detached_bind",
    "group_paths",
    "mount_refused",
    "mount_rootfs",
    "needs_device",
    "new_file_system",
    "own_namespace",
    "served",
    "split_options",
    "take_shared",
]

DEVICE_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}

_ATTRIBUTES = {
    "ro": (k.MOUNT_ATTR_RDONLY, True),
    "rw": (k.MOUNT_ATTR_RDONLY, False),
    "nosuid": (k.MOUNT_ATTR_NOSUID, True),
    "suid": (k.MOUNT_ATTR_NOSUID, False),
    "nodev": (k.MOUNT_ATTR_NODEV, True),
    "dev": (k.MOUNT_ATTR_NODEV, False),
    "noexec": (k.MOUNT_ATTR_NOEXEC, True),
    "exec": (k.MOUNT_ATTR_NOEXEC, False),
    "noatime": (0x10, True),
    "strictatime": (0x20, True),
    "relatime": (0, True),
    "nodiratime": (0x80, True),
}
_PROPAGATION = {
    "private": k.MS_PRIVATE,
    "slave": k.MS_SLAVE,
    "shared": k.MS_SHARED,
    "unbindable": k.MS_UNBINDABLE,
}
_O_DIR = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def own_namespace() -> None:
    """Be in a mount namespace of one's own, into which the host's changes go on and out of which nothing comes
    (mount_namespaces(7))."""
    k.unshare(k.CLONE_NEWNS)
    k.mount("", "/", None, k.MS_REC | k.MS_SLAVE)


def split_options(options: Iterable[str]) -> tuple[int, int, int, bool, list[str]]:
    """Mount options as (attributes to set, to clear, propagation, recursive, data for the file system)."""
    set_ = clear = propagation = 0
    recursive = False
    data = []
    for option in options:
        if option in _ATTRIBUTES:
            bit, on = _ATTRIBUTES[option]
            if on:
                set_ |= bit
                clear &= ~bit
            else:
                set_ &= ~bit
                clear |= bit
        elif option in ("rbind", "bind"):
            recursive = recursive or option == "rbind"
        elif option.removeprefix("r") in _PROPAGATION:
            propagation = _PROPAGATION[option.removeprefix("r")]
        elif option:
            data.append(option)
    return set_, clear, propagation, recursive, data


def new_file_system(kind: str, source: str, data: Sequence[str], attributes: int) -> int:
    """A detached mount of a new file system."""
    context = k.fsopen(kind)
    try:
        if source:
            k.fsconfig_string(context, "source", source)
        for option in data:
            key, equals, value = option.partition("=")
            if equals:
                k.fsconfig_string(context, key, value)
            else:
                k.fsconfig_flag(context, key)
        k.fsconfig_create(context)
        return k.fsmount(context, attributes)
    finally:
        os.close(context)


def detached_bind(
    source: str, set_: int, clear: int, propagation: int, recursive: bool, *, read_only_below: bool = False
) -> int:
    """A detached copy of an existing mount; *read_only_below* makes the mounts inside it read-only too."""
    fd = k.open_tree(-100, source, k.OPEN_TREE_CLONE | (k.AT_RECURSIVE if recursive else 0))
    try:
        if set_ or clear:
            k.mount_setattr(fd, set_, clear & ~set_)
        if read_only_below and recursive:
            k.mount_setattr(fd, k.MOUNT_ATTR_RDONLY, recursive=True)
        k.mount_setattr(fd, 0, 0, propagation=propagation or k.MS_PRIVATE, recursive=recursive)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def served(mounts: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Make the mounts that need a process of their own, detached, for `mount_rootfs` to take: here, in the host's mount
    namespace, for such a process would keep a container's, and with it itself, for ever (`pyd_shim.fuse`). What was not taken
    when the block ends is closed. Raises LaunchError.
    """
    try:
        for each in mounts:
            if each["type"].startswith(fuse.TYPE):
                try:
                    each["made"] = fuse.mount(each["type"], each["source"], each["options"])
                except OSError as error:
                    raise _refused(each["type"], error) from error
        yield
    finally:
        for each in mounts:
            if "made" in each:
                os.close(each.pop("made"))


def mount_rootfs(mounts: Sequence[dict[str, Any]], target: str, idmap: Callable[[], int] | None = None) -> None:
    """Perform a storage driver's mounts, first to last, at *target* (a private directory of the engine's). Raises LaunchError.

    *idmap* gives the user namespace through which they are to show the ids on the disk; this mount namespace is ours then.
    """
    for each in mounts:
        _mount_layer(each, target, idmap)


def _mount_layer(each: dict[str, Any], target: str, idmap: Callable[[], int] | None) -> None:
    """One mount of a root file system."""
    kind, source, options = each["type"], each["source"], each["options"]
    set_, clear, propagation, recursive, data = split_options(options)
    try:
        if kind == "bind":
            fd = detached_bind(source, set_, clear, propagation, recursive)
        elif kind == "overlay" and idmap is not None:
            fd = _overlay_of_mapped(source, target, data, set_, idmap())
        elif kind == "overlay":
            if (fd := mount_overlay(source, target, data, set_)) < 0:
                return
        else:
            fd = each.pop("made") if "made" in each else new_file_system(kind, source, data, set_)
    except OSError as error:
        raise _refused(kind, error) from error
    into = os.open(target, _O_DIR)
    try:
        if idmap is not None and kind != "overlay":
            _map_ids(fd, source, idmap(), recursive=recursive)
        k.move_mount(fd, into)
    finally:
        os.close(fd)
        os.close(into)


def _refused(kind: str, error: OSError) -> LaunchError:
    return LaunchError("internal", f"mount the root file system ({kind}): {error.strerror}")


def _map_ids(fd: int, source: str, users: int, *, recursive: bool) -> None:
    """Show the ids on the disk of a detached mount through a user namespace."""
    try:
        k.mount_setattr(fd, k.MOUNT_ATTR_IDMAP, recursive=recursive, users=users)
    except OSError as error:
        raise LaunchError(
            "unsupported",
            f"user namespace: the file system of {source} cannot be id-mapped ({(error.strerror or '').lower()}); "
            "keep the data root on another one (ext4, xfs, btrfs; tmpfs from Linux 6.3), or run with --userns=host",
        ) from error


def _overlay_of_mapped(source: str, target: str, options: Sequence[str], attributes: int, users: int) -> int:
    """A detached overlay of id-mapped layers: overlayfs itself cannot be id-mapped.

    Before Linux 6.15 overlayfs takes a mount as a layer only if it stands somewhere in this mount namespace: they stand on
    top of one another at *target* until the overlay is made, which has copies of its own.
    """
    layers: list[int] = []
    into = os.open(target, _O_DIR)
    standing = 0
    try:
        mapped = _mapped_layers(options, users, layers)
        for fd in layers:
            k.move_mount(fd, into)
            standing += 1
        try:
            made = mount_overlay(source, target, mapped, attributes)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise LaunchError(
                "unsupported",
                f"user namespace: overlayfs refuses layers that are id-mapped ({error.strerror}); it takes Linux 5.19: run "
                "with --userns=host, or on another storage driver",
            ) from error
        if made < 0:  # an older kernel has mounted it on top of them
            made = k.open_tree(-100, target, k.OPEN_TREE_CLONE)
            standing += 1
        return made
    finally:
        for fd in (*layers, into):
            os.close(fd)
        for _ in range(standing):
            k.umount2(target, k.MNT_DETACH)


def _mapped_layers(options: Iterable[str], users: int, layers: list[int]) -> list[str]:
    """Options of an overlay with every layer replaced by an id-mapped mount of it, whose descriptors are added to *layers*.

    The upper and the work directory have to be on one mount: that of the directory above both (kernel, overlayfs.rst).
    """

    def mapped(path: str) -> str:
        fd = k.open_tree(-100, path, k.OPEN_TREE_CLONE)
        layers.append(fd)
        _map_ids(fd, path, users, recursive=False)
        return f"/proc/self/fd/{fd}"

    above = ""
    found = []
    for option in options:
        key, equals, value = option.partition("=")
        if key == "lowerdir+":
            option = f"{key}={mapped(value)}"
        elif key == "lowerdir":
            paths = [each.replace("\\:", ":") for each in re.split(r"(?<!\\):", value)]  # as overlayfs reads them
            option = f"{key}={':'.join(map(mapped, paths))}"
        elif key in ("upperdir", "workdir") and equals:
            directory, _, name = value.rpartition("/")
            above = above or mapped(directory)
            option = f"{key}={above}/{name}"
        found.append(option)
    return found


def needs_device(mounts: Sequence[dict[str, Any]]) -> bool:
    """Whether a root file system is mounted from a device: that must not be forbidden before."""
    return any(each["type"] != "bind" and each["source"].startswith("/") for each in mounts)


def bind_source(each: Mapping[str, Any]) -> int:
    """The source of an OCI mount of type bind, as a detached mount with its attributes."""
    set_, clear, propagation, recursive, data = split_options(each["options"])
    return detached_bind(each["source"], set_, clear, propagation, recursive, read_only_below="rro" in data)


def take_shared(mounts: Sequence[dict[str, Any]]) -> None:
    """Copy the sources of binds that are to be shared, for their ``fd``, while this new mount namespace still has the host's
    own peer groups: a copy made after it became a slave would hear of the host and tell it nothing. Raises LaunchError."""
    for each in mounts:
        if each["type"] == "bind" and not {"shared", "rshared"}.isdisjoint(each["options"]):
            try:
                each["fd"] = bind_source(each)
            except OSError as error:
                raise mount_refused(each, error) from error


def group_paths(layout: Mapping[str, Any], path: str) -> list[str]:
    """The directories that a container's /sys/fs/cgroup shows: cgroup v2's alone, or one of each v1 hierarchy."""
    if layout["pure"]:
        return [f"{layout['v2']}/{path.strip('/')}"]
    return [f"{each['path']}/{path.strip('/')}" for each in layout["v1"]]


def mount_refused(each: Mapping[str, Any], error: OSError) -> LaunchError:
    """Why an OCI mount could not be made, in words."""
    kind = each["type"]
    missing = kind == "bind" and isinstance(error, FileNotFoundError)
    reason = "bind source path does not exist" if missing else (error.strerror or "failed").lower()
    if kind == "bind" and isinstance(error, NotADirectoryError):
        reason += ": Are you trying to mount a directory onto a file? Check what is at the path in the image"
    kind_of_error = "not-found" if missing else "invalid-argument"
    return LaunchError(kind_of_error, f"mount {kind} {each['source']} to {each['destination']}: {reason}")
