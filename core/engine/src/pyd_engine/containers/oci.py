"""From a container's configuration to an OCI runtime-spec document (version 1.2), and the process objects of execs.

Constraint: pure functions over values. What must be looked up on the host (paths of other containers' namespaces,
device numbers, volumes, the kernel's version) comes in as values, so that every rule here is tested without a host;
users and groups are looked up inside the container by the backend, since only there is its /etc/passwd.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers import capabilities
from pyd_engine.containers.binds import Bind
from pyd_engine.containers.config import ContainerConfig, ExecConfig
from pyd_engine.containers.devices import DEFAULT_NODES, Device
from pyd_engine.containers.host_config import HostConfig
from pyd_engine.containers.merging import command
from pyd_engine.containers.oci_mounts import READONLY, Shared, build_mounts, masked_paths, propagation_of
from pyd_engine.containers.oci_resources import build_resources, build_rlimits
from pyd_engine.containers.remap import Remap
from pyd_engine.containers.seccomp_profile import default_profile, load_profile
from pyd_engine.containers.security_options import SecurityOptions, parse_security_options

__all__ = ["DEFAULT_PATH", "HostView", "Surroundings", "build_environment", "build_exec_process", "build_spec"]

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_INIT = "/sbin/docker-init"


@dataclass(frozen=True, slots=True)
class HostView:
    """The host as specs need it.

    capabilities   those the daemon has: no more can be given
    possible_cpus  numbers in /sys/devices/system/cpu/possible
    kernel         (major, minor)
    machine        as uname(2) says it
    seccomp        the kernel has filters and the daemon's default is to use them
    no_new_privileges  the daemon's default
    apparmor       the default profile's name where AppArmor is on, else empty
    """

    capabilities: Collection[str] = capabilities.ALL
    possible_cpus: Sequence[int] = ()
    kernel: tuple[int, int] = (6, 1)
    machine: str = "x86_64"
    seccomp: bool = True
    no_new_privileges: bool = False
    apparmor: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was made or looked up for one container.

    root         where its root file system is to appear
    hostname     what it is called (the host's name with the host's uts namespace)
    shared       its files and /dev/shm, made outside
    mounts       the user's, with sources resolved to paths
    namespaces   paths of namespaces to join, by OCI type (``network``, ``ipc``, ``pid``, ``uts``), for container: modes
    cgroups_path  below the root of each hierarchy
    devices      the user's, or all of the host's for a privileged one
    block_numbers  (major, minor) of block devices that are limited, by path
    variables    of links: the user's replace them
    remap        the ids of its user namespace; None: the host's
    """

    root: str
    hostname: str
    cgroups_path: str
    shared: Shared = field(default_factory=lambda: Shared(files={}))
    mounts: Sequence[Bind] = ()
    namespaces: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[Device] = ()
    block_numbers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    remap: Remap | None = None
    variables: Sequence[str] = ()


def build_spec(
    config: ContainerConfig, host_config: HostConfig, around: Surroundings, host: HostView | None = None
) -> dict[str, Any]:
    """The document for one container. *config* is merged with its image's, *host_config* has its defaults.

    Raises InvalidArgument for what validation would have refused, and for namespaces to join that are not resolved.
    """
    host = host or HostView()
    security = parse_security_options(host_config.security_opt or ())
    granted = capabilities.granted(
        host_config.cap_add or (),
        host_config.cap_drop or (),
        privileged=host_config.privileged,
        available=host.capabilities,
    )
    spec: dict[str, Any] = {
        "ociVersion": "1.2.0",
        "process": _process(config, host_config, around, host, security, granted),
        "root": {"path": around.root, "readonly": host_config.readonly_rootfs},
        "mounts": build_mounts(
            around.mounts,
            around.shared,
            shm_size=host_config.shm_size,
            ipc_mode=host_config.ipc_mode,
            privileged=host_config.privileged,
            writable_cgroups=security.writable_cgroups,
            remapped=around.remap is not None,
        ),
        "linux": _linux(host_config, around, host, security, granted),
    }
    if host_config.uts_mode != "host":
        spec["hostname"] = around.hostname
        if config.domainname:
            spec["domainname"] = config.domainname
    if host_config.annotations:
        spec["annotations"] = dict(host_config.annotations)
    return spec


