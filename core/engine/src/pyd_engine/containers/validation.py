"""Whether a request can work: every check dockerd makes before it creates a container, with its messages.

Constraint: clients and test suites match on Docker's texts, so they are kept where they are known (dockerd 20.10 run
with each faulty request; newer texts from the API's description). What the host knows comes in as `HostFacts`, so that
the checks need no host. Rows of limits are in `limits`, mounts in `binds`, the table of fields in `support`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyd_contracts.errors import InvalidArgument, PermissionDenied
from pyd_engine.containers import capabilities
from pyd_engine.containers.binds import Bind, anonymous_volumes, check_tmpfs, from_mount, parse_bind, parse_volumes_from
from pyd_engine.containers.config import ContainerConfig, CreateRequest, EndpointSettings, ExecConfig, HealthConfig
from pyd_engine.containers.host_config import HostConfig
from pyd_engine.containers.limits import HostLimits, check_resources, clamped
from pyd_engine.containers.seccomp_profile import load_profile
from pyd_engine.containers.security_options import parse_security_options
from pyd_engine.containers.signals import parse_signal
from pyd_engine.containers.support import check_support

__all__ = ["HostFacts", "check_alone", "check_exec", "check_name", "check_restart", "mounts_of", "validate"]

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_LABEL = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?")
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_SYSCTL = re.compile(r"(net|fs\.mqueue)(\.[A-Za-z0-9_-]+)+|kernel\.(shm[a-z_]+|msg[a-z_]+|sem)")
_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a host can do.

    exists    whether a path is there: asked for sources of bind mounts
    capabilities  those the daemon has
    runtimes  names that ``HostConfig.Runtime`` may have; the empty name is always allowed
    init      an init program for ``--init`` is installed
    remapped  containers get a user namespace unless they opt out
    """

    exists: Callable[[str], bool] = os.path.exists
    capabilities: tuple[str, ...] = capabilities.ALL
    runtimes: frozenset[str] = frozenset({"runc"})
    init: bool = True
    remapped: bool = False
    limits: HostLimits = field(default_factory=HostLimits)


def check_name(name: str) -> str:
    """A container's name without its slash. Raises InvalidArgument in Docker's words."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name.removeprefix("/")


def validate(request: CreateRequest, host: HostFacts | None = None) -> list[str]:
    """Check a request before it is merged with its image.

    Returns warnings for the client: what is discarded or dangerous. Raises InvalidArgument for the first fault.
    """
    host = host or HostFacts()
    warnings = check_support(request)
    _check_config(request.config)
    _check_modes(request.config, request.host_config)
    if host.remapped and request.host_config.userns_mode != "host":
        _check_remapped(request.host_config)
    _check_host_config(request.host_config, host)
    mounts_of(request.host_config, host)
    _check_networking(request)
    if request.host_config.network_mode == "host" and request.host_config.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    warnings += check_resources(request.host_config, host.limits)
    return warnings + clamped(request.host_config, host.limits)


def _check_config(config: ContainerConfig) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    _check_env(config.env or ())
    _no_nul(
        Cmd=config.cmd,
        Entrypoint=config.entrypoint,
        User=(config.user,),
        WorkingDir=(config.working_dir,),
        Env=config.env,
    )
    if config.hostname:
        labels = config.hostname.removesuffix(".").split(".")
        # the kernel takes 64 bytes (__NEW_UTS_LEN); 63 is what RFC 1123 gives a label
        if len(config.hostname) > 64 or not all(_LABEL.fullmatch(label) for label in labels):
            raise InvalidArgument(f"invalid hostname format: {config.hostname}")
    if config.domainname and (
        len(config.domainname) > 64 or not all(_LABEL.fullmatch(each) for each in config.domainname.split("."))
    ):
        raise InvalidArgument(f"invalid domainname format: {config.domainname}")
    if config.stop_signal:
        parse_signal(config.stop_signal)
    if config.healthcheck is not None:
        _check_health(config.healthcheck)
    anonymous_volumes(config.volumes or (), ())
    if config.mac_address:
        _check_mac(config.mac_address)
    for port in config.exposed_ports or {}:
        _check_port(port)


def _check_env(env: tuple[str, ...]) -> None:
    for item in env:
        if not item.partition("=")[0]:
            raise InvalidArgument(f"invalid environment variable: {item}")


def _no_nul(**fields: tuple[str, ...] | None) -> None:
    for name, values in fields.items():
        if any("\0" in value for value in values or ()):
            raise InvalidArgument(f"{name} must not hold NUL characters: they end strings in execve(2)")


def _check_health(health: HealthConfig) -> None:
    for name, duration in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if duration and duration < _MILLISECOND:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    if health.test and health.test[0] not in ("", "NONE", "CMD", "CMD-SHELL"):
        raise InvalidArgument(f"Unknown healthcheck type '{health.test[0]}': use NONE, CMD or CMD-SHELL")


def _check_port(spec: str, *, with_protocol: bool = True) -> None:
    match = _PORT.fullmatch(spec)
    if match is None or (match[3] and not with_protocol):
        raise InvalidArgument(f'invalid port specification: "{spec}"')
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= 65535:
        raise InvalidArgument(f'invalid port specification: "{spec}"')


def _check_modes(config: ContainerConfig, host_config: HostConfig) -> None:
    """Namespaces that are somebody else's exclude settings of our own."""
    network, uts = host_config.network_mode, host_config.uts_mode
    if network.startswith("container:"):
        if not network.removeprefix("container:"):
            raise InvalidArgument("Invalid network mode: invalid container format container:<name|id>")
        for given, what in (
            (config.hostname, "hostname and the network mode"),
            (
                host_config.links,
                "container type network can't be used with links. This would result in undefined behavior",
            ),
            (host_config.dns, "dns and the network mode"),
            (host_config.extra_hosts, "custom host-to-IP mapping and the network mode"),
            (config.mac_address, "mac-address and the network mode"),
            (host_config.port_bindings, "port publishing and the container type network mode"),
            (host_config.publish_all_ports, "port publishing and the container type network mode"),
            (config.exposed_ports, "port exposing and the container type network mode"),
        ):
            if given:
                raise InvalidArgument(f"conflicting options: {what}")
    if network == "host" and host_config.links:
        raise InvalidArgument(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
        )
    if uts not in ("", "host"):
        raise InvalidArgument(f"invalid UTS mode: {uts}")
    if uts == "host" and config.hostname:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    for what, mode, words in (
        ("IPC", host_config.ipc_mode, ("", "none", "host", "private", "shareable")),
        ("PID", host_config.pid_mode, ("", "host")),
    ):
        if mode not in words and not (mode.startswith("container:") and mode != "container:"):
            raise InvalidArgument(f"invalid {what} mode: {mode}")
    if host_config.cgroupns_mode not in ("", "host", "private"):
        raise InvalidArgument(f"invalid cgroup namespace mode: {host_config.cgroupns_mode}")
    if host_config.userns_mode not in ("", "host"):
        raise InvalidArgument(f"invalid user namespace mode: {host_config.userns_mode}")
    if host_config.isolation not in ("", "default"):
        raise InvalidArgument(f"Invalid isolation: \"{host_config.isolation}\" - linux only supports 'default'")


