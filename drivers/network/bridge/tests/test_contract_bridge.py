"""The kit, run against the bridge driver."""

from __future__ import annotations

import pytest

from pyd_conformance.network import NetworkContract
from pyd_contracts.context import DriverContext
from pyd_network_bridge.driver import BridgeDriver
from pyd_network_bridge.plugin import create


@pytest.mark.root
class TestBridge(NetworkContract):
    """The real kernel, in throw-away namespaces."""

    subject = "bridge"
    capabilities = frozenset({"masquerade", "ports", "rules"})

    def make(self, context: DriverContext) -> BridgeDriver:
        return create(context)
