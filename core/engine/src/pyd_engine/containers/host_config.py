"""HostConfig: the part of a container's configuration that depends on the host, and the records inside it.

Field by field the Docker Engine API 1.56, definitions HostConfig, Resources, Mount, DeviceMapping, RestartPolicy and
LogConfig. Fields for Windows are kept so that inspect shows what clients expect to find.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from pyd_engine.containers.records import Int64, Record, Strings, StringsOrString

__all__ = [
    "BindOptions",
    "DeviceMapping",
    "DeviceRequest",
    "DriverConfig",
    "HostConfig",
    "ImageOptions",
    "LogConfig",
    "MountConfig",
    "PortBinding",
    "RestartPolicy",
    "ThrottleDevice",
    "TmpfsOptions",
    "Ulimit",
    "VolumeOptions",
    "WeightDevice",
]


class LogConfig(Record, frozen=True, kw_only=True, rename="pascal"):
    """Which log driver, and its options. An empty type means the daemon's default."""

    type: str = ""
    config: dict[str, str] | None = None


class RestartPolicy(Record, frozen=True, kw_only=True, rename="pascal"):
    """When to start a container again: no, always, unless-stopped, on-failure."""

    name: str = ""
    maximum_retry_count: Int64 = 0


class PortBinding(Record, frozen=True, kw_only=True, rename="pascal"):
    """A host address and port (a number, a range, or empty: any)."""

    host_ip: str = ""
    host_port: str = ""


class DeviceMapping(Record, frozen=True, kw_only=True, rename="pascal"):
    """A device, or a directory of devices, to give to the container."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Record, frozen=True, kw_only=True, rename="pascal"):
    """A wish for devices that a device driver (nvidia, cdi) fulfils."""

    driver: str = ""
    count: Int64 = 0
    device_ids: Strings | None = field(default=None, name="DeviceIDs")
    capabilities: tuple[tuple[str, ...], ...] | None = None
    options: dict[str, str] | None = None


class WeightDevice(Record, frozen=True, kw_only=True, rename="pascal"):
    """Relative block IO weight of one device."""

    path: str = ""
    weight: Int64 = 0


class ThrottleDevice(Record, frozen=True, kw_only=True, rename="pascal"):
    """A rate for one device, in bytes or operations a second."""

    path: str = ""
    rate: Int64 = 0


class Ulimit(Record, frozen=True, kw_only=True, rename="pascal"):
    """One resource limit (getrlimit(2)); name without ``RLIMIT_``, in lower case."""

    name: str = ""
    hard: Int64 = 0
    soft: Int64 = 0


class DriverConfig(Record, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """The volume driver for a volume that is made with the container."""

    name: str = ""
    options: dict[str, str] | None = None


class BindOptions(Record, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """Options of a mount of type bind."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeOptions(Record, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """Options of a mount of type volume."""

    no_copy: bool = False
    labels: dict[str, str] | None = None
    subpath: str = ""
    driver_config: DriverConfig | None = None


class ImageOptions(Record, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """Options of a mount of type image."""

    subpath: str = ""


class TmpfsOptions(Record, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """Options of a mount of type tmpfs; mode is the permission bits."""

    size_bytes: Int64 = 0
    mode: Int64 = 0
    options: tuple[tuple[str, ...], ...] | None = None


class MountConfig(Record, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """One item of ``HostConfig.Mounts``: bind, volume, tmpfs or image (npipe and cluster exist elsewhere)."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    image_options: ImageOptions | None = None


class HostConfig(Record, frozen=True, kw_only=True, rename="pascal"):
    """Everything about a container that is not portable: mounts, namespaces, resources, security."""

    omitempty: ClassVar[frozenset[str]] = frozenset(
        {"Annotations", "Init", "KernelMemory", "KernelMemoryTCP", "Mounts", "Runtime", "StorageOpt", "Sysctls"}
        | {"Tmpfs"}
    )

    binds: Strings | None = None
    container_id_file: str = field(default="", name="ContainerIDFile")
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: dict[str, tuple[PortBinding, ...] | None] | None = None
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: Strings | None = None
    console_size: tuple[Int64, ...] = (0, 0)
    annotations: dict[str, str] | None = None

    cap_add: StringsOrString | None = None
    cap_drop: StringsOrString | None = None
    cgroupns_mode: str = ""
    dns: Strings | None = None
    dns_options: Strings | None = None
    dns_search: Strings | None = None
    extra_hosts: Strings | None = None
    group_add: Strings | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: Strings | None = None
    oom_score_adj: Int64 = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: Strings | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: Int64 = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""

    cpu_shares: Int64 = 0
    memory: Int64 = 0
    nano_cpus: Int64 = 0
    cgroup_parent: str = ""
    blkio_weight: Int64 = 0
    blkio_weight_device: tuple[WeightDevice, ...] | None = None
    blkio_device_read_bps: tuple[ThrottleDevice, ...] | None = None
    blkio_device_write_bps: tuple[ThrottleDevice, ...] | None = None
    blkio_device_read_iops: tuple[ThrottleDevice, ...] | None = field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: tuple[ThrottleDevice, ...] | None = field(default=None, name="BlkioDeviceWriteIOps")
    cpu_period: Int64 = 0
    cpu_quota: Int64 = 0
    cpu_realtime_period: Int64 = 0
    cpu_realtime_runtime: Int64 = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: tuple[DeviceMapping, ...] | None = None
    device_cgroup_rules: Strings | None = None
    device_requests: tuple[DeviceRequest, ...] | None = None
    kernel_memory: Int64 = 0
    kernel_memory_tcp: Int64 = field(default=0, name="KernelMemoryTCP")
    memory_reservation: Int64 = 0
    memory_swap: Int64 = 0
    memory_swappiness: Int64 | None = None
    oom_kill_disable: bool | None = None
    pids_limit: Int64 | None = None
    ulimits: tuple[Ulimit, ...] | None = None
    cpu_count: Int64 = 0
    cpu_percent: Int64 = 0
    io_maximum_iops: Int64 = field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: Int64 = field(default=0, name="IOMaximumBandwidth")

    mounts: tuple[MountConfig, ...] | None = None
    masked_paths: Strings | None = None
    readonly_paths: Strings | None = None
    init: bool | None = None
