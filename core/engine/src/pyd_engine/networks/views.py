"""Networks and endpoints as the Docker Engine API shows them (Network, EndpointResource, EndpointSettings)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pyd_engine.networks.records import EndpointRecord, NetworkRecord

__all__ = ["endpoint_resource", "endpoint_settings", "network_resource"]

_DRIVER_WORDS = {"none": "null"}
"""Docker's word for the driver without interfaces."""


def network_resource(network: NetworkRecord, endpoints: Iterable[EndpointRecord] = ()) -> dict[str, Any]:
    """The JSON object of ``GET /networks/{id}``; *endpoints* are those to be listed as containers.

    The driver's report goes under the key ``Report`` that Docker does not have and clients ignore.
    """
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": datetime.fromtimestamp(network.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "Scope": "local",
        "Driver": _DRIVER_WORDS.get(network.driver, network.driver),
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": network.ipam_driver,
            "Options": dict(network.ipam_options) or None,
            "Config": [
                *(_config(each.subnet, each.ip_range, each.gateway, each.auxiliary) for each in network.subnets),
                *(_config(each.subnet, each.ip_range, each.gateway, each.auxiliary) for each in network.wishes),
            ],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {each.container: endpoint_resource(each) for each in endpoints},
        "Options": _options(network),
        "Labels": dict(network.labels),
        "Report": dict(network.report),
    }


def endpoint_resource(endpoint: EndpointRecord) -> dict[str, str]:
    """One container of a network."""
    return {
        "Name": endpoint.container_name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": str(endpoint.ipv4 or ""),
        "IPv6Address": str(endpoint.ipv6 or ""),
    }


def endpoint_settings(endpoint: EndpointRecord) -> dict[str, Any]:
    """One network of a container, as ``NetworkSettings.Networks`` shows it."""
    requested = endpoint.requested
    asked = (
        ("IPv4Address", requested.ipv4), ("IPv6Address", requested.ipv6), ("LinkLocalIPs", list(requested.link_local)),
    )  # fmt: skip
    ipam = {key: value for key, value in asked if value}
    return {
        "IPAMConfig": ipam or None,
        "Links": None,
        "Aliases": list(endpoint.aliases) or None,
        "MacAddress": endpoint.mac,
        "DriverOpts": dict(requested.options) or None,
        "GwPriority": requested.gateway_priority,
        "NetworkID": endpoint.network,
        "EndpointID": endpoint.id,
        "Gateway": endpoint.gateway(4),
        "IPAddress": str(endpoint.ipv4.ip) if endpoint.ipv4 else "",
        "IPPrefixLen": endpoint.ipv4.network.prefixlen if endpoint.ipv4 else 0,
        "IPv6Gateway": endpoint.gateway(6),
        "GlobalIPv6Address": str(endpoint.ipv6.ip) if endpoint.ipv6 else "",
        "GlobalIPv6PrefixLen": endpoint.ipv6.network.prefixlen if endpoint.ipv6 else 0,
        "DNSNames": list(endpoint.dns_names) or None,
    }


def _options(network: NetworkRecord) -> dict[str, str]:
    bridge = network.report.get("bridge", "")
    named = {"com.docker.network.bridge.name": bridge} if network.predefined and bridge else {}
    return {**network.options, **named}


def _config(subnet: object, ip_range: object, gateway: object, auxiliary: Mapping[str, object]) -> dict[str, Any]:
    shown: dict[str, Any] = {"Subnet": str(subnet)} if subnet else {}
    if ip_range:
        shown["IPRange"] = str(ip_range)
    if gateway:
        shown["Gateway"] = str(gateway)
    if auxiliary:
        shown["AuxiliaryAddresses"] = {name: str(address) for name, address in auxiliary.items()}
    return shown
