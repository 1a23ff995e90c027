"""What a request gets when it says nothing: the daemon's defaults, filled in once, at creation.

Constraint: inspect shows the filled-in values, as dockerd's does, and a later change of the daemon's configuration
does not change containers that exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pyd_engine.containers.host_config import HostConfig, LogConfig, RestartPolicy
from pyd_engine.containers.oci_mounts import READONLY, masked_paths
from pyd_engine.containers.security_options import parse_security_options

__all__ = ["Defaults", "with_defaults"]


@dataclass(frozen=True, slots=True)
class Defaults:
    """Values from the daemon's configuration and of the host.

    network   the default network's name
    shm_size  bytes
    log_options  of containers that have the driver *log_type*, each where they do not say otherwise
    """

    network: str = "bridge"
    shm_size: int = 64 << 20
    ipc_mode: str = "private"
    cgroupns_mode: str = "private"
    log_type: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)
    runtime: str = "runc"
    possible_cpus: tuple[int, ...] = ()


def with_defaults(config: HostConfig, defaults: Defaults | None = None) -> HostConfig:
    """*config* with every empty field that has a default filled in.

    A memory limit without one for swap gets as much swap again. MemorySwappiness -1 and PidsLimit below 1 mean what
    saying
    nothing means.
    """
    defaults = defaults or Defaults()
    security = parse_security_options(config.security_opt or ())
    hidden = not config.privileged and not security.system_paths_unconfined
    changes: dict[str, Any] = {
        "network_mode": config.network_mode if config.network_mode not in ("", "default") else defaults.network,
        "shm_size": config.shm_size or defaults.shm_size,
        "ipc_mode": config.ipc_mode or defaults.ipc_mode,
        "cgroupns_mode": config.cgroupns_mode or defaults.cgroupns_mode,
        "runtime": config.runtime or defaults.runtime,
        "log_config": _log_config(config.log_config, defaults),
        "restart_policy": RestartPolicy(
            name=config.restart_policy.name or "no", maximum_retry_count=config.restart_policy.maximum_retry_count
        ),
        "port_bindings": config.port_bindings or {},
        "console_size": config.console_size or (0, 0),
    }
    if config.memory > 0 and config.memory_swap == 0:
        changes["memory_swap"] = config.memory * 2
    if config.memory_swappiness == -1:
        changes["memory_swappiness"] = None
    if config.pids_limit is not None and config.pids_limit <= 0:
        changes["pids_limit"] = None
    if config.cpu_shares == 1:
        changes["cpu_shares"] = 2  # the kernel's least
    elif config.cpu_shares > 262144:
        changes["cpu_shares"] = 262144  # and its most (kernel/sched/core.c)
    if config.masked_paths is None:
        changes["masked_paths"] = tuple(masked_paths(defaults.possible_cpus)) if hidden else None
    if config.readonly_paths is None:
        changes["readonly_paths"] = READONLY if hidden else None
    return msgspec.structs.replace(config, **changes)


def _log_config(config: LogConfig, defaults: Defaults) -> LogConfig:
    name, options = config.type or defaults.log_type, config.config or {}
    return LogConfig(type=name, config={**defaults.log_options, **options} if name == defaults.log_type else options)
