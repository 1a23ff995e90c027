"""The networks' tables: rows in, records out. One transaction a step of the service: a crash falls between steps."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from pyd_contracts.errors import AlreadyExists, Conflict
from pyd_contracts.values import Attached, PublishedPort
from pyd_engine.networks.records import (
    IP,
    EndpointRecord,
    EndpointRequest,
    EndpointState,
    NetworkRecord,
    NetworkState,
    PortWish,
    SubnetRecord,
    SubnetRequest,
)
from pyd_engine.store.database import Database

__all__ = ["NetworkStore"]

_MIGRATIONS = [
    """
    CREATE TABLE networks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        driver TEXT NOT NULL,
        state TEXT NOT NULL,
        document TEXT NOT NULL
    ) STRICT;
    CREATE TABLE network_endpoints (
        id TEXT PRIMARY KEY,
        network TEXT NOT NULL REFERENCES networks (id),
        container TEXT NOT NULL,
        state TEXT NOT NULL,
        document TEXT NOT NULL,
        UNIQUE (container, network)
    ) STRICT;
    CREATE TABLE network_addresses (
        network TEXT NOT NULL REFERENCES networks (id),
        address TEXT NOT NULL,
        endpoint TEXT NOT NULL REFERENCES network_endpoints (id) ON DELETE CASCADE,
        PRIMARY KEY (network, address)
    ) STRICT;
    CREATE INDEX network_addresses_endpoint ON network_addresses (endpoint)
    """
]


class NetworkStore:
    """Networks, endpoints and addresses in the metadata database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("networks", _MIGRATIONS)

    def networks(self) -> list[NetworkRecord]:
        """All networks, oldest first."""
        rows = self._database.rows("SELECT id, name, driver, state, document FROM networks ORDER BY rowid")
        return [_network(*row) for row in rows]

    def endpoints(self) -> list[EndpointRecord]:
        """All endpoints, oldest first."""
        query = "SELECT id, network, container, state, document FROM network_endpoints ORDER BY rowid"
        rows = self._database.rows(query)
        return [_endpoint(*row) for row in rows]

    def add_network(self, record: NetworkRecord) -> None:
        """Raises AlreadyExists when the name is taken."""
        row = (record.id, record.name, record.driver, record.state.value, _network_document(record))
        try:
            with self._database.transaction() as sql:
                sql.execute("INSERT INTO networks VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as error:
            raise AlreadyExists(f"network with name {record.name} already exists") from error

    def put_network(self, record: NetworkRecord) -> None:
        """Replace a network's state and document."""
        with self._database.transaction() as sql:
            sql.execute(
                "UPDATE networks SET state = ?, document = ? WHERE id = ?",
                (record.state.value, _network_document(record), record.id),
            )

    def drop_network(self, network: str) -> None:
        """Forget a network without endpoints."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM networks WHERE id = ?", (network,))

    def add_endpoint(self, record: EndpointRecord) -> None:
        """Write an endpoint and its addresses at once. Raises Conflict when an address is taken."""
        row = (record.id, record.network, record.container, record.state.value, _endpoint_document(record))
        try:
            with self._database.transaction() as sql:
                sql.execute("INSERT INTO network_endpoints VALUES (?, ?, ?, ?, ?)", row)
                sql.executemany(
                    "INSERT INTO network_addresses VALUES (?, ?, ?)",
                    [(record.network, str(each.ip), record.id) for each in record.addresses],
                )
        except sqlite3.IntegrityError as error:
            raise Conflict(f"container {record.container_name}: its place or address is taken: {error}") from error

    def put_endpoint(self, record: EndpointRecord) -> None:
        """Replace an endpoint's state and document; its addresses never change."""
        with self._database.transaction() as sql:
            sql.execute(
                "UPDATE network_endpoints SET state = ?, document = ? WHERE id = ?",
                (record.state.value, _endpoint_document(record), record.id),
            )

    def drop_endpoint(self, endpoint: str) -> None:
        """Forget an endpoint; its addresses are free then."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM network_endpoints WHERE id = ?", (endpoint,))


def _network_document(record: NetworkRecord) -> str:
    return json.dumps(
        {
            "created": record.created,
            "subnets": [
                {
                    "subnet": str(each.subnet),
                    "gateway": _text(each.gateway),
                    "range": _text(each.ip_range),
                    "auxiliary": {name: str(address) for name, address in each.auxiliary.items()},
                }
                for each in record.subnets
            ],
            "options": dict(record.options),
            "labels": dict(record.labels),
            "internal": record.internal,
            "attachable": record.attachable,
            "ipv4": record.ipv4,
            "ipv6": record.ipv6,
            "configured": record.configured,
            "predefined": record.predefined,
            "ipam_driver": record.ipam_driver,
            "ipam_options": dict(record.ipam_options),
            "config_only": record.config_only,
            "config_from": record.config_from,
            "wishes": [{**asdict(each), "auxiliary": dict(each.auxiliary)} for each in record.wishes],
            "report": dict(record.report),
        }
    )


def _network(identity: str, name: str, driver: str, state: str, document: str) -> NetworkRecord:
    found: dict[str, Any] = json.loads(document)
    found["subnets"] = tuple(
        SubnetRecord(
            subnet=ip_network(each["subnet"]),
            gateway=_ip(each["gateway"]),
            ip_range=ip_network(each["range"]) if each["range"] else None,
            auxiliary={name: ip_address(address) for name, address in each["auxiliary"].items()},
        )
        for each in found["subnets"]
    )
    found["wishes"] = tuple(SubnetRequest(**each) for each in found.get("wishes", ()))
    return NetworkRecord(id=identity, name=name, driver=driver, state=NetworkState(state), **found)


def _endpoint_document(record: EndpointRecord) -> str:
    requested = record.requested
    return json.dumps(
        {
            "container_name": record.container_name,
            "ifname": record.ifname,
            "addresses": [str(each) for each in record.addresses],
            "gateways": [str(each) for each in record.gateways],
            "mac": record.mac,
            "netns": record.netns,
            "requested": {
                "ipv4": requested.ipv4,
                "ipv6": requested.ipv6,
                "link_local": list(requested.link_local),
                "mac": requested.mac,
                "aliases": list(requested.aliases),
                "hostname": requested.hostname,
                "options": dict(requested.options),
                "ports": [asdict(each) for each in requested.ports],
                "gateway_priority": requested.gateway_priority,
            },
            "ports": [
                [each.protocol, str(each.host), each.host_port, each.container_port, each.count]
                for each in record.ports
            ],
            "attached": None if record.attached is None else _attached_document(record.attached),
        }
    )


def _attached_document(attached: Attached) -> dict[str, object]:
    return {
        "host_ifname": attached.host_ifname,
        "mac": attached.mac,
        "addresses": [str(each) for each in attached.addresses],
        "gateways": [str(each) for each in attached.gateways],
    }


def _endpoint(identity: str, network: str, container: str, state: str, document: str) -> EndpointRecord:
    found: Mapping[str, Any] = json.loads(document)
    requested = found["requested"]
    attached = found["attached"]
    return EndpointRecord(
        id=identity,
        network=network,
        container=container,
        container_name=found["container_name"],
        ifname=found["ifname"],
        addresses=tuple(ip_interface(each) for each in found["addresses"]),
        gateways=tuple(ip_address(each) for each in found["gateways"]),
        mac=found["mac"],
        requested=EndpointRequest(
            **{
                **requested,
                "aliases": tuple(requested["aliases"]),
                "link_local": tuple(requested.get("link_local", ())),
                "ports": tuple(PortWish(**each) for each in requested.get("ports", ())),
            }
        ),
        ports=tuple(
            PublishedPort(protocol, ip_address(host), *numbers) for protocol, host, *numbers in found.get("ports", ())
        ),
        netns=found["netns"],
        attached=None
        if attached is None
        else Attached(
            host_ifname=attached["host_ifname"],
            mac=attached["mac"],
            addresses=tuple(ip_interface(each) for each in attached["addresses"]),
            gateways=tuple(ip_address(each) for each in attached["gateways"]),
        ),
        state=EndpointState(state),
    )


def _text(value: object | None) -> str:
    return "" if value is None else str(value)


def _ip(text: str) -> IP | None:
    return ip_address(text) if text else None