def _process(
    config: ContainerConfig,
    host_config: HostConfig,
    around: Surroundings,
    host: HostView,
    security: SecurityOptions,
    granted: tuple[str, ...],
) -> dict[str, Any]:
    args = list(command(config))
    if not args:
        raise InvalidArgument("no command specified")
    if around.shared.init is not None:
        args = [_INIT, "--", *args]
    process: dict[str, Any] = {
        "terminal": config.tty,
        "user": _user(config.user, host_config.group_add or ()),
        "args": args,
        "env": build_environment(config, around.hostname, links=around.variables),
        "cwd": config.working_dir or "/",
        "capabilities": _capability_sets(granted),
        "noNewPrivileges": _no_new_privileges(security, host),
        "oomScoreAdj": host_config.oom_score_adj,
    }
    if host_config.ulimits:
        process["rlimits"] = build_rlimits(host_config.ulimits)
    if config.tty and any(host_config.console_size):
        process["consoleSize"] = {"height": host_config.console_size[0], "width": host_config.console_size[1]}
    apparmor = security.apparmor or ("" if host_config.privileged else host.apparmor)
    if apparmor and apparmor != "unconfined":
        process["apparmorProfile"] = apparmor
    return process


def _no_new_privileges(security: SecurityOptions, host: HostView) -> bool:
    return host.no_new_privileges if security.no_new_privileges is None else security.no_new_privileges


def _user(user: str, groups: Sequence[str]) -> dict[str, Any]:
    """``user.username`` holds Docker's ``name|uid[:group|gid]``; the backend resolves it and overwrites the numbers."""
    found: dict[str, Any] = {"uid": 0, "gid": 0, "username": user}
    numeric = [int(group) for group in groups if group.isascii() and group.isdigit()]
    named = [group for group in groups if not (group.isascii() and group.isdigit())]
    if any(number > 2**31 - 1 for number in numeric):
        raise InvalidArgument("uids and gids must be in range 0-2147483647: GroupAdd")
    if numeric:
        found["additionalGids"] = numeric
    if named:
        found["additionalGroups"] = named
    return found


def _capability_sets(granted: Sequence[str]) -> dict[str, list[str]]:
    """Inheritable and ambient stay empty, or programs of other users would gain by execve(2) (CVE-2022-24769)."""
    return {name: list(granted) for name in ("bounding", "effective", "permitted")} | {"inheritable": [], "ambient": []}


def build_environment(
    config: ContainerConfig, hostname: str, extra: Sequence[str] = (), *, links: Sequence[str] = ()
) -> list[str]:
    """Docker's defaults and those of *links* with the container's variables over them, then *extra* (of an exec) over all.

    ``NAME`` without ``=`` takes a default away. HOME is added by the backend from /etc/passwd when it is missing.
    """
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": f"HOSTNAME={hostname}"}
    if config.tty:
        env["TERM"] = "TERM=xterm"
    for item in (*links, *(config.env or ()), *extra):
        name, equals, _ = item.partition("=")
        if equals:
            env[name] = item
        else:
            env.pop(name, None)
    return list(env.values())


def _linux(
    host_config: HostConfig,
    around: Surroundings,
    host: HostView,
    security: SecurityOptions,
    granted: tuple[str, ...],
) -> dict[str, Any]:
    namespaces = _namespaces(host_config, around.namespaces)
    if around.remap is not None:
        joined = {"path": around.namespaces["user"]} if "user" in around.namespaces else {}
        namespaces.append({"type": "user", **joined})
    privileged = host_config.privileged
    open_paths = privileged or security.system_paths_unconfined
    masked = masked_paths(host.possible_cpus) if host_config.masked_paths is None else host_config.masked_paths
    readonly = READONLY if host_config.readonly_paths is None else host_config.readonly_paths
    nodes = {device.path: device for device in (*DEFAULT_NODES, *around.devices)}
    linux: dict[str, Any] = {
        "namespaces": namespaces,
        "cgroupsPath": around.cgroups_path,
        "resources": build_resources(host_config, around.devices, around.block_numbers),
        "devices": [device.node() for device in nodes.values()],
        "maskedPaths": [] if open_paths else list(masked),
        "readonlyPaths": [] if open_paths else list(readonly),
        "rootfsPropagation": propagation_of(around.mounts),
    }
    if around.remap is not None:
        linux |= around.remap.mappings()
    sysctls = _sysctls(host_config, namespaces, around.remap)
    if sysctls:
        linux["sysctl"] = sysctls
    profile = _seccomp(security, privileged, host, granted)
    if profile is not None:
        linux["seccomp"] = profile
    return linux