def _check_remapped(host_config: HostConfig) -> None:
    """What needs power over the host excludes being nobody there."""
    if host_config.privileged:
        raise InvalidArgument(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when "
            "running privileged mode"
        )
    if host_config.network_mode == "host":
        raise InvalidArgument("cannot share the host's network namespace when user namespaces are enabled")
    if host_config.pid_mode == "host":
        raise InvalidArgument("cannot share the host PID namespace when user namespaces are enabled")
    if host_config.ipc_mode == "host":
        raise InvalidArgument("cannot share the host's IPC namespace when user namespaces are enabled")


def _check_host_config(host_config: HostConfig, host: HostFacts) -> None:
    check_restart(host_config)
    security = parse_security_options(host_config.security_opt or ())
    if isinstance(security.seccomp, Mapping):
        load_profile(security.seccomp, host.capabilities)
    capabilities.granted(host_config.cap_add or (), host_config.cap_drop or (), available=host.capabilities)
    for key in host_config.sysctls or {}:
        if not _SYSCTL.fullmatch(key):
            raise InvalidArgument(
                f"sysctl '{key}' is not allowed: only net.*, fs.mqueue.*, kernel.shm*, kernel.msg* and kernel.sem have "
                "a value of their own in a container"
            )
        if key.startswith("net.") and host_config.network_mode == "host":
            raise InvalidArgument(f"sysctl '{key}' not allowed in host network namespace")
        if not key.startswith("net.") and host_config.ipc_mode == "host":
            raise InvalidArgument(f"sysctl '{key}' not allowed in host IPC namespace")
    _no_nul(
        Sysctls=tuple((host_config.sysctls or {}).values()),
        Binds=host_config.binds,
        Annotations=tuple((host_config.annotations or {}).values()),
    )
    for port, bindings in (host_config.port_bindings or {}).items():
        _check_port(port)
        for binding in bindings or ():
            if binding.host_port:
                _check_port(binding.host_port, with_protocol=False)
            if binding.host_ip:
                _check_address(binding.host_ip, "invalid IP address in port binding")
    _check_resolver(host_config)
    if host_config.runtime and host_config.runtime not in host.runtimes:
        raise InvalidArgument(f"unknown or invalid runtime name: {host_config.runtime}")
    if host_config.init and not host.init:
        raise InvalidArgument("an init was asked for (--init) and no init program is installed: install tini")
    if len(host_config.console_size) not in (0, 2) or any(size < 0 for size in host_config.console_size):
        raise InvalidArgument("invalid ConsoleSize: expected [height, width]")
    if host_config.cgroup_parent and ".." in host_config.cgroup_parent.split("/"):
        raise InvalidArgument(f"invalid CgroupParent: {host_config.cgroup_parent}: must not contain '..'")


