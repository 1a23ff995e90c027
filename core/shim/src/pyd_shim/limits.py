"""Limits of one container's control groups: OCI resources as lines of control files, for cgroup v1 and v2.

What is to be written is a list of `Write`, made first and written in order, so that a change of a running container can be
undone when the kernel refuses a part of it. Source: config-linux.md of the runtime-spec, and
Documentation/admin-guide/cgroup-v1 and cgroup-v2 of the kernel.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pyd_shim.files import read, write

if TYPE_CHECKING:
    from pyd_shim.cgroups import Group

__all__ = ["apply", "change", "give_realtime", "missing"]

_RT_PERIOD, _RT_RUNTIME = "cpu.rt_period_us", "cpu.rt_runtime_us"


@dataclass(frozen=True, slots=True)
class Write:
    """One line for one control file. *directory* is None where the host has no such controller."""

    directory: str | None
    file: str
    value: str
    restorable: bool = True
    controller: str = ""

    @property
    def path(self) -> str:
        """The control file."""
        return f"{self.directory}/{self.file}"

    @property
    def missing(self) -> str:
        """Why it cannot be written; empty when it can."""
        if self.directory is not None and os.path.exists(self.path):
            return ""
        what = f"{self.controller} controller with {self.file}" if self.controller else self.file
        return f"this host has no {what}: the limit is not applied"

    def perform(self) -> None:
        """Write it. Raises OSError."""
        try:
            write(self.path, self.value)
        except OSError as error:
            if error.errno != errno.EINVAL or not self.file.startswith("cpu.rt_"):
                raise
            why = (
                f"{error.strerror}: the groups above have no such share of real-time to give (cpu-rt-runtime in the "
                "backend's settings)"
            )
            raise OSError(error.errno, why, self.path) from error


def apply(group: Group, resources: Mapping[str, Any]) -> list[str]:
    """Set limits of a group without processes; warnings. Raises OSError for what the kernel refuses."""
    warnings = []
    for each in _writes(group, resources):
        if why := each.missing:
            warnings.append(why)
        else:
            each.perform()
    if group.layout["pure"] and resources.get("devices"):
        from pyd_shim import device_filter

        device_filter.attach(str(group.v2), resources["devices"])
    return warnings


def missing(group: Group, resources: Mapping[str, Any]) -> list[str]:
    """Why limits cannot be applied on this host, in words, for each that cannot."""
    return [why for each in _writes(group, resources) if (why := each.missing)]


def change(group: Group, resources: Mapping[str, Any]) -> list[str]:
    """Change limits of a running group, whole or not at all; warnings. Raises OSError."""
    warnings: list[str] = []
    done: list[tuple[str, str]] = []
    for each in _in_order(list(_writes(group, {**resources, "devices": ()}))):
        if why := each.missing:
            warnings.append(why)
            continue
        before = read(each.path).strip() if each.restorable else ""
        try:
            each.perform()
        except OSError:
            for path, value in reversed(done):
                write(path, value)
            raise
        if each.restorable:
            done.append((each.path, before))
    return warnings


def _in_order(writes: list[Write]) -> list[Write]:
    """v1 keeps memory <= memory and swap at any moment, and real-time below its period: the one that grows goes first."""
    _real_time_in_order(writes)
    limit = next((each for each in writes if each.file == "memory.limit_in_bytes"), None)
    both = next((each for each in writes if each.file == "memory.memsw.limit_in_bytes"), None)
    if limit is None or both is None or both.missing:
        return writes
    if int(both.value) < 0 or int(limit.value) > int(read(both.path)):
        writes.remove(both)
        writes.insert(writes.index(limit), both)
    return writes


def _real_time_in_order(writes: list[Write]) -> None:
    for index, (period, runtime) in enumerate(pairwise(writes)):
        pair = (period.file, runtime.file) == (_RT_PERIOD, _RT_RUNTIME) and not period.missing
        if pair and int(period.value) < int(read(period.path)):
            writes[index], writes[index + 1] = runtime, period
            return


def give_realtime(group: Group) -> None:
    """Give the groups above this one their share of real-time. Raises OSError."""
    for each in _real_time_above(group):
        each.perform()


def _real_time_above(group: Group) -> Iterator[Write]:
    """A group's share comes out of that of the group above (sched-rt-group.rst); those between the root and the container have
    none unless somebody gives them some: as much as the backend's settings say. None is taken from who has more."""
    runtime, period = group.layout.get("realtime", (0, 0))
    for directory in group.above("cpu") if runtime else ():
        try:
            now = int(read(f"{directory}/{_RT_RUNTIME}")), int(read(f"{directory}/{_RT_PERIOD}"))
        except FileNotFoundError:
            return  # no such scheduling in this kernel
        if now[0] * period < runtime * now[1]:
            yield Write(directory, _RT_PERIOD, str(period), controller="cpu")
            yield Write(directory, _RT_RUNTIME, str(runtime), controller="cpu")


def _writes(group: Group, resources: Mapping[str, Any]) -> Iterator[Write]:
    return (_v2 if group.layout["pure"] else _v1)(group, resources)


