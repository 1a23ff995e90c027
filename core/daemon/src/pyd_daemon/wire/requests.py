"""Bodies that clients send, as typed structs; those of containers and execs are the engine's (`containers.config`).

They are read by Go's rules for keys and null (`containers.decoding`): keys match whatever their case, ``null`` leaves
the default. Unknown fields are ignored, as Docker ignores them: clients are newer than daemons.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["AuthConfig", "ConfigReference", "Ipam", "IpamPool", "NetworkCreate", "VolumeCreate"]


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Registry credentials; the names are lower-case on the wire."""

    username: str = ""
    password: str = ""
    auth: str = ""
    email: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"AuthConfig(serveraddress={self.serveraddress!r}, username={self.username!r})"


class IpamPool(msgspec.Struct, frozen=True, kw_only=True):
    """One address pool of a network."""

    subnet: str = msgspec.field(default="", name="Subnet")
    ip_range: str = msgspec.field(default="", name="IPRange")
    gateway: str = msgspec.field(default="", name="Gateway")
    auxiliary_addresses: dict[str, str] | None = msgspec.field(default=None, name="AuxiliaryAddresses")


class Ipam(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    """How a network's addresses are managed."""

    driver: str = "default"
    config: list[IpamPool] | None = None
    options: dict[str, str] | None = None


class ConfigReference(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    """The network that another takes its configuration from."""

    network: str = ""


class NetworkCreate(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /networks/create``."""

    name: str = msgspec.field(default="", name="Name")
    driver: str = msgspec.field(default="", name="Driver")
    scope: str = msgspec.field(default="", name="Scope")
    check_duplicate: bool | None = msgspec.field(default=None, name="CheckDuplicate")
    internal: bool = msgspec.field(default=False, name="Internal")
    attachable: bool = msgspec.field(default=False, name="Attachable")
    ingress: bool = msgspec.field(default=False, name="Ingress")
    config_only: bool = msgspec.field(default=False, name="ConfigOnly")
    config_from: ConfigReference | None = msgspec.field(default=None, name="ConfigFrom")
    ipam: Ipam | None = msgspec.field(default=None, name="IPAM")
    enable_ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    options: dict[str, str] | None = msgspec.field(default=None, name="Options")
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")


class VolumeCreate(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /volumes/create``."""

    name: str = msgspec.field(default="", name="Name")
    driver: str = msgspec.field(default="", name="Driver")
    driver_opts: dict[str, str] | None = msgspec.field(default=None, name="DriverOpts")
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")
    cluster_volume_spec: dict[str, Any] | None = msgspec.field(default=None, name="ClusterVolumeSpec")
