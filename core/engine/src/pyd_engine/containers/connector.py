"""Containers' view of the networks: wishes from requests, places on networks, and what inspect shows of them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyd_contracts.errors import FailedPrecondition, NotFound, ResourceExhausted
from pyd_contracts.values import PublishedPort
from pyd_engine.containers import ports
from pyd_engine.containers.config import EndpointSettings
from pyd_engine.containers.container import Container
from pyd_engine.containers.files import name_servers, text_of
from pyd_engine.names.service import Names
from pyd_engine.networks.drivers import Driver
from pyd_engine.networks.endpoints import check as check_place
from pyd_engine.networks.records import EndpointRecord, EndpointRequest, EndpointState, NetworkRecord
from pyd_engine.networks.service import Networks
from pyd_engine.networks.views import endpoint_settings

__all__ = ["Connector"]

log = logging.getLogger(__name__)


class Connector:
    """What a container's run needs of the networks service."""

    def __init__(self, networks: Networks, drivers: Mapping[str, Driver]) -> None:
        self._networks = networks
        self._drivers = drivers
        self._names = Names()

    def about(self, ref: str) -> tuple[str, str, str]:
        """(id, name, driver) of a network. Raises NotFound."""
        network = self._networks.get(ref)
        return network.id, network.name, "null" if network.driver == "none" else network.driver

    def name_of(self, ref: str) -> str:
        """The network's own name. Raises NotFound ``network X not found``."""
        return self._networks.get(ref).name

    def shares_host(self, network: str) -> bool:
        """Containers on *network* use the host's namespace."""
        driver = self._drivers.get(self._networks.get(network).driver)
        return driver is not None and "host-namespace" in driver.capabilities

    def host_gateway(self) -> str:
        """This host's address on the network ``bridge``. Raises FailedPrecondition when there is none."""
        gateways = [each.gateway for each in self._networks.get("bridge").subnets if each.gateway is not None]
        if not gateways:
            raise FailedPrecondition(
                "unable to derive the IP value for host-gateway: the network bridge has no gateway"
            )
        return str(gateways[0])

    def reserve(self, container: Container, network: str, wishes: EndpointSettings) -> EndpointRecord:
        """Take a place and its addresses. Twice is once."""
        return self._networks.reserve(container.id, container.name, network, self._request(container, network, wishes))

    def refuse(self, container: Container, network: str, wishes: EndpointSettings) -> None:
        """Raise for wishes that no place on a network can be given."""
        check_place(self._networks.get(network), self._request(container, network, wishes))

    def _request(self, container: Container, network: str, wishes: EndpointSettings) -> EndpointRequest:
        ipam = wishes.ipam_config
        asked = ports.wishes(container)
        return EndpointRequest(
            ipv4=ipam.ipv4_address if ipam else "",
            ipv6=ipam.ipv6_address if ipam else "",
            link_local=tuple(ipam.link_local_ips or ()) if ipam else (),
            mac=wishes.mac_address or container.config.mac_address,
            aliases=wishes.aliases or (),
            hostname=container.config.hostname,
            options=wishes.driver_opts or {},
            gateway_priority=wishes.gw_priority,
            ports=asked if asked and self._publisher(container) == self._networks.get(network).name else (),
        )

    def _publisher(self, container: Container) -> str:
        """The network that a container's ports are published on: the first that can and leads out; empty: none."""
        for name in container.endpoints:
            network = self._networks.get(name)
            driver = self._drivers.get(network.driver)
            if driver is not None and "ports" in driver.capabilities and not network.internal:
                return network.name
        return ""

    def publish(self, container: Container, netns: Path) -> None:
        """Let its ports follow a running container whose networks have changed.

        It gets its interface there anew, for drivers attach whole or not at all. A port that somebody else has by now is logged
        and keeps the container from nothing else.
        """
        asked, name = ports.wishes(container), self._publisher(container)
        for record in self._networks.endpoints_of(container.id) if asked and name else ():
            if self._networks.get(record.network).name != name or record.requested.ports:
                continue
            self._networks.detach(container.id, record, keep=True, lives=True)
            reserve = functools.partial(self._networks.reserve, container.id, container.name, record.network)
            try:
                there = reserve(replace(record.requested, ports=asked))
            except ResourceExhausted as error:
                log.error("container %s: its ports do not move to network %s: %s", container.name, name, error)
                there = reserve(record.requested)
            self._networks.attach(there, netns)

    def publishes(self, container: Container) -> bool:
        """It is on a network where ports can lead to it; elsewhere the exposed ones are not shown."""
        return bool(self._publisher(container))

    def published(self, container: Container) -> tuple[PublishedPort, ...]:
        """The ports of this host that lead to the container."""
        return tuple(port for each in self._networks.endpoints_of(container.id) for port in each.ports)

    def attach(self, endpoint: EndpointRecord, netns: Path) -> EndpointRecord:
        """Make the interface, and let the container be found there."""
        record = self._networks.attach(endpoint, netns)
        self._name(record)
        return record

    def places(self, container: str) -> Sequence[EndpointRecord]:
        """Where a container is, oldest first."""
        return self._networks.endpoints_of(container)

    def address(self, container: Container, network: str) -> str:
        """Its first address on a network; empty while it has no place there."""
        identity = self._networks.get(network).id
        places = [each for each in self._networks.endpoints_of(container.id) if each.network == identity]
        return next((str(address.ip) for each in places for address in each.addresses), "")

    def leave(self, container: str, network: str) -> None:
        """Take the container's place on one network back; nothing there is fine."""
        identity = self._networks.get(network).id
        for record in self._networks.endpoints_of(container):
            if record.network == identity:
                self._names.drop(record.id)
                self._networks.detach(container, record, lives=True)

    def put_right(self, container: Container, netns: Path) -> bool:
        """Undo or finish what a crash in a connect or disconnect left; whether there was anything.

        Raises what `reserve` and `attach` raise.
        """
        wanted = {self._networks.get(name).id: name for name in container.endpoints if not self.shares_host(name)}
        places = self._networks.endpoints_of(container.id)
        whole = {each.network for each in places if each.state is EndpointState.ATTACHED and each.network in wanted}
        half = [each.network for each in places if each.network not in whole]
        missing = [name for identity, name in wanted.items() if identity not in whole]
        for network in half:
            log.warning("container %s: a change of network %s was cut off", container.name, network[:12])
            self.leave(container.id, network)
        for name in missing:
            self.attach(self.reserve(container, name, container.endpoints[name]), netns)
        return bool(half or missing)

    def release(self, container: str) -> None:
        """Take interfaces and addresses back; nothing there is fine."""
        self._names.leave(container)
        for record in self._networks.endpoints_of(container):
            self._names.drop(record.id)
        self._networks.release(container)

    def rename(self, container: str, name: str) -> None:
        """Let the endpoints follow."""
        self._networks.rename(container, name)
        for record in self._networks.endpoints_of(container):
            if record.state is EndpointState.ATTACHED:
                self._name(record)

    def close(self) -> None:
        """End the resolver."""
        self._names.close()

    # --- names -----------------------------------------------------------------------------------------------------

    def has_names(self, container: Container) -> bool:
        """It is on a network where containers are found by name: one that a user made, with addresses."""
        return any(self._is_named(self._networks.get(name)) for name in container.endpoints)

    def serve_names(self, container: Container, netns: Path) -> None:
        """Answer the container's questions, if it is on a network with names."""
        networks = [self._networks.get(each.network) for each in self._networks.endpoints_of(container.id)]
        named = [each.id for each in networks if self._is_named(each)]
        if not named:
            self._names.leave(container.id)
            return
        outside = any(not each.internal for each in networks)
        servers = list(container.host_config.dns or ()) or name_servers(text_of("/etc/resolv.conf"))
        self._names.serve(container.id, netns, named, servers if outside else [], self._aliases(container))

    def _aliases(self, container: Container) -> dict[str, tuple[str, str]]:
        """Links on networks with names: what the container alone calls others, with network and name of these."""
        found = {}
        for network, wishes in container.endpoints.items():
            for link in wishes.links or ():
                name, _, alias = link.partition(":")
                found[(alias or name).lower()] = (self._networks.get(network).id, name.lower())
        return found

    def resume_names(self, container: Container) -> None:
        """The same for a container that an earlier daemon started."""
        for record in self._networks.endpoints_of(container.id):
            self._name(record)
        self.serve_names(container, Path(f"/proc/{container.state.pid}/ns/net"))

    def _name(self, record: EndpointRecord) -> None:
        network = self._networks.get(record.network)
        if self._is_named(network):
            addresses = [str(each.ip) for each in record.addresses]
            self._names.add(record.id, network.id, network.name, record.dns_names, addresses)

    def _is_named(self, network: NetworkRecord) -> bool:
        return not network.predefined and bool(network.subnets)

    def shown(self, container: Container) -> dict[str, dict[str, Any]]:
        """``NetworkSettings.Networks``: what is, and for networks it has no place on now, what was asked."""
        placed = {self._networks.get(each.network).name: each for each in self._networks.endpoints_of(container.id)}
        found = {}
        for network, wishes in container.endpoints.items():
            if network in placed:
                found[network] = endpoint_settings(placed[network]) | {"Links": list(wishes.links or ()) or None}
            else:
                found[network] = self._unplaced(network, wishes)
        return found

    def _unplaced(self, network: str, wishes: EndpointSettings) -> dict[str, Any]:
        ipam = wishes.ipam_config
        asked = {
            key: value
            for key, value in (
                ("IPv4Address", ipam.ipv4_address if ipam else ""),
                ("IPv6Address", ipam.ipv6_address if ipam else ""),
                ("LinkLocalIPs", list(ipam.link_local_ips or ()) if ipam else []),
            )
            if value
        }
        return {
            "IPAMConfig": asked or None,
            "Links": list(wishes.links or ()) or None,
            "Aliases": list(wishes.aliases or ()) or None,
            "MacAddress": wishes.mac_address,
            "DriverOpts": wishes.driver_opts,
            "GwPriority": wishes.gw_priority,
            "NetworkID": self._id_of(network),
            "EndpointID": "",
            "Gateway": "",
            "IPAddress": "",
            "IPPrefixLen": 0,
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "DNSNames": None,
        }

    def _id_of(self, network: str) -> str:
        try:
            return self._networks.get(network).id
        except NotFound:
            return ""  # removed since the container was made
