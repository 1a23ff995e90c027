"""Limits of memory, processors, block devices and processes: whether the numbers of a request make sense on this host.

Texts and thresholds are dockerd's; so is the habit to warn where a kernel lacks a controller and to refuse nonsense.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.host_config import HostConfig, ThrottleDevice, Ulimit

__all__ = ["ULIMITS", "HostLimits", "check_resources", "clamped", "parse_set"]

MEMORY_LEAST = 6 << 20
"""Below this a process cannot even be started (moby's linuxMinMemory)."""

_SHARES = (2, 262144)
"""What the scheduler takes (MIN_SHARES and MAX_SHARES of the kernel)."""

ULIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)
"""Names that getrlimit(2) knows, without ``RLIMIT_``."""


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What can be limited here.

    cpus, memory_nodes  those online; empty: not known, not checked
    lacking  controllers' features this kernel has not: swap, swappiness, oom-kill-disable, blkio-weight,
             blkio-throttle, pids, cpuset, cpu-shares, cpu-quota, cpu-realtime, memory
    hard  how far a limit of processes can be raised, by its name in `ULIMITS`; what is not there: as far as one likes
    least_oom_score_adj  below this ``oom_score_adj`` of a process cannot be set
    """

    cpus: frozenset[int] = frozenset()
    memory_nodes: frozenset[int] = frozenset()
    lacking: frozenset[str] = field(default_factory=frozenset)
    hard: Mapping[str, int] = field(default_factory=dict)
    least_oom_score_adj: int = -1000


def check_resources(config: HostConfig, host: HostLimits) -> list[str]:
    """Warnings for limits that this kernel discards; raises InvalidArgument for those that make no sense."""
    warnings = [*_check_memory(config, host), *_check_cpu(config, host), *_check_blkio(config, host)]
    if config.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if not -1000 <= config.oom_score_adj <= 1000:
        raise InvalidArgument(f"invalid value {config.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if (config.pids_limit or 0) > 0 and "pids" in host.lacking:
        warnings.append(
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
        )
    for ulimit in config.ulimits or ():
        _check_ulimit(ulimit)
    for rule in config.device_cgroup_rules or ():
        if not re.fullmatch(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})", rule):
            raise InvalidArgument(f"invalid device cgroup rule format: '{rule}'")
    for device in config.devices or ():
        if not re.fullmatch(r"(?!.*(.).*\1)[rwm]{0,3}", device.cgroup_permissions):
            raise InvalidArgument(f"invalid device mode: {device.cgroup_permissions}")
        if not device.path_on_host.startswith("/"):
            raise InvalidArgument(
                f"error gathering device information: {device.path_on_host!r} is not an absolute path"
            )
    return warnings


def clamped(config: HostConfig, host: HostLimits) -> list[str]:
    """Warnings for limits that make sense and that this host grants in part only, as a daemon without CAP_SYS_RESOURCE is."""
    warnings = []
    for ulimit in config.ulimits or ():
        most = host.hard.get(ulimit.name)
        if most is not None and not (0 <= ulimit.soft <= most and 0 <= ulimit.hard <= most):
            warnings.append(
                f"ulimit {ulimit.name}={ulimit.soft}:{ulimit.hard} is above this host's hard limit; {most} is used"
            )
    if config.oom_score_adj < host.least_oom_score_adj:
        warnings.append(
            f"OOM score adjustment {config.oom_score_adj} is less than this daemon may give; {host.least_oom_score_adj} is used"
        )
    least, most = _SHARES
    if config.cpu_shares and not least <= config.cpu_shares <= most and "cpu-shares" not in host.lacking:
        used = least if config.cpu_shares < least else most
        warnings.append(f"CPU shares {config.cpu_shares} are not from {least} to {most}; {used} is used")
    return warnings


def _check_memory(config: HostConfig, host: HostLimits) -> list[str]:
    warnings = []
    memory, swap, reservation = config.memory, config.memory_swap, config.memory_reservation
    if memory and memory < MEMORY_LEAST:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if memory > 0 and swap > 0 and swap < memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if config.memory_swappiness is not None and not -1 <= config.memory_swappiness <= 100:
        raise InvalidArgument(f"Invalid value: {config.memory_swappiness}, valid memory swappiness range is 0-100")
    if reservation and reservation < MEMORY_LEAST:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if 0 < memory < reservation:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")
    if memory > 0 and "memory" in host.lacking:
        warnings.append(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
        )
    elif memory > 0 and swap != -1 and "swap" in host.lacking:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
    if config.memory_swappiness not in (None, -1) and "swappiness" in host.lacking:
        warnings.append(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
            "Memory swappiness discarded."
        )
    if config.oom_kill_disable:
        if "oom-kill-disable" in host.lacking:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        elif not memory:
            warnings.append(
                "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
                "running out of resources."
            )
    return warnings


def _check_cpu(config: HostConfig, host: HostLimits) -> list[str]:
    warnings = []
    if config.nano_cpus:
        if config.cpu_period:
            raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
        if config.cpu_quota:
            raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
        if config.nano_cpus < 0 or (host.cpus and config.nano_cpus > len(host.cpus) * 10**9):
            raise InvalidArgument(
                f"Range of CPUs is from 0.01 to {len(host.cpus):.2f}, as there are only {len(host.cpus)} CPUs available"
            )
        if config.nano_cpus < 10_000_000:
            raise InvalidArgument(f"Range of CPUs starts at 0.01, {config.nano_cpus / 10**9:g} is less")
    if config.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({config.cpu_shares}): value must be a positive integer")
    if config.cpu_period and not 1000 <= config.cpu_period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < config.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    _check_realtime(config, host)
    for given, feature, text in (
        (config.cpu_shares, "cpu-shares", "CPU shares"),
        (config.nano_cpus or config.cpu_period or config.cpu_quota, "cpu-quota", "CPU CFS scheduler"),
        (config.cpuset_cpus or config.cpuset_mems, "cpuset", "cpuset"),
    ):
        if given and feature in host.lacking:
            warnings.append(f"Your kernel does not support {text} or the cgroup is not mounted. {text} discarded.")
    for text, what, things, available in (
        (config.cpuset_cpus, "cpuset cpus", "CPUs", host.cpus),
        (config.cpuset_mems, "cpuset mems", "memory nodes", host.memory_nodes),
    ):
        wanted = parse_set(text, what)
        if available and not wanted <= available:
            raise InvalidArgument(
                f"Requested {things} are not available - requested {text}, available: {_list_format(available)}"
            )
    return warnings


def _check_realtime(config: HostConfig, host: HostLimits) -> None:
    """Refused where it cannot be: without a share of its own a group runs no real-time process at all, or takes everybody's."""
    runtime, period = config.cpu_realtime_runtime, config.cpu_realtime_period
    if not (runtime or period):
        return
    if "cpu-realtime" in host.lacking:
        raise InvalidArgument("kernel does not support CPU real-time scheduler")
    if runtime and period and runtime > period:
        raise InvalidArgument("cpu real-time runtime cannot be higher than cpu real-time period")
    if runtime < 0 or period < 0:
        raise InvalidArgument("cpu real-time runtime and period cannot be negative")


