"""What drivers say of the rules that packets to and from containers meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pyd_contracts.network import NetworkRules
from pyd_contracts.values import Passage
from pyd_engine.networks.drivers import Driver
from pyd_engine.networks.publishing import passages
from pyd_engine.networks.records import EndpointRecord, EndpointState, NetworkRecord
from pyd_engine.networks.service import Networks

__all__ = ["Explanations"]


class Explanations:
    """Asks the drivers that have the capability ``rules``."""

    def __init__(self, networks: Networks, drivers: Mapping[str, Driver]) -> None:
        self._networks = networks
        self._drivers = drivers

    def endpoints(self, protocol: str = "", port: int = 0) -> Sequence[EndpointRecord]:
        """The endpoints that a port of this host leads to (empty *protocol*: any); with port 0 all there are."""
        return [
            each
            for each in self._networks.all_endpoints()
            if not port
            or any(
                published.host_port <= port < published.host_port + published.count
                and protocol in ("", published.protocol)
                for published in each.ports
            )
        ]

    def of(self, container: str) -> Sequence[tuple[NetworkRecord, Sequence[Passage]]]:
        """By network: what becomes of packets to and from a container. Networks whose drivers cannot say are left out."""
        found: list[tuple[NetworkRecord, Sequence[Passage]]] = []
        for record in self._networks.endpoints_of(container):
            network = self._networks.get(record.network)
            driver = self._drivers.get(network.driver)
            if driver is None or "rules" not in driver.capabilities or record.state is not EndpointState.ATTACHED:
                continue
            power = cast("NetworkRules", driver.call)
            said = power.network_rules(attachment=record.attachment(network.spec()))
            more = passages(record, network) if self._networks.has_proxy else []
            found.append((network, [*said, *more]))
        return found
