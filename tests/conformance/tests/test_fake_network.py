"""The kit, run against the network driver in memory: fakes earn their place like any driver."""

from __future__ import annotations

from pyd_conformance.fakes.network import FakeNetwork
from pyd_conformance.network import NetworkContract
from pyd_contracts.context import DriverContext


class TestFakeNetwork(NetworkContract):
    """No root, no kernel."""

    subject = "fake"
    capabilities = frozenset({"masquerade", "ports", "rules"})
    kernel = False
    fake: FakeNetwork | None = None

    def make(self, context: DriverContext) -> FakeNetwork:
        self.fake = self.fake or FakeNetwork()  # a restart finds what the "kernel" kept
        return self.fake


class TestFakeSingleNetwork(TestFakeNetwork):
    """As drivers that give no addresses are."""

    subject = "fake-single"
    capabilities = frozenset({"no-addresses", "single", "exclusive"})

    def make(self, context: DriverContext) -> FakeNetwork:
        self.fake = self.fake or FakeNetwork(self.capabilities)
        return self.fake
