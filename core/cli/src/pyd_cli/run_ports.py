"""`-p`, `-P` and `--expose`."""

from __future__ import annotations

from typing import Any

from pyd_cli.errors import CliError
from pyd_cli.run_values import csv_fields, is_address

PROTOCOLS = ("tcp", "udp", "sctp")


def port_range(text: str, what: str) -> tuple[int, int]:
    """`80` or `80-90` as (first, last). CliError names `what` the text is."""
    first, dash, last = text.partition("-")
    try:
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError
        bounds = int(first), int(last if dash else first)
        if not 0 <= bounds[0] <= bounds[1] <= 65535:
            raise ValueError
    except ValueError:
        raise CliError(f"invalid {what}: {text}", 125) from None
    return bounds


def publish(text: str) -> list[tuple[str, str, str]]:
    """One `-p` value as (container port/protocol, host address, host port) for each port of it."""
    if "=" in text:
        text = _long_form(text)
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise CliError(f"invalid proto: {protocol}", 125)
    head, _, container = rest.rpartition(":")
    address, _, host = head.rpartition(":") if not head.endswith("]") else (head, "", "")
    address = address.strip("[]")
    if not container:
        raise CliError(f"no port specified: {text}<empty>", 125)
    if address and not is_address(address):
        raise CliError(f"invalid IP address: {address}", 125)
    first, last = port_range(container, "containerPort")
    if not host:
        return [(f"{port}/{protocol}", address, "") for port in range(first, last + 1)]
    host_first, host_last = port_range(host, "hostPort")
    if last - first != host_last - host_first:
        if first != last:
            raise CliError(f"invalid ranges specified for container and host Ports: {container} and {host}", 125)
        return [(f"{first}/{protocol}", address, f"{host_first}-{host_last}")]
    return [(f"{port}/{protocol}", address, str(host_first + port - first)) for port in range(first, last + 1)]


def _long_form(text: str) -> str:
    """`target=80,published=8080,protocol=udp` in the short form."""
    values: dict[str, str] = {}
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        if not equals:
            raise CliError(f"invalid field {field}", 125)
        if key not in ("protocol", "mode", "target", "published"):
            raise CliError(f"invalid field key {key}", 125)
        values[key] = value.lower()
    published = values.get("published", "")
    return f"{published + ':' if published else ''}{values.get('target', '')}/{values.get('protocol', 'tcp')}"


def bindings(published: list[str], exposed: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(ExposedPorts, PortBindings) of the values of `-p` and `--expose`."""
    ports: dict[str, Any] = {}
    bound: dict[str, Any] = {}
    for text in published:
        for port, address, host in publish(text):
            ports[port] = {}
            bound.setdefault(port, []).append({"HostIp": address, "HostPort": host})
    for text in exposed:
        if ":" in text:
            raise CliError(f"invalid port format for --expose: {text}", 125)
        span, slash, protocol = text.partition("/")
        first, last = port_range(span, "range format for --expose")
        for number in range(first, last + 1):
            ports[f"{number}/{protocol.lower() if slash else 'tcp'}"] = {}
    return ports, bound
