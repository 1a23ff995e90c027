"""The mount namespace that a runtime is run in, and what is arranged in there for a container with a user namespace.

Such a container's root has no power over the host's file systems, and a runtime builds it as that root: it reaches neither
directories that are closed to others, nor files of the engine's own, whose owners would be the host's; and makes no device
nodes. So the builder, the host's root, does all of that before: /dev becomes a file system with the container's devices, which
runtimes bind from there by their paths, and with mounts of the root file system and of every bind's source. The host sees
nothing of it.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from pyd_shim import kernel as k
from pyd_shim.mounts import mount_refused, mount_rootfs, new_file_system, own_namespace
from pyd_shim.remapping import IdMap, bound, make_node

__all__ = ["arrange", "arrange_to_join"]

_PLACES = ".pyd"
"""A directory below /dev, where no device is called so: a root whose path began the destination of a mount would lead runc
astray (its stripRoot)."""
_ROOT = f"/dev/{_PLACES}/root"
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_PROPAGATION = ("private", "slave", "shared", "unbindable")


def arrange(plan: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """Mount what the container is to see, and say so in *document*; warnings. Raises LaunchError and OSError."""
    warnings: list[str] = []
    root, linux = document["root"], document["linux"]
    idmap = IdMap(plan["users"], plan["groups"])
    opened: list[tuple[dict[str, Any], int]] = []
    try:
        mount_rootfs(plan["rootfs"], root["path"], idmap.fd)
        root_fd = k.open_tree(-100, root["path"], k.OPEN_TREE_CLONE | k.AT_RECURSIVE)
        for each in document["mounts"]:
            if each["type"] == "bind":
                try:
                    opened.append((each, bound(each, idmap, warnings)))
                except OSError as error:
                    raise mount_refused(each, error) from error
    finally:
        idmap.close()
    umask = os.umask(0)
    dev = new_file_system("tmpfs", "tmpfs", ["mode=755"], k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NOEXEC)
    try:
        _attach(dev, os.open("/dev", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        for device in linux["devices"]:
            path = device["path"].removeprefix("/dev/")
            os.makedirs(f"/dev/{os.path.dirname(path)}", 0o755, exist_ok=True)
            make_node(dev, path, device, plan["users"], plan["groups"])
        os.mkdir(_PLACES, 0o755, dir_fd=dev)
        root["path"] = _placed(root_fd, _ROOT)
        for index, (each, fd) in enumerate(opened):
            _point(each, _placed(fd, f"/dev/{_PLACES}/{index}"))
    finally:
        os.umask(umask)
        os.close(dev)
        for fd in (root_fd, *(fd for _, fd in opened)):
            os.close(fd)
    k.mount("", root["path"], None, k.MS_PRIVATE)  # nobody's peer, or pivot_root(2) refuses
    return warnings


def arrange_to_join() -> None:
    """A mount namespace in which a runtime finds the path of the root, to which it changes also where it only joins."""
    nodes = [
        (name, k.open_tree(-100, f"/dev/{name}", k.OPEN_TREE_CLONE))
        for name in _NODES
        if os.path.exists(f"/dev/{name}")
    ]
    own_namespace()
    dev = new_file_system("tmpfs", "tmpfs", ["mode=755"], k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NOEXEC)
    _attach(dev, os.open("/dev", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    os.close(dev)
    for name, fd in nodes:
        _placed(fd, f"/dev/{name}")
        os.close(fd)
    os.makedirs(_ROOT)


def _placed(fd: int, path: str) -> str:
    """The detached mount *fd* at *path*, which is made."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.mkdir(path, 0o700)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    _attach(fd, os.open(path, os.O_PATH | os.O_CLOEXEC))
    return path


def _attach(fd: int, into: int) -> None:
    try:
        k.move_mount(fd, into)
    finally:
        os.close(into)


def _point(each: dict[str, Any], path: str) -> None:
    """Have the document name the place. What the options say has been done, but for how it spreads: each mount says so anew."""
    each["source"] = path
    kept = [option for option in each["options"] if option.removeprefix("r") in _PROPAGATION]
    each["options"] = ["rbind" if "rbind" in each["options"] else "bind", *kept]
