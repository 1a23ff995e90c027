"""What the builder prepares for a container with a user namespace: everything that its root may not do for itself.

Its init has no power over the host's file systems: it can neither mount the root file system, nor reach the sources of binds,
nor make device nodes. The builder, who is the host's root, opens all of these as detached mounts; the init inherits the
descriptors and puts them where they belong. docs/decisions/0018 says how files get their owners.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from typing import Any

from pyd_shim import kernel as k
from pyd_shim.cgroups import Layout
from pyd_shim.idmaps import Extent
from pyd_shim.mounts import group_paths, mount_refused, mount_rootfs, new_file_system, own_namespace
from pyd_shim.remapping import IdMap, bound, make_node

__all__ = ["limit", "open_groups", "prepare"]


def prepare(plan: dict[str, Any]) -> list[str]:
    """Open what the init cannot, and write the descriptors into *plan* (``root_fd``, and ``fd`` of mounts and devices).

    Warnings of what could not be done as asked. Raises LaunchError and OSError.
    """
    warnings: list[str] = []
    own_namespace()  # for the root file system, until it is taken out of here
    idmap = IdMap(plan["users"], plan["groups"])
    try:
        mount_rootfs(plan["rootfs"], plan["root"], idmap.fd)
        plan["root_fd"] = k.open_tree(-100, plan["root"], k.OPEN_TREE_CLONE | k.AT_RECURSIVE)
        for each in plan["mounts"]:
            if each["type"] == "bind":
                try:
                    each["fd"] = bound(each, idmap, warnings)
                except OSError as error:
                    raise mount_refused(each, error) from error
    finally:
        idmap.close()
    _make_devices(plan["devices"], plan["root"], plan["users"], plan["groups"])
    score = plan["process"]["oom_score_adj"]
    if score is not None:  # inherited by the init, who could not lower it
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write(str(score))
        except OSError as error:
            warnings.append(f"oom_score_adj {score} cannot be set: {error.strerror}")
        plan["process"]["oom_score_adj"] = None
    return warnings


def _make_devices(
    devices: Sequence[dict[str, Any]], place: str, users: Sequence[Extent], groups: Sequence[Extent]
) -> None:
    """Device nodes, each opened as a mount of its own.

    The file system stands at *place* meanwhile: before Linux 6.15 nothing is cloned out of a mount that stands nowhere.
    """
    if not devices:
        return
    nodes = new_file_system("tmpfs", "tmpfs", ["mode=755"], k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NOEXEC)
    umask = os.umask(0)
    try:
        into = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        k.move_mount(nodes, into)
        os.close(into)
        for index, each in enumerate(devices):
            name = str(index)
            make_node(nodes, name, each, users, groups)
            each["fd"] = k.open_tree(nodes, name, k.OPEN_TREE_CLONE)
        k.umount2(place, k.MNT_DETACH)
    finally:
        os.umask(umask)
        os.close(nodes)


def open_groups(mounts: Sequence[Mapping[str, Any]], layout: Layout, path: str) -> list[int]:
    """The container's control groups as detached mounts, in the order of `group_paths`, if they are to be seen at all."""
    if not any(each["type"] == "cgroup" for each in mounts):
        return []
    return [k.open_tree(-100, group, k.OPEN_TREE_CLONE) for group in group_paths(layout, path)]


def limit(pid: int, limits: Sequence[Sequence[Any]]) -> list[str]:
    """Set resource limits of a process (0: this one); warnings for those that this host does not allow."""
    warnings = []
    for name, number, soft, hard in limits:
        try:
            resource.prlimit(pid, number, (soft, hard))
        except (OSError, ValueError):
            # Without CAP_SYS_RESOURCE the hard limit cannot be raised: go as far as it allows.
            _, most = resource.prlimit(pid, number)
            clamped = hard if most == resource.RLIM_INFINITY else most
            resource.prlimit(pid, number, (min(_finite(soft), _finite(clamped)), clamped))
            warnings.append(f"ulimit {name}={soft}:{hard} is above this host's hard limit; {clamped} is used")
    return warnings


def _finite(value: int) -> int:
    return (1 << 63) - 1 if value in (-1, resource.RLIM_INFINITY) else value
