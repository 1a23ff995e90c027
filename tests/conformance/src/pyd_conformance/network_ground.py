"""What all parts of the network suite stand on: the attributes a driver's author sets, fixtures, and eyes on the host."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from pyd_conformance.network_stage import NetworkStage, fresh_host, ip_json, rules
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import PydError
from pyd_contracts.network import NetworkDriver
from pyd_contracts.values import NetworkSpec

__all__ = ["NetworkGround"]


class NetworkGround:
    """The capabilities to be tested for, and whether there is a kernel behind the driver."""

    capabilities: frozenset[str] = frozenset()
    kernel: bool = True
    remembers: bool = True
    """Whether attachments are found again after a restart; not where they leave no trace in the kernel."""

    def make(self, context: DriverContext) -> NetworkDriver:
        """Make the driver under test. It may be called again on the same context: that is a restart."""
        raise TypeError(f"{type(self).__name__} must override make(context)")

    @pytest.fixture
    def context(self, tmp_path: Path) -> DriverContext:
        """What the driver is given."""
        for name in ("root", "run"):
            (tmp_path / name).mkdir(mode=0o700)
        log = logging.getLogger("pyd.test.network")
        return DriverContext("test", tmp_path / "root", tmp_path / "run", {}, log, instance="c0ffee01")

    @pytest.fixture
    def stage(self, context: DriverContext, tmp_path: Path) -> Iterator[NetworkStage]:
        """The driver on a host of its own."""
        with fresh_host() if self.kernel else nullcontext():
            stage = NetworkStage(
                driver=self.make(context),
                addressed="no-addresses" not in self.capabilities,
                kernel=self.kernel,
                own="host-namespace" not in self.capabilities,
                scratch=tmp_path,
            )
            try:
                yield stage
            finally:
                stage.close()

    def restart(self, stage: NetworkStage, context: DriverContext, network: NetworkSpec) -> None:
        """Let the driver go, perhaps in the middle of something, and make another that brings *network* into line."""
        with suppress(PydError):
            stage.driver.network_close()
        stage.driver = self.make(context)
        stage.driver.network_create(network=network)
        stage.networks[network.id] = network

    def obstruct(self, stage: NetworkStage) -> str:
        """Put something on the host that keeps network 1 from being created, and return what a message must name.

        This is an interface that holds an address of the network's subnet. Override it where that is no obstacle.
        """
        ip_json("link", "add", "intheway", "type", "veth", "peer", "name", "intheway1")
        ip_json("addr", "add", "10.77.1.9/24", "dev", "intheway")
        return "intheway"

    def need_wires(self) -> None:
        """Skip where no packets flow: drivers without addresses, and fakes."""
        if not self.kernel or "no-addresses" in self.capabilities:
            pytest.skip("the driver moves no packets")
        if shutil.which("ip") is None:
            pytest.skip("ip(8) of iproute2 is not installed")

    def need_addresses(self) -> None:
        """Skip where the engine gives no addresses."""
        if "no-addresses" in self.capabilities:
            pytest.skip("the driver declares no-addresses")

    def need_second_network(self) -> None:
        """Skip where there is one network only."""
        if "single" in self.capabilities:
            pytest.skip("the driver declares single")

    def seen(self) -> object:
        """What can be seen of a driver from the host: interfaces, addresses, routes, rules; no counters, no states."""
        if not self.kernel or shutil.which("ip") is None:
            return None
        links = {
            (link["ifname"], link.get("master"), *sorted(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]))
            for link in ip_json("addr")
        }
        routes = {(route["dst"], route.get("dev", ""), route.get("gateway", "")) for route in ip_json("route")}
        return links, routes, rules()
