"""What this host can limit, read once from its control groups (cgroups(7)) and from the daemon's own limits."""

from __future__ import annotations

import os
import resource

from pyd_engine.containers.limits import ULIMITS

__all__ = ["hard_limits", "lacking", "least_oom_score_adj"]

_LOCKS = 10
"""RLIMIT_LOCKS, which Python has no name for."""

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
_WEIGHTS = ("blkio.weight", "blkio.bfq.weight", "io.weight", "io.bfq.weight")
_ONLY_V1 = frozenset({"swappiness", "oom-kill-disable", "cpu-realtime"})


def lacking(mountinfo: str = "/proc/self/mountinfo") -> frozenset[str]:
    """The features of `HostLimits.lacking` that this kernel does not offer."""
    v1, v2 = _mounts(mountinfo)
    if v1:
        missing = {
            feature
            for feature, (controller, file) in _V1.items()
            if controller not in v1 or (file and not os.path.exists(f"{v1[controller]}/{file}"))
        }
        return frozenset(missing if _weights(v1.get("blkio", "")) else missing | {"blkio-weight"})
    try:
        with open(f"{v2}/cgroup.controllers", encoding="ascii") as listed:
            controllers = set(listed.read().split())
    except OSError:
        controllers = set()
    missing = {feature for feature, controller in _V2.items() if controller not in controllers}
    if "io" not in controllers or not _weights(v2):
        missing.add("blkio-weight")
    return frozenset(missing | _ONLY_V1)


def _weights(point: str) -> bool:
    """Whether groups below *point* can weigh block devices. The root has no such file where BFQ does it, so that any group is
    looked at; where there is none, nobody knows."""
    try:
        with os.scandir(point or "/nonexistent") as entries:
            groups = [point, *(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))]
    except OSError:
        return False
    return len(groups) == 1 or any(os.path.exists(f"{group}/{file}") for group in groups for file in _WEIGHTS)


def hard_limits() -> dict[str, int]:
    """How far limits can be raised by who has not CAP_SYS_RESOURCE: to those of this process, which containers inherit."""
    found = {}
    for name in ULIMITS:
        number = getattr(resource, f"RLIMIT_{name.upper()}", _LOCKS)
        _, hard = resource.getrlimit(number)
        if hard != resource.RLIM_INFINITY:
            found[name] = hard
    return found


def least_oom_score_adj() -> int:
    """What this process has: only CAP_SYS_RESOURCE may go below (proc(5))."""
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


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
