"""The kit, run against the host driver."""

from __future__ import annotations

import pytest

from pyd_conformance.network import NetworkContract
from pyd_contracts.context import DriverContext
from pyd_network_host.driver import HostDriver
from pyd_network_host.plugin import create


@pytest.mark.root
class TestHost(NetworkContract):
    """In throw-away namespaces."""

    subject = "host"
    capabilities = frozenset({"host-namespace", "no-addresses", "single", "exclusive"})
    remembers = False

    def make(self, context: DriverContext) -> HostDriver:
        return create(context)
