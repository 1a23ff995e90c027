"""The part of the network suite about faults: every hook is made to fail, and to die, at every thing it asks of the kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.faults import NETWORK_CALLS, crashing, failing
from pyd_conformance.network_ground import NetworkGround
from pyd_conformance.network_stage import NetworkStage, eventually
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import PydError
from pyd_contracts.network import NetworkDriver
from pyd_contracts.values import Attachment

__all__ = ["NetworkFaults"]

_MANY = 120  # a hook that asks more than this of the kernel for one attachment has no end

Hook = Callable[[NetworkDriver, Attachment], object]

# Hook, whether the network is there before, whether the container is attached before.
_HOOKS: dict[str, tuple[Hook, bool, bool]] = {
    "create": (lambda driver, it: driver.network_create(network=it.network), False, False),
    "attach": (lambda driver, it: driver.network_attach(attachment=it), True, False),
    "detach": (lambda driver, it: driver.network_detach(attachment=it, attached=None), True, True),
    "gc": (lambda driver, it: driver.network_gc(network=it.network, valid=[]), True, True),
    "delete": (lambda driver, it: driver.network_delete(network=it.network), True, False),
}


class NetworkFaults(NetworkGround):
    """Clauses about faults."""

    @clause("NET-1", "an attach that fails at any point raises one of the family and leaves nothing")
    @clause("NET-23", "nothing is left in either namespace")
    def test_an_attach_that_fails_anywhere_leaves_nothing(self, stage: NetworkStage) -> None:
        network = stage.create()
        before = self.seen()
        inside = stage.namespace() if self.kernel and stage.own else None
        attachment = stage.attachment(network, netns=inside.path if inside else stage.netns())
        for nth in range(1, _MANY):
            error = None
            with failing(nth, NETWORK_CALLS) as plan:
                try:
                    stage.driver.network_attach(attachment=attachment)
                except PydError as raised:
                    error = raised
            if error is not None:
                eventually(lambda: self.seen() == before, f"nothing is left of a failure at {nth}: {error}")
                if inside is not None:
                    assert {link["ifname"] for link in inside.ip("link")} == {"lo"}
            stage.driver.network_detach(attachment=attachment, attached=None)
            eventually(lambda: self.seen() == before, f"nothing is left after the detach at {nth}")
            if not plan.reached:
                break
        else:
            pytest.fail(f"attach did not end within {_MANY} changes")

    @pytest.mark.parametrize("hook", sorted(_HOOKS))
    @clause("NET-10", "what died is brought back into line by the next create")
    @clause("NET-25", "what died is taken away by the next detach")
    @clause("NET-35", "what died and nobody vouches for is removed")
    def test_a_hook_that_died_may_be_repeated(self, stage: NetworkStage, context: DriverContext, hook: str) -> None:
        run, created, attached = _HOOKS[hook]
        before = self.seen()
        attachment = stage.attachment(stage.spec())
        network = attachment.network
        for nth in range(1, _MANY):
            if created:
                stage.create()
            if attached:
                stage.driver.network_attach(attachment=attachment)

            with crashing(nth, NETWORK_CALLS) as plan:
                run(stage.driver, attachment)

            self.restart(stage, context, network)
            stage.driver.network_detach(attachment=attachment, attached=None)
            stage.driver.network_gc(network=network, valid=[])
            again = stage.driver.network_attach(attachment=attachment)
            stage.driver.network_check(attachment=attachment, attached=again)
            stage.driver.network_delete(network=network)
            eventually(lambda: self.seen() == before, f"nothing is left of dying at {nth}")
            if not plan.reached:
                break
        else:
            pytest.fail(f"{hook} did not end within {_MANY} changes")
