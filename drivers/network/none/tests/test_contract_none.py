"""The kit, run against the none driver."""

from __future__ import annotations

import pytest

from pyd_conformance.network import NetworkContract
from pyd_contracts.context import DriverContext
from pyd_network_none.driver import NoneDriver
from pyd_network_none.plugin import create


@pytest.mark.root
class TestNone(NetworkContract):
    """In throw-away namespaces."""

    subject = "none"
    capabilities = frozenset({"no-addresses", "single", "exclusive"})
    remembers = False

    def make(self, context: DriverContext) -> NoneDriver:
        return create(context)
