"""What this host can limit, read once from its control groups (cgroups(7))."""

from __future__ import annotations

import os

__all__ = ["lacking"]

_V1 = {
    "memory": ("memory", "memory.limit_in_bytes"),
    "swap": ("memory", "memory.memsw.limit_in_bytes"),
    "swappiness": ("memory", "memory.swappiness"),
    "oom-kill-disable": ("memory", "memory.oom_control"),
    "pids": ("pids", ""),
    "cpuset": ("cpuset", "cpuset.cpus"),
    "cpu-shares": ("cpu", "cpu.shares"),
    "cpu-quota": ("cpu", "cpu.cfs_quota_us"),
    "cpu-realtime": ("cpu", "cpu.rt_runtime_us"),
    "blkio-throttle": ("blkio", "blkio.throttle.read_bps_device"),
}
"""Feature to controller and the file of its root that shows it."""
_V2 = {
    "memory": "memory",
    "swap": "memory",
    "pids": "pids",
    "cpuset": "cpuset",
    "cpu-shares": "cpu",
    "cpu-quota": "cpu",
    "blkio-throttle": "io",
}
_ONLY_V1 = frozenset({"swappiness", "oom-kill-disable", "cpu-realtime"})


def lacking(mountinfo: str = "/proc/self/mountinfo") -> frozenset[str]:
    """The features of `HostLimits.lacking` that this kernel does not offer."""
    v1, v2 = _mounts(mountinfo)
    if v1:
        return frozenset(
            feature
            for feature, (controller, file) in _V1.items()
            if controller not in v1 or (file and not os.path.exists(f"{v1[controller]}/{file}"))
        )
    try:
        with open(f"{v2}/cgroup.controllers", encoding="ascii") as listed:
            controllers = set(listed.read().split())
    except OSError:
        controllers = set()
    missing = {feature for feature, controller in _V2.items() if controller not in controllers}
    return frozenset(missing | _ONLY_V1)


def _mounts(mountinfo: str) -> tuple[dict[str, str], str]:
    """v1 controllers and their mount points, and that of v2."""
    v1: dict[str, str] = {}
    v2 = ""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.rstrip("\n").partition(" - ")
            kind, _, options = right.split(" ", 2)
            point = left.split(" ")[4]
            if kind == "cgroup":
                v1 |= dict.fromkeys(options.split(","), point)
            elif kind == "cgroup2" and not v2:
                v2 = point
    return v1, v2
