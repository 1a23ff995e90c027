"""Facts of this host that `info` shows and warns about: kernel, memory, control groups, capabilities."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["Cgroups", "Host"]

_CAP_SYS_RESOURCE = 24  # capabilities(7), linux/capability.h
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def _read(path: Path) -> str:
    """A small kernel file, or nothing when this kernel or container does not have it."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Which limits the host's control groups can set (Documentation/admin-guide/cgroup-v1, cgroup-v2.rst)."""

    version: int
    memory: bool
    swap: bool
    cpu_shares: bool
    cpu_quota: bool
    cpuset: bool
    pids: bool
    oom_disable: bool


class Host:
    """The host as seen below *root* (another directory in tests)."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    @cached_property
    def cgroups(self) -> Cgroups:
        """Looked at once: controllers do not come and go."""
        top = self._root / "sys/fs/cgroup"
        if (top / "cgroup.controllers").exists():
            have = set(_read(top / "cgroup.controllers").split())
            return Cgroups(
                version=2,
                memory="memory" in have,
                swap="memory" in have and self._swap_v2(top),
                cpu_shares="cpu" in have,
                cpu_quota="cpu" in have and (self._root / "proc/self").exists(),
                cpuset="cpuset" in have,
                pids="pids" in have,
                oom_disable=False,
            )
        memory, cpu = top / "memory", top / "cpu"
        return Cgroups(
            version=1,
            memory=(memory / "memory.limit_in_bytes").exists(),
            swap=(memory / "memory.memsw.limit_in_bytes").exists(),
            cpu_shares=(cpu / "cpu.shares").exists(),
            cpu_quota=(cpu / "cpu.cfs_quota_us").exists(),
            cpuset=(top / "cpuset/cpuset.cpus").exists(),
            pids=(top / "pids").is_dir() and (self._root / "proc/self").exists(),
            oom_disable=(memory / "memory.oom_control").exists(),
        )

    def _swap_v2(self, top: Path) -> bool:
        """The root group has no memory.swap.max; any other group shows whether the kernel accounts swap."""
        own = _read(self._root / "proc/self/cgroup").strip().rpartition("::")[2].lstrip("/")
        return any((top / group / "memory.swap.max").exists() for group in (own, "init.scope", "system.slice") if group)

    @cached_property
    def kernel(self) -> str:
        """``uname -r``."""
        return os.uname().release

    @cached_property
    def machine(self) -> str:
        """``uname -m``."""
        return os.uname().machine

    @property
    def architecture(self) -> str:
        """The machine as image platforms call it."""
        return _ARCHITECTURES.get(self.machine, self.machine)

    @cached_property
    def release(self) -> dict[str, str]:
        """os-release(5); empty where there is none."""
        for name in ("etc/os-release", "usr/lib/os-release"):
            if text := _read(self._root / name):
                pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
                return {key: value.strip("\"'") for key, _, value in pairs}
        return {}

    @cached_property
    def memory_bytes(self) -> int:
        """All memory of the host."""
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    @property
    def processors(self) -> int:
        """Processors that this process may use."""
        return len(os.sched_getaffinity(0))

    @property
    def name(self) -> str:
        """The host's name, as it is now."""
        return os.uname().nodename

    @property
    def descriptors(self) -> int:
        """Open descriptors of this process."""
        return len(os.listdir("/proc/self/fd"))

    @property
    def ipv4_forwarding(self) -> bool:
        """net.ipv4.ip_forward, which a network plug-in or an operator may change at any time."""
        return _read(self._root / "proc/sys/net/ipv4/ip_forward").strip() == "1"

    @cached_property
    def seccomp(self) -> bool:
        """seccomp(2) with filters (Documentation/userspace-api/seccomp_filter.rst)."""
        return "errno" in _read(self._root / "proc/sys/kernel/seccomp/actions_avail").split()

    @cached_property
    def cgroup_namespaces(self) -> bool:
        """cgroup_namespaces(7)."""
        return (self._root / "proc/self/ns/cgroup").exists()

    @cached_property
    def may_raise_limits(self) -> bool:
        """CAP_SYS_RESOURCE is effective: hard limits may be raised and oom_score_adj lowered."""
        for line in _read(self._root / "proc/self/status").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
        return False

    @cached_property
    def python(self) -> str:
        """What runs the daemon."""
        return f"{platform.python_implementation()} {platform.python_version()}"

    def file_system(self, path: Path) -> str:
        """The type of file system that holds *path*, as /proc/self/mountinfo names it."""
        device, place = os.stat(path).st_dev, os.path.realpath(path)
        wanted = f"{os.major(device)}:{os.minor(device)}"
        around = ("", "unknown")
        for line in _read(self._root / "proc/self/mountinfo").splitlines():
            fields = line.split(" ")
            if "-" not in fields:
                continue
            kind, point = fields[fields.index("-") + 1], fields[4]
            if fields[2] == wanted:
                return kind
            if f"{place}/".startswith(f"{point.rstrip('/')}/") and len(point) >= len(around[0]):
                around = (point, kind)
        return around[1]  # btrfs gives each subvolume a number that mountinfo does not show

    def warnings(self) -> list[str]:
        """What containers cannot have here, in the words clients know from dockerd where it has them."""
        have = self.cgroups
        missing = {
            "No memory limit support": not have.memory,
            "No swap limit support": not have.swap,
            "No cpu cfs quota support": not have.cpu_quota,
            "No cpu shares support": not have.cpu_shares,
            "No cpuset support": not have.cpuset,
            "No pids limit support": not have.pids,
            "IPv4 forwarding is disabled": not self.ipv4_forwarding,
            "No seccomp support: system calls of containers are not filtered": not self.seccomp,
            "No CAP_SYS_RESOURCE: ulimits above the daemon's own and negative oom scores cannot be set": (
                not self.may_raise_limits
            ),
        }
        return [f"WARNING: {text}" for text, yes in missing.items() if yes]