def _namespaces(host_config: HostConfig, joined: Mapping[str, str]) -> list[dict[str, str]]:
    """New ones, joined ones (with a path), and none where the mode is the host's."""
    found: list[dict[str, str]] = [{"type": "mount"}]
    for kind, mode in (
        ("network", host_config.network_mode),
        ("uts", host_config.uts_mode),
        ("pid", host_config.pid_mode),
        ("ipc", host_config.ipc_mode),
        ("cgroup", host_config.cgroupns_mode or "host"),
    ):
        if kind in joined:
            found.append({"type": kind, "path": joined[kind]})
        elif mode.startswith("container:"):
            raise InvalidArgument(f"{kind} namespace of {mode}: not resolved to a path")
        elif mode != "host":
            found.append({"type": kind})
    return found


def _sysctls(host_config: HostConfig, namespaces: Sequence[Mapping[str, str]], remap: Remap | None) -> dict[str, str]:
    """The user's, and for a network namespace of its own: low ports and ping for everybody, as nobody else is there."""
    last = 2**31 - 1 if remap is None else sum(count for _, _, count in remap.groups) - 1  # ids that there are
    given = dict(host_config.sysctls or {})
    if {"type": "network"} in namespaces:
        given.setdefault("net.ipv4.ip_unprivileged_port_start", "0")
        given.setdefault("net.ipv4.ping_group_range", f"0 {last}")
    return given


def _seccomp(
    security: SecurityOptions, privileged: bool, host: HostView, granted: tuple[str, ...]
) -> dict[str, Any] | None:
    """A profile that was asked for holds for privileged containers too; the default one does not."""
    if security.seccomp == "unconfined" or not host.seccomp:
        return None
    if isinstance(security.seccomp, Mapping):
        return load_profile(security.seccomp, granted, kernel=host.kernel, machine=host.machine)
    return None if privileged else default_profile(granted, kernel=host.kernel, machine=host.machine)


def build_exec_process(
    execution: ExecConfig,
    config: ContainerConfig,
    host_config: HostConfig,
    hostname: str,
    spec: Mapping[str, Any],
    host: HostView | None = None,
    variables: Sequence[str] = (),
) -> dict[str, Any]:
    """The OCI process object of an exec in a container whose document is *spec*.

    It has the container's variables, limits and filter; a privileged exec gets all capabilities the daemon has.
    The filter rides along as ``seccomp``, which a process object of the specification does not have: backends that
    share the container's filter otherwise may ignore it.
    """
    host = host or HostView()
    container = spec["process"]
    privileged = execution.privileged
    tty_config = ContainerConfig(env=config.env, tty=execution.tty)
    process: dict[str, Any] = {
        "terminal": execution.tty,
        "user": _user(execution.user or config.user, host_config.group_add or ()),
        "args": list(execution.cmd or ()),
        "env": build_environment(tty_config, hostname, execution.env or (), links=variables),
        "cwd": execution.working_dir or config.working_dir or "/",
        "capabilities": _capability_sets(
            capabilities.granted((), (), privileged=True, available=host.capabilities)
            if privileged
            else container["capabilities"]["bounding"]
        ),
        "noNewPrivileges": container["noNewPrivileges"],
        "oomScoreAdj": container["oomScoreAdj"],
    }
    for key in ("rlimits", "apparmorProfile"):
        if key in container:
            process[key] = container[key]
    if spec["linux"].get("seccomp") and not privileged:
        process["seccomp"] = spec["linux"]["seccomp"]
    if execution.tty and execution.console_size and any(execution.console_size):
        process["consoleSize"] = {"height": execution.console_size[0], "width": execution.console_size[1]}
    return process
