"""The suites for networks and addresses themselves: every clause has a test, and every kind of broken driver is caught."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from pyd_conformance.clauses import documented, proved
from pyd_conformance.fakes.network import FakeNetwork
from pyd_conformance.ipam import IpamContract
from pyd_conformance.network import NetworkContract
from pyd_conformance.network_stage import NetworkStage
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import PydError
from pyd_contracts.ipam import IpamDriver
from pyd_contracts.markers import hookimpl
from pyd_contracts.network import NetworkDriver, NetworkRules
from pyd_contracts.values import Attached, Attachment, NetworkSpec


def test_every_clause_has_a_test_and_every_test_a_clause() -> None:
    assert set(proved(NetworkContract)) == set(documented(NetworkDriver)) | set(documented(NetworkRules))
    assert set(proved(IpamContract)) == set(documented(IpamDriver))


def test_there_are_enough_checks() -> None:
    assert len({test for names in proved(NetworkContract).values() for test in names}) >= 30


# --- drivers that break one promise each ------------------------------------------------------------------------------


class _TakesAnyAddress(FakeNetwork):
    @hookimpl
    def network_attach(self, attachment: Attachment) -> Attached:
        """Says yes to addresses of other networks."""
        attached = super().network_attach(replace(attachment, addresses=attachment.addresses[:0]))
        return replace(attached, addresses=attachment.addresses)


class _ChoosesAddresses(FakeNetwork):
    @hookimpl
    def network_attach(self, attachment: Attachment) -> Attached:
        """Answers with an address that nobody asked for."""
        return replace(super().network_attach(attachment), addresses=(ip_interface("10.1.2.3/24"),))


class _AttachesAgain(FakeNetwork):
    @hookimpl
    def network_attach(self, attachment: Attachment) -> Attached:
        """Replaces what is there."""
        self.attachments.pop((attachment.container, attachment.ifname), None)
        return super().network_attach(attachment)


class _DetachesOnce(FakeNetwork):
    @hookimpl
    def network_detach(self, attachment: Attachment, attached: Attached | None) -> None:
        """Fails when nothing is left."""
        del self.attachments[attachment.container, attachment.ifname]


class _Collects(FakeNetwork):
    @hookimpl
    def network_gc(self, network: NetworkSpec, valid: Collection[Attachment]) -> Sequence[str]:
        """Removes the attachments of other networks as well."""
        keep = {(each.container, each.ifname) for each in valid}
        strangers = [key for key in self.attachments if key not in keep]
        return [self.attachments.pop(key)[1].host_ifname for key in strangers]


class _LeavesAttachments(FakeNetwork):
    @hookimpl
    def network_delete(self, network: NetworkSpec) -> None:
        """Forgets the network and not what is on it."""
        self.networks.pop(network.id, None)


class _SeesNothing(FakeNetwork):
    @hookimpl
    def network_check(self, attachment: Attachment, attached: Attached) -> None:
        """Finds nothing well."""
        raise AssertionError("nothing is well")


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (_TakesAnyAddress, "test_attach_with_a_foreign_address"),
        (_ChoosesAddresses, "test_attach_returns_what_it_did"),
        (_AttachesAgain, "test_attach_twice"),
        (_DetachesOnce, "test_detach_of_what_was_never_attached"),
        (_DetachesOnce, "test_detach_and_attach_again"),
        (_Collects, "test_gc_keeps_other_networks"),
        (_LeavesAttachments, "test_delete_with_attachments"),
        (_SeesNothing, "test_check_is_silent"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value,
)
def test_a_broken_driver_is_caught(broken: type[FakeNetwork], test: str, tmp_path: Path) -> None:
    class Contract(NetworkContract):
        capabilities = frozenset({"masquerade", "ports"})
        kernel = False

        def make(self, context: DriverContext) -> FakeNetwork:
            return broken()

    context = DriverContext("test", tmp_path, tmp_path, {}, logging.getLogger("pyd.test"), instance="c0ffee01")
    contract = Contract()
    stage = NetworkStage(contract.make(context), addressed=True, kernel=False, own=True, scratch=tmp_path)

    with pytest.raises((AssertionError, pytest.fail.Exception, PydError, KeyError)):
        getattr(contract, test)(stage)
