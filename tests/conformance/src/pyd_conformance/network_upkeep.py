"""The part of the network suite about attachments that are there: check, gc and close (NET-30 to NET-40)."""

from __future__ import annotations

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.network_ground import NetworkGround
from pyd_conformance.network_stage import NetworkStage, reaches
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import FailedPrecondition
from pyd_contracts.values import Attachment

__all__ = ["NetworkUpkeep"]


class NetworkUpkeep(NetworkGround):
    """Checks of what stands, and of its end."""

    # --- check ---------------------------------------------------------------------------------------------------

    @clause("NET-30", "silence means all is well")
    def test_check_is_silent(self, stage: NetworkStage) -> None:
        network = stage.create()
        attachment = stage.attachment(network)

        attached = stage.driver.network_attach(attachment=attachment)

        stage.driver.network_check(attachment=attachment, attached=attached)

    @clause("NET-30", "what is missing is said")
    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            ("addr flush dev eth0", r"10\.77\.1\.2"),
            ("link set eth0 down", "eth0"),
            ("link set eth0 down; link set eth0 name eth9", "eth0"),
            ("link del eth0", "eth0"),
            ("link set eth0 address 02:42:00:00:00:99", "02:42:00:00:00:99"),
            ("route del default", r"10\.77\.1\.1"),
            ("route replace default via 10.77.1.9", r"10\.77\.1\.1"),
        ],
        ids=["address", "down", "renamed", "deleted", "mac", "route", "other-route"],
    )
    def test_check_says_what_is_wrong(self, stage: NetworkStage, damage: str, words: str) -> None:
        self.need_wires()
        if "address 02" in damage and "shared-mac" in self.capabilities:
            pytest.skip("the driver declares shared-mac")
        network, inside = stage.create(), stage.namespace()
        attachment = stage.attachment(network, netns=inside.path)
        attached = stage.driver.network_attach(attachment=attachment)
        for command in damage.split("; "):
            inside.ip(*command.split())

        with pytest.raises(FailedPrecondition, match=words):
            stage.driver.network_check(attachment=attachment, attached=attached)

    # --- gc and close --------------------------------------------------------------------------------------------

    @clause("NET-35", "attachments nobody vouches for go, the others stay")
    def test_gc_removes_strangers(self, stage: NetworkStage) -> None:
        network = stage.create()
        kept, stranger = stage.attachment(network, 2), stage.attachment(network, 3)
        attached = stage.driver.network_attach(attachment=kept)
        stage.driver.network_attach(attachment=stranger)

        removed = stage.driver.network_gc(network=network, valid=[kept])

        assert len(removed) == 1
        assert all(isinstance(name, str) for name in removed)
        stage.driver.network_check(attachment=kept, attached=attached)
        assert stage.driver.network_gc(network=network, valid=[kept]) in ([], ())
        stage.driver.network_attach(attachment=stranger)

    @clause("NET-35", "attachments of other networks stay")
    def test_gc_keeps_other_networks(self, stage: NetworkStage) -> None:
        self.need_second_network()
        one, two = stage.create(1), stage.create(2)
        other: Attachment = stage.attachment(two, 3)
        attached = stage.driver.network_attach(attachment=other)

        assert list(stage.driver.network_gc(network=one, valid=[])) == []
        stage.driver.network_check(attachment=other, attached=attached)

    @clause("NET-40", "twice is once")
    def test_close_twice(self, stage: NetworkStage) -> None:
        stage.create()

        stage.driver.network_close()
        stage.driver.network_close()

    @clause("NET-40", "what is attached keeps its connections")
    def test_close_keeps_attachments(self, stage: NetworkStage, context: DriverContext) -> None:
        self.need_wires()
        network, one, two = stage.create(), stage.namespace(), stage.namespace()
        first = stage.attachment(network, 2, netns=one.path)
        attached = stage.driver.network_attach(attachment=first)
        stage.driver.network_attach(attachment=stage.attachment(network, 3, netns=two.path))

        stage.driver.network_close()

        assert reaches(one.run, two.run, "10.77.1.3")
        stage.driver = self.make(context)
        stage.driver.network_create(network=network)
        stage.driver.network_check(attachment=first, attached=attached)
