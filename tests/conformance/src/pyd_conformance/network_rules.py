"""The part of the network suite about explanations (NetworkRules), for drivers with the capability ``rules``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import cast

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.network_ground import NetworkGround
from pyd_conformance.network_stage import NetworkStage
from pyd_contracts.network import NetworkRules
from pyd_contracts.values import Attachment, Passage, PublishedPort

__all__ = ["NetworkExplanations"]


class NetworkExplanations(NetworkGround):
    """Checks of `network_rules`."""

    def _explained(self, stage: NetworkStage, attachment: Attachment) -> Sequence[Passage]:
        driver = cast("NetworkRules", stage.driver)
        return driver.network_rules(attachment=attachment)

    def _need_rules(self) -> None:
        if "rules" not in self.capabilities:
            pytest.skip("the driver does not declare rules")

    @clause("NET-50", "each published port is told, and is let in")
    def test_published_ports_are_explained(self, stage: NetworkStage) -> None:
        self._need_rules()
        anywhere, here = ip_address("0.0.0.0"), ip_address("127.0.0.1")
        ports = (
            PublishedPort("tcp", anywhere, 18094, 80),
            PublishedPort("udp", here, 18095, 53),
            PublishedPort("tcp", anywhere, 18100, 18100, 20),
        )
        attachment = stage.attachment(stage.create(), 2, ports=ports if "ports" in self.capabilities else ())
        stage.driver.network_attach(attachment=attachment)
        told = {each.port: each for each in self._explained(stage, attachment) if each.port is not None}
        assert set(told) == set(attachment.ports)
        assert all(each.allowed and each.reason and each.sender and each.target for each in told.values())

    @clause("NET-50", "a port without a rule is told as closed")
    def test_missing_ports_are_explained(self, stage: NetworkStage) -> None:
        self._need_rules()
        if "ports" not in self.capabilities:
            pytest.skip("the driver does not declare ports")
        attachment = stage.attachment(stage.create(), 2)
        stage.driver.network_attach(attachment=attachment)
        port = PublishedPort("tcp", ip_address("0.0.0.0"), 18094, 80)
        (told,) = (each for each in self._explained(stage, replace(attachment, ports=(port,))) if each.port == port)
        assert not told.allowed
        assert told.reason

    @clause("NET-51", "ports that are not published")
    def test_other_ports_are_explained(self, stage: NetworkStage) -> None:
        self._need_rules()
        attachment = stage.attachment(stage.create(), 2)
        stage.driver.network_attach(attachment=attachment)
        before = self.seen()
        told = [each for each in self._explained(stage, attachment) if each.port is None]
        assert any(each.sender == "other hosts" and each.reason for each in told)
        assert self.seen() == before
