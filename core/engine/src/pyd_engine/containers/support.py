"""Which fields of a request the engine honours: the table behind every warning and refusal.

Constraint: nothing a client asks for is ignored in silence. Each field of `HostConfig` and `ContainerConfig` is in
exactly one of the three tables (a test holds the tables to the records). To widen what the engine does, move a line.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.config import ContainerConfig, CreateRequest
from pyd_engine.containers.host_config import HostConfig
from pyd_engine.containers.records import Record

__all__ = ["REFUSED", "SUPPORTED", "WARNED", "check_support"]

SUPPORTED: dict[type[Record], frozenset[str]] = {
    ContainerConfig: frozenset(
        "hostname domainname user attach_stdin attach_stdout attach_stderr exposed_ports tty open_stdin stdin_once "
        "env cmd image volumes working_dir entrypoint network_disabled mac_address on_build labels stop_signal "
        "stop_timeout shell healthcheck ".split()
    ),
    HostConfig: frozenset(
        "binds container_id_file log_config network_mode restart_policy auto_remove "
        "console_size annotations cap_add cap_drop cgroupns_mode dns dns_options dns_search "
        "extra_hosts group_add ipc_mode oom_score_adj pid_mode privileged readonly_rootfs "
        "security_opt storage_opt tmpfs uts_mode userns_mode shm_size sysctls runtime isolation cpu_shares memory "
        "nano_cpus cgroup_parent blkio_weight blkio_weight_device blkio_device_read_bps blkio_device_write_bps "
        "blkio_device_read_iops blkio_device_write_iops cpu_period cpu_quota cpuset_cpus cpuset_mems devices "
        "device_cgroup_rules memory_reservation memory_swap memory_swappiness oom_kill_disable pids_limit ulimits "
        "mounts masked_paths readonly_paths init volume_driver volumes_from port_bindings publish_all_ports "
        "links device_requests cpu_realtime_period cpu_realtime_runtime".split()
    ),
}
"""Honoured, or checked by `validation` value by value."""

WARNED: dict[type[Record], dict[str, str]] = {
    ContainerConfig: {
        "args_escaped": "ArgsEscaped is for Windows images; discarded.",
    },
    HostConfig: {
        "cgroup": "Cgroup is a relic of links between containers; discarded.",
        "kernel_memory": "Kernel memory limits are deprecated and have no effect in newer kernels; discarded.",
        "kernel_memory_tcp": "Kernel memory TCP limits are deprecated and have no effect; discarded.",
        "cpu_count": "CpuCount is for Windows; discarded.",
        "cpu_percent": "CpuPercent is for Windows; discarded.",
        "io_maximum_iops": "IOMaximumIOps is for Windows; discarded.",
        "io_maximum_bandwidth": "IOMaximumBandwidth is for Windows; discarded.",
    },
}
"""Harmless without: the container is made, the client is told."""

REFUSED: dict[type[Record], dict[str, str]] = {
    ContainerConfig: {},
    HostConfig: {},
}
"""The container would not be what was asked for: refused, with the reason."""


def check_support(request: CreateRequest) -> list[str]:
    """Warnings for what is discarded; raises InvalidArgument for the first field that cannot be honoured."""
    warnings: list[str] = []
    for record in (request.config, request.host_config):
        refused, warned = REFUSED[type(record)], WARNED[type(record)]
        for name in _given(record, (*refused, *warned)):
            if name in refused:
                raise InvalidArgument(refused[name])
            warnings.append(warned[name])
    return warnings


def _given(record: Record, names: Iterable[str]) -> list[str]:
    """Those fields that say something: neither their default nor empty."""
    defaults = {each.name: each.default for each in msgspec.structs.fields(record)}
    given = {name: getattr(record, name) for name in names}
    return [name for name, value in given.items() if value and value != defaults[name]]
