"""The kit, run against the macvlan driver."""

from __future__ import annotations

import pytest

from pyd_conformance.network import NetworkContract, NetworkStage
from pyd_conformance.network_stage import ip_json
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import Declined
from pyd_network_macvlan.driver import MacvlanDriver
from pyd_network_macvlan.plugin import create


@pytest.mark.root
class TestMacvlan(NetworkContract):
    """The real kernel, in throw-away namespaces; networks without a parent have one of their own that leads nowhere."""

    subject = "macvlan"
    capabilities = frozenset[str]()

    def make(self, context: DriverContext) -> MacvlanDriver:
        try:
            return create(context)
        except Declined as why:
            pytest.skip(str(why))

    def obstruct(self, stage: NetworkStage) -> str:
        """The name that the network's own parent would have."""
        name = f"dm-{stage.spec(1).id[:12]}"
        ip_json("link", "add", name, "type", "bridge")
        return name