def _list_format(numbers: frozenset[int]) -> str:
    """cpuset(7) "List format": ``0-3,7``."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)


def parse_set(text: str, what: str) -> frozenset[int]:
    """Numbers of a list as cpuset(7) "List format" writes it: ``0-3,7``. Raises InvalidArgument."""
    numbers: set[int] = set()
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InvalidArgument(f"Invalid value {text} for {what}: invalid format: {part or text}")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(numbers)


def _check_blkio(config: HostConfig, host: HostLimits) -> list[str]:
    warnings = []
    if config.blkio_weight and not 10 <= config.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    for each in config.blkio_weight_device or ():
        if not each.path.startswith("/dev/") or not 10 <= each.weight <= 1000:
            raise InvalidArgument(f"invalid block IO weight {each.weight} of {each.path}: 10 to 1000, path below /dev")
    if (config.blkio_weight or config.blkio_weight_device) and "blkio-weight" in host.lacking:
        warnings.append("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
    throttled: tuple[ThrottleDevice, ...] = (
        *(config.blkio_device_read_bps or ()),
        *(config.blkio_device_write_bps or ()),
        *(config.blkio_device_read_iops or ()),
        *(config.blkio_device_write_iops or ()),
    )
    for throttle in throttled:
        if not throttle.path.startswith("/dev/") or throttle.rate < 0:
            raise InvalidArgument(
                f"invalid block IO rate {throttle.rate} of {throttle.path}: path below /dev, rate >= 0"
            )
    if throttled and "blkio-throttle" in host.lacking:
        warnings.append("Your kernel does not support Block I/O limits or the cgroup is not mounted. Limits discarded.")
    return warnings


def _check_ulimit(ulimit: Ulimit) -> None:
    if ulimit.name not in ULIMITS:
        raise InvalidArgument(f"invalid ulimit type: {ulimit.name}")
    if ulimit.hard != -1 and (ulimit.soft > ulimit.hard or ulimit.soft == -1):
        raise InvalidArgument(
            f"ulimit soft limit must be less than or equal to hard limit: {ulimit.soft} > {ulimit.hard}"
        )
