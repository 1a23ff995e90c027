"""``linux.resources`` and ``process.rlimits`` of an OCI runtime-spec document, from HostConfig.

Constraint: the neutral form of the specification (config-linux.md "Control groups"): backends translate to cgroup v1
or v2. A limit that was not given is not in the document, so that no controller is needed for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyd_engine.containers.devices import DEFAULT_RULES, Device, parse_rule
from pyd_engine.containers.host_config import HostConfig, ThrottleDevice, Ulimit

__all__ = ["build_resources", "build_rlimits"]

_UNLIMITED = 2**64 - 1
"""RLIM_INFINITY in a runtime-spec document (uint64)."""


def build_resources(
    config: HostConfig, devices: Sequence[Device], numbers: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """*devices* are the user's (the host's, when privileged); *numbers* are of limited block devices, by path."""
    parts = {
        "devices": _device_rules(config, devices),
        "memory": _memory(config),
        "cpu": _cpu(config),
        "pids": _pids(config),
        "blockIO": _block_io(config, numbers),
    }
    return {key: part for key, part in parts.items() if part}


def _device_rules(config: HostConfig, devices: Sequence[Device]) -> list[dict[str, Any]]:
    if config.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules = [dict(rule) for rule in DEFAULT_RULES]
    rules += [device.rule() for device in devices]
    return rules + [parse_rule(text) for text in config.device_cgroup_rules or ()]


def _memory(config: HostConfig) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if config.memory > 0:
        memory["limit"] = config.memory
    if config.memory_reservation > 0:
        memory["reservation"] = config.memory_reservation
    if config.memory_swap:
        memory["swap"] = config.memory_swap
    if config.memory_swappiness is not None and config.memory_swappiness >= 0:
        memory["swappiness"] = config.memory_swappiness
    if config.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(config: HostConfig) -> dict[str, Any]:
    cpu: dict[str, Any] = {}
    if config.cpu_shares:
        cpu["shares"] = config.cpu_shares
    if config.nano_cpus > 0:
        cpu["period"] = 100_000
        cpu["quota"] = config.nano_cpus * 100_000 // 10**9
    if config.cpu_period:
        cpu["period"] = config.cpu_period
    if config.cpu_quota:
        cpu["quota"] = config.cpu_quota
    if config.cpu_realtime_period:
        cpu["realtimePeriod"] = config.cpu_realtime_period
    if config.cpu_realtime_runtime:
        cpu["realtimeRuntime"] = config.cpu_realtime_runtime
    if config.cpuset_cpus:
        cpu["cpus"] = config.cpuset_cpus
    if config.cpuset_mems:
        cpu["mems"] = config.cpuset_mems
    return cpu


def _pids(config: HostConfig) -> dict[str, Any]:
    """0 and -1 mean unlimited, as does saying nothing; only a limit is written."""
    return {"limit": config.pids_limit} if config.pids_limit is not None and config.pids_limit > 0 else {}


def _block_io(config: HostConfig, numbers: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    def throttles(items: tuple[ThrottleDevice, ...] | None) -> list[dict[str, Any]]:
        return [{**_numbered(numbers, item.path), "rate": item.rate} for item in items or ()]

    parts = {
        "weight": config.blkio_weight,
        "weightDevice": [
            {**_numbered(numbers, each.path), "weight": each.weight} for each in config.blkio_weight_device or ()
        ],
        "throttleReadBpsDevice": throttles(config.blkio_device_read_bps),
        "throttleWriteBpsDevice": throttles(config.blkio_device_write_bps),
        "throttleReadIOPSDevice": throttles(config.blkio_device_read_iops),
        "throttleWriteIOPSDevice": throttles(config.blkio_device_write_iops),
    }
    return {key: part for key, part in parts.items() if part}


def _numbered(numbers: Mapping[str, tuple[int, int]], path: str) -> dict[str, int]:
    major, minor = numbers[path]
    return {"major": major, "minor": minor}


def build_rlimits(ulimits: Sequence[Ulimit]) -> list[dict[str, Any]]:
    """-1 means no limit; the last of a name wins, as it would when they are set one after the other."""
    latest = {ulimit.name: ulimit for ulimit in ulimits}
    return [
        {
            "type": f"RLIMIT_{name.upper()}",
            "hard": _UNLIMITED if ulimit.hard < 0 else ulimit.hard,
            "soft": _UNLIMITED if ulimit.soft < 0 else ulimit.soft,
        }
        for name, ulimit in latest.items()
    ]
