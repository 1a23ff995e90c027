"""``docker update``: limits and restart policy of a container that exists, running or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pyd_contracts.errors import Conflict, InvalidArgument
from pyd_engine.containers.container import Container, Phase
from pyd_engine.containers.decoding import fit, parse
from pyd_engine.containers.host_config import HostConfig, RestartPolicy
from pyd_engine.containers.lifecycle import Lifecycle
from pyd_engine.containers.limits import HostLimits, check_resources
from pyd_engine.containers.oci_resources import build_resources
from pyd_engine.containers.validation import check_restart

__all__ = ["Updates", "changed"]

_FIELDS = (
    "cpu_shares memory blkio_weight cpu_period cpu_quota cpu_realtime_period cpu_realtime_runtime cpuset_cpus cpuset_mems "
    "memory_reservation memory_swap nano_cpus pids_limit"
).split()
_REFUSED = {
    "blkio_weight_device": "BlkioWeightDevice",
    "devices": "Devices",
    "device_cgroup_rules": "DeviceCgroupRules",
    "device_requests": "DeviceRequests",
    "ulimits": "Ulimits",
    "cgroup_parent": "CgroupParent",
}
_UNCHANGED = RestartPolicy()


class Updates:
    """Performs updates. *limits* says what this host can limit; *publish* tells of one."""

    def __init__(self, life: Lifecycle, limits: HostLimits, publish: Callable[[str, Container], None]) -> None:
        self._life = life
        self._limits = limits
        self._publish = publish

    async def update(self, ref: str, body: bytes) -> list[str]:
        """Change what *body* (a HostConfig of resources and a RestartPolicy) names; warnings. All or nothing."""
        asked = fit(parse(body), HostConfig)
        container = self._life.store.get(ref)
        async with self._life.lock(container.id):
            container = self._life.store.get(container.id)
            config = changed(container, asked)
            warnings = check_resources(config, self._limits)
            if container.state.phase.alive:
                warnings += await asyncio.to_thread(self._apply, container, config)
            container = self._life.store.change(container.id, lambda c: msgspec.structs.replace(c, host_config=config))
        self._publish("update", container)
        return warnings

    def _apply(self, container: Container, config: HostConfig) -> list[str]:
        resources: Mapping[str, Any] = build_resources(config, (), _none_numbered(config))
        wanted = {key: value for key, value in resources.items() if key in ("memory", "cpu", "pids", "blockIO")}
        wanted.get("memory", {}).pop("disableOOMKiller", None)
        wanted["blockIO"] = {"weight": config.blkio_weight} if config.blkio_weight else {}
        if config.pids_limit is not None and config.pids_limit <= 0:
            wanted["pids"] = {"limit": -1}
        isolation = self._life.runner.isolation(container)
        return list(isolation.isolation_update(container=container.id, resources=wanted))


def _none_numbered(config: HostConfig) -> dict[str, tuple[int, int]]:
    """Devices do not change; their numbers are not looked up."""
    groups = (
        config.blkio_weight_device, config.blkio_device_read_bps, config.blkio_device_write_bps,
        config.blkio_device_read_iops, config.blkio_device_write_iops,
    )  # fmt: skip
    return {each.path: (0, 0) for group in groups for each in group or ()}


def changed(container: Container, asked: HostConfig) -> HostConfig:
    """A container's host config with what is *asked*: fields that say nothing stay. Raises InvalidArgument and Conflict in
    dockerd's words."""
    if container.state.phase in (Phase.REMOVING, Phase.DEAD):
        raise Conflict(
            f'Cannot update container {container.id}: Container is marked for removal and cannot be "update".'
        )
    for name, encoded in _REFUSED.items():
        if getattr(asked, name):
            raise InvalidArgument(f"Cannot update container {container.id}: {encoded} cannot be updated")
    config = container.host_config
    given = {name: getattr(asked, name) for name in _FIELDS if getattr(asked, name)}
    if asked.pids_limit is not None:
        given["pids_limit"] = asked.pids_limit if asked.pids_limit > 0 else None if asked.pids_limit == 0 else -1
    _check_processors(container, given)
    _check_memory(container, given)
    if asked.restart_policy != _UNCHANGED and asked.restart_policy.name:
        check_restart(asked)
        if config.auto_remove:
            why = "Restart policy cannot be updated because AutoRemove is enabled for the container"
            raise InvalidArgument(f"Cannot update container {container.id}: {why}")
        given["restart_policy"] = asked.restart_policy
    return msgspec.structs.replace(config, **given)


def _check_processors(container: Container, given: Mapping[str, Any]) -> None:
    config, prefix = container.host_config, f"Cannot update container {container.id}: "
    for new, old, words in (
        ("nano_cpus", "cpu_period", "Nano CPUs cannot be updated as CPU Period has already been set"),
        ("nano_cpus", "cpu_quota", "Nano CPUs cannot be updated as CPU Quota has already been set"),
        ("cpu_quota", "nano_cpus", "CPU Quota cannot be updated as NanoCPUs has already been set"),
        ("cpu_period", "nano_cpus", "CPU Period cannot be updated as NanoCPUs has already been set"),
    ):
        if given.get(new) and given.get(old):
            raise InvalidArgument(f"{prefix}Conflicting options: Nano CPUs and CPU limits cannot both be set.")
        if given.get(new) and getattr(config, old):
            raise InvalidArgument(f"{prefix}Conflicting options: {words}")


def _check_memory(container: Container, given: dict[str, Any]) -> None:
    config, memory = container.host_config, given.get("memory")
    if memory and not given.get("memory_swap") and 0 < config.memory_swap < memory:
        words = (
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
        raise InvalidArgument(f"Cannot update container {container.id}: {words}")
