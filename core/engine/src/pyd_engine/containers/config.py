"""What a client asks for when it makes a container or an exec: the records of ``POST /containers/create`` and friends.

The same records are stored in the database (``msgspec.json.encode``) and shown by inspect (`records.shown`).
Constraint: names and meaning are those of the Docker Engine API 1.56, definitions ContainerConfig, NetworkingConfig,
EndpointSettings, HealthConfig and ExecConfig; HostConfig is in `host_config`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import field

from pyd_engine.containers.host_config import HostConfig
from pyd_engine.containers.records import Int64, Record, Strings, StringsOrString

__all__ = [
    "ContainerConfig",
    "CreateRequest",
    "EndpointIPAMConfig",
    "EndpointSettings",
    "ExecConfig",
    "ExecStart",
    "HealthConfig",
    "HostConfig",
    "NetworkingConfig",
    "decode_create",
    "decode_exec_create",
    "decode_exec_start",
    "image_config",
]


class HealthConfig(Record, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """How to find out whether a container is healthy. Durations are nanoseconds, 0 means inherit.

    test  empty: inherit; ``["NONE"]``; ``["CMD", args…]``; ``["CMD-SHELL", command]``
    """

    test: Strings | None = None
    interval: Int64 = 0
    timeout: Int64 = 0
    retries: Int64 = 0
    start_period: Int64 = 0
    start_interval: Int64 = 0


class ContainerConfig(Record, frozen=True, kw_only=True, rename="pascal"):
    """The portable part of a container's configuration; also the ``config`` of an image."""

    omitempty: ClassVar[frozenset[str]] = frozenset(
        {
            "ArgsEscaped",
            "ExposedPorts",
            "Healthcheck",
            "MacAddress",
            "NetworkDisabled",
            "Shell",
            "StopSignal",
            "StopTimeout",
        }
    )

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: Strings | None = None
    cmd: StringsOrString | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: StringsOrString | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: Strings | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: Int64 | None = None
    shell: StringsOrString | None = None


class EndpointIPAMConfig(Record, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """Addresses that a container wants on a network."""

    ipv4_address: str = field(default="", name="IPv4Address")
    ipv6_address: str = field(default="", name="IPv6Address")
    link_local_ips: Strings | None = field(default=None, name="LinkLocalIPs")


class EndpointSettings(Record, frozen=True, kw_only=True, rename="pascal"):
    """A container's place on one network: the first six fields are wishes, the others are facts once connected."""

    ipam_config: EndpointIPAMConfig | None = field(default=None, name="IPAMConfig")
    links: Strings | None = None
    aliases: Strings | None = None
    driver_opts: dict[str, str] | None = None
    gw_priority: Int64 = 0
    mac_address: str = ""
    network_id: str = field(default="", name="NetworkID")
    endpoint_id: str = field(default="", name="EndpointID")
    gateway: str = ""
    ip_address: str = field(default="", name="IPAddress")
    ip_prefix_len: Int64 = field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = field(default="", name="IPv6Gateway")
    global_ipv6_address: str = field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: Int64 = field(default=0, name="GlobalIPv6PrefixLen")
    dns_names: Strings | None = field(default=None, name="DNSNames")


class NetworkingConfig(Record, frozen=True, kw_only=True, rename="pascal"):
    """Networks to connect at creation, by name or id."""

    endpoints_config: dict[str, EndpointSettings] | None = None


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One decoded ``POST /containers/create``."""

    config: ContainerConfig
    host_config: HostConfig = HostConfig()
    networking_config: NetworkingConfig = NetworkingConfig()


class ExecConfig(Record, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /containers/{id}/exec``. console_size is (height, width) in characters."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[Int64, ...] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach_keys: str | None = None
    env: Strings | None = None
    working_dir: str = ""
    cmd: Strings | None = None


class ExecStart(Record, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /exec/{id}/start``. console_size is (height, width) in characters."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[Int64, ...] | None = None


class _Around(Record, frozen=True, kw_only=True, rename="pascal"):
    """What stands beside the fields of ContainerConfig in the body of create."""

    host_config: HostConfig = HostConfig()
    networking_config: NetworkingConfig = NetworkingConfig()


def decode_create(body: bytes) -> CreateRequest:
    """Read the body of ``POST /containers/create``.

    Raises InvalidArgument whose message names the field, for whatever is not the JSON it should be.
    """
    from pyd_contracts.errors import InvalidArgument
    from pyd_engine.containers.decoding import fit, parse

    document = parse(body)
    beside = {"hostconfig", "networkingconfig"}
    if document is None or (isinstance(document, dict) and not any(key.lower() not in beside for key in document)):
        raise InvalidArgument("config cannot be empty in order to create a container")
    around = fit(document, _Around)
    return CreateRequest(
        config=fit(document, ContainerConfig),
        host_config=around.host_config,
        networking_config=around.networking_config,
    )


def decode_config(body: bytes) -> ContainerConfig:
    """Read the body of ``POST /commit``. Raises InvalidArgument that names the field."""
    from pyd_engine.containers.decoding import fit, parse

    return fit(parse(body), ContainerConfig)


def decode_exec_create(body: bytes) -> ExecConfig:
    """Read the body of ``POST /containers/{id}/exec``.

    Raises InvalidArgument naming the field, or saying that there is no command.
    """
    from pyd_contracts.errors import InvalidArgument
    from pyd_engine.containers.decoding import fit, parse
    from pyd_engine.containers.validation import check_exec

    document = parse(body)
    if document is None:
        raise InvalidArgument("No exec command specified")
    config = fit(document, ExecConfig)
    check_exec(config)
    return config


def decode_exec_start(body: bytes) -> ExecStart:
    """Read the body of ``POST /exec/{id}/start``; no body at all means the defaults, as for old clients."""
    from pyd_engine.containers.decoding import fit, parse

    if not body.strip():
        return ExecStart()
    document = parse(body)
    return ExecStart() if document is None else fit(document, ExecStart)


def image_config(document: Any) -> ContainerConfig:
    """The ``config`` object of an OCI or Docker image configuration, already parsed; None is an empty one.

    Raises InvalidArgument naming the field: images come from strangers.
    """
    from pyd_engine.containers.decoding import fit

    return ContainerConfig() if document is None else fit(document, ContainerConfig, "invalid image configuration")