def check_restart(host_config: HostConfig) -> None:
    """Raise InvalidArgument unless the restart policy makes sense."""
    policy = host_config.restart_policy
    if policy.name not in ("", "no", "always", "unless-stopped", "on-failure"):
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument(
            f"invalid restart policy: maximum retry count can only be used with 'on-failure', not '{policy.name}'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if host_config.auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")


def _check_resolver(host_config: HostConfig) -> None:
    for address in host_config.dns or ():
        _check_address(address, "invalid DNS address")
    for entry in host_config.extra_hosts or ():
        name, separator, address = entry.partition(":")
        if not separator or not name:
            raise InvalidArgument(f'bad format for add-host: "{entry}"')
        if address != "host-gateway":
            _check_address(address.removeprefix("[").removesuffix("]"), "invalid IP address in add-host")
    for name, words in (
        ("Dns", host_config.dns),
        ("DnsSearch", host_config.dns_search),
        ("DnsOptions", host_config.dns_options),
        ("ExtraHosts", host_config.extra_hosts),
    ):
        # they become lines of /etc/hosts and /etc/resolv.conf: one line each
        if any(ord(character) < 32 or ord(character) == 127 for word in words or () for character in word):
            raise InvalidArgument(f"{name} must not hold control characters")


def _check_address(text: str, what: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise InvalidArgument(f'{what}: "{text}"') from None


def _check_networking(request: CreateRequest) -> None:
    for name, endpoint in (request.networking_config.endpoints_config or {}).items():
        wishes = endpoint.ipam_config
        if wishes is not None:
            for version, text in ((4, wishes.ipv4_address), (6, wishes.ipv6_address)):
                if text:
                    _check_address(text, f"invalid IPv{version} address for network {name}")
                    if ipaddress.ip_address(text).version != version:
                        raise InvalidArgument(f"invalid IPv{version} address: {text}")
        for link in endpoint.links or ():
            check_link(link)
        if endpoint.mac_address:
            _check_mac(endpoint.mac_address)


def check_alone(endpoints: Mapping[str, EndpointSettings]) -> None:
    """Of the networks ``host`` and ``none`` a container is on one alone, and there it has no address of its own."""
    for name in {"host", "none"} & endpoints.keys():
        if len(endpoints) > 1:
            raise PermissionDenied(
                f"container cannot be connected to other networks beside {name}: {', '.join(endpoints)}"
            )
        ipam = endpoints[name].ipam_config
        if ipam is not None and (ipam.ipv4_address or ipam.ipv6_address):
            raise InvalidArgument("user specified IP address is supported on user defined networks only")


def check_link(text: str) -> None:
    """``NAME`` or ``NAME:ALIAS``. Raises InvalidArgument."""
    name, _, alias = text.partition(":")
    if not name or ":" in alias:
        raise InvalidArgument(f"bad format for links: {text}")


def _check_mac(address: str) -> None:
    if not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", address):
        raise InvalidArgument(f"invalid MAC address: {address}")


def mounts_of(host_config: HostConfig, host: HostFacts | None = None) -> list[Bind]:
    """All mounts a request asks for, checked: ``Binds``, ``Mounts`` and ``Tmpfs``, in this order.

    Raises InvalidArgument, also when two have the same destination or the source of a ``--mount`` is missing.
    """
    host = host or HostFacts()
    found = [parse_bind(spec, host_config.volume_driver) for spec in host_config.binds or ()]
    for mount in host_config.mounts or ():
        bind = from_mount(mount)
        if bind.type == "bind" and not bind.create and not host.exists(bind.source):
            raise InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: {bind.source}'
            )
        found.append(bind)
    for destination, options in (host_config.tmpfs or {}).items():
        found.append(
            Bind(type="tmpfs", source="", destination=check_tmpfs(destination, options), mode=options, hidden=True)
        )
    taken: set[str] = set()
    for bind in found:
        if bind.destination in taken:
            raise InvalidArgument(f"Duplicate mount point: {bind.destination}")
        taken.add(bind.destination)
    for spec in host_config.volumes_from or ():
        parse_volumes_from(spec)
    return found


def check_exec(config: ExecConfig) -> None:
    """Check an exec request. Raises InvalidArgument."""
    if not config.cmd:
        raise InvalidArgument("No exec command specified")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(f"Cwd must be an absolute path: the working directory '{config.working_dir}' is invalid")
    _check_env(config.env or ())
    _no_nul(Cmd=config.cmd, Env=config.env, User=(config.user,), WorkingDir=(config.working_dir,))