def _v1(group: Group, resources: Mapping[str, Any]) -> Iterator[Write]:
    def line(controller: str, file: str, value: object, *, restorable: bool = True) -> Write:
        return Write(group.controller(controller), file, str(value), restorable, controller)

    memory = resources.get("memory") or {}
    for key, file in (
        ("limit", "memory.limit_in_bytes"),
        ("swap", "memory.memsw.limit_in_bytes"),
        ("reservation", "memory.soft_limit_in_bytes"),
    ):
        if memory.get(key):
            yield line("memory", file, memory[key])
    if memory.get("swappiness") is not None:
        yield line("memory", "memory.swappiness", memory["swappiness"])
    if memory.get("disableOOMKiller"):
        yield line("memory", "memory.oom_control", 1, restorable=False)
    cpu = resources.get("cpu") or {}
    for key, controller, file in (
        ("shares", "cpu", "cpu.shares"),
        ("period", "cpu", "cpu.cfs_period_us"),
        ("quota", "cpu", "cpu.cfs_quota_us"),
        ("cpus", "cpuset", "cpuset.cpus"),
        ("mems", "cpuset", "cpuset.mems"),
    ):
        if cpu.get(key):
            yield line(controller, file, cpu[key])
    if cpu.get("realtimeRuntime"):
        yield from _real_time_above(group)
    for key, file in (("realtimePeriod", _RT_PERIOD), ("realtimeRuntime", _RT_RUNTIME)):
        if cpu.get(key):
            yield line("cpu", file, cpu[key])
    if (resources.get("pids") or {}).get("limit"):
        yield line("pids", "pids.max", _or_max(resources["pids"]["limit"]))
    io = resources.get("blockIO") or {}
    if io.get("weight"):
        bfq = os.path.exists(f"{group.controller('blkio') or ''}/blkio.bfq.weight")
        yield line("blkio", "blkio.bfq.weight" if bfq else "blkio.weight", io["weight"])
    for each in io.get("weightDevice") or ():
        bfq = os.path.exists(f"{group.controller('blkio') or ''}/blkio.bfq.weight_device")
        file = "blkio.bfq.weight_device" if bfq else "blkio.weight_device"
        yield line("blkio", file, f"{each['major']}:{each['minor']} {each['weight']}", restorable=False)
    for key, file in (
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
    ):
        for device in io.get(key) or ():
            value = f"{device['major']}:{device['minor']} {device['rate']}"
            yield line("blkio", file, value, restorable=False)
    for rule in resources.get("devices") or ():
        file = "devices.allow" if rule["allow"] else "devices.deny"
        yield line("devices", file, _device_rule(rule), restorable=False)


def _v2(group: Group, resources: Mapping[str, Any]) -> Iterator[Write]:
    def line(file: str, value: object, *, restorable: bool = True) -> Write:
        return Write(group.v2, file, str(value), restorable)

    memory = resources.get("memory") or {}
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit:
        yield line("memory.max", _or_max(limit))
    if swap:
        # v1 counts memory and swap together, v2 swap alone.
        yield line("memory.swap.max", "max" if swap < 0 else max(0, swap - (limit or 0)))
    if memory.get("reservation"):
        yield line("memory.low", memory["reservation"])
    cpu = resources.get("cpu") or {}
    if cpu.get("shares"):
        # The conversion every runtime uses: shares 2..262144 to weight 1..10000.
        yield line("cpu.weight", 1 + ((cpu["shares"] - 2) * 9999) // 262142)
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota") or -1
        yield line("cpu.max", f"{'max' if quota < 0 else quota} {cpu.get('period') or 100000}")
    for key, file in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        if cpu.get(key):
            yield line(file, cpu[key])
    if (resources.get("pids") or {}).get("limit"):
        yield line("pids.max", _or_max(resources["pids"]["limit"]))
    io = resources.get("blockIO") or {}
    if io.get("weight"):
        bfq = os.path.exists(f"{group.v2}/io.bfq.weight")
        yield line("io.bfq.weight" if bfq else "io.weight", io["weight"], restorable=False)
    for each in io.get("weightDevice") or ():
        bfq = os.path.exists(f"{group.v2}/io.bfq.weight")
        value = f"{each['major']}:{each['minor']} {each['weight']}"
        yield line("io.bfq.weight" if bfq else "io.weight", value, restorable=False)
    for key, word in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for device in io.get(key) or ():
            value = f"{device['major']}:{device['minor']} {word}={device['rate']}"
            yield line("io.max", value, restorable=False)


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _device_rule(rule: Mapping[str, Any]) -> str:
    """An OCI device rule as ``devices.allow`` takes it: ``c 1:3 rwm``."""
    kind = rule.get("type") or "a"
    major, minor = (str(rule[k]) if rule.get(k) is not None and rule[k] >= 0 else "*" for k in ("major", "minor"))
    return f"{kind} {major}:{minor} {rule.get('access') or 'rwm'}" if kind != "a" else "a"
