"""The network suite. A driver's author writes::

    @pytest.mark.root
    class TestIpvlan(NetworkContract):
        capabilities = frozenset({"masquerade"})

        def make(self, context: DriverContext) -> NetworkDriver:
            return IpvlanDriver(context.instance)

and runs pytest as root with iproute2 installed. Every test has a network namespace of its own that plays the host.
A driver without a kernel behind it sets ``kernel = False``: what can only be seen in a kernel is then skipped. Clauses
are those of `pyd_contracts.network`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.network_faults import NetworkFaults
from pyd_conformance.network_ports import NetworkPorts
from pyd_conformance.network_rules import NetworkExplanations
from pyd_conformance.network_shapes import NetworkShapes
from pyd_conformance.network_stage import Namespace, NetworkStage, eventually, ip_json, namespaces_of_threads, reaches
from pyd_conformance.network_upkeep import NetworkUpkeep
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, PydError
from pyd_contracts.values import Attached, Subnet

__all__ = ["Namespace", "NetworkContract", "NetworkStage"]


class NetworkContract(NetworkExplanations, NetworkFaults, NetworkPorts, NetworkShapes, NetworkUpkeep):
    """Base of a driver's test class; ``subject`` names the driver in the report (default: the class's name)."""

    # --- declared ------------------------------------------------------------------------------------------------

    def test_declares_the_capabilities_it_is_tested_for(self, stage: NetworkStage) -> None:
        assert getattr(stage.driver, "capabilities", None) == self.capabilities

    # --- networks ------------------------------------------------------------------------------------------------

    @clause("NET-10", "a second create changes nothing")
    def test_create_twice_is_once(self, stage: NetworkStage) -> None:
        network = stage.create()
        first = self.seen()

        record = stage.driver.network_create(network=network)

        assert self.seen() == first
        assert record == stage.driver.network_create(network=network)

    @clause("NET-10", "a create after a restart finds what is there, and attachments stay")
    def test_create_after_a_restart(self, stage: NetworkStage, context: DriverContext) -> None:
        network = stage.create()
        attachment = stage.attachment(network)
        stage.driver.network_attach(attachment=attachment)
        first = self.seen()
        again = self.make(context)

        again.network_create(network=network)

        assert self.seen() == first
        again.network_detach(attachment=attachment, attached=None)
        again.network_close()

    @clause("NET-11", "the record is text for people")
    def test_create_returns_a_record(self, stage: NetworkStage) -> None:
        network = stage.spec()

        record = stage.driver.network_create(network=network)

        stage.networks[network.id] = network
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in record.items())

    @clause("NET-12", "a subnet that cannot work is named")
    def test_create_names_the_subnet_that_cannot_work(self, stage: NetworkStage) -> None:
        impossible = Subnet(ip_network("10.77.9.0/24"), ip_address("10.78.0.1"))
        network = replace(stage.spec(9), subnets=(impossible,))

        with pytest.raises(InvalidArgument, match=r"10\.77\.9\.0/24"):
            stage.driver.network_create(network=network)

    @clause("NET-12", "what is in the way is named")
    def test_create_names_what_is_in_the_way(self, stage: NetworkStage) -> None:
        if "single" in self.capabilities:
            first = stage.create()
            with pytest.raises(Conflict, match=first.name):
                stage.driver.network_create(network=stage.spec(2))
            return
        self.need_wires()
        obstacle = self.obstruct(stage)
        before = self.seen()

        with pytest.raises(Conflict, match=obstacle):
            stage.driver.network_create(network=stage.spec(1))

        assert self.seen() == before

    @clause("NET-15", "nothing is left")
    def test_delete_leaves_nothing(self, stage: NetworkStage) -> None:
        before = self.seen()
        network = stage.create()

        stage.driver.network_delete(network=network)

        assert self.seen() == before

    @clause("NET-15", "what is not there is no error")
    def test_delete_of_what_is_not_there(self, stage: NetworkStage) -> None:
        network = stage.create()
        stage.driver.network_delete(network=network)

        stage.driver.network_delete(network=network)
        stage.driver.network_delete(network=stage.spec(7))

    # --- attach --------------------------------------------------------------------------------------------------

    @clause("NET-20", "the answer holds what was asked for")
    def test_attach_returns_what_it_did(self, stage: NetworkStage) -> None:
        network = stage.create()
        mac = "02:42:00:00:00:77" if stage.addressed and "shared-mac" not in self.capabilities else None
        attachment = stage.attachment(network, mac=mac)

        attached = stage.driver.network_attach(attachment=attachment)

        assert isinstance(attached, Attached)
        assert attached.addresses == attachment.addresses
        if stage.addressed:
            assert mac is None or attached.mac == mac
            assert [str(gateway) for gateway in attached.gateways] == ["10.77.1.1"]

    @clause("NET-20", "the interface is up, has its addresses, and the default route leads to the gateway")
    def test_the_namespace_after_attach(self, stage: NetworkStage) -> None:
        self.need_wires()
        network, inside = stage.create(), stage.namespace()
        attachment = stage.attachment(network, netns=inside.path, ifname="net7")

        attached = stage.driver.network_attach(attachment=attachment)

        (link,) = inside.ip("addr", "show", "dev", "net7")
        assert "UP" in link["flags"]
        assert link["address"] == attached.mac
        held = [(each["local"], each["prefixlen"]) for each in link["addr_info"] if each["scope"] == "global"]
        assert held == [("10.77.1.2", 24)]
        (route,) = inside.ip("route", "show", "default")
        assert (route["gateway"], route["dev"]) == ("10.77.1.1", "net7")

    @clause("NET-20", "an internal network has no default route")
    def test_an_internal_network_has_no_default_route(self, stage: NetworkStage) -> None:
        self.need_wires()
        network, inside = stage.create(internal=True), stage.namespace()

        attached = stage.driver.network_attach(attachment=stage.attachment(network, netns=inside.path))

        assert attached.gateways == ()
        assert inside.ip("route", "show", "default") == []

    @clause("NET-21", "containers of one network reach one another")
    def test_two_containers_reach_one_another(self, stage: NetworkStage) -> None:
        self.need_wires()
        network, one, two = stage.create(), stage.namespace(), stage.namespace()
        stage.driver.network_attach(attachment=stage.attachment(network, 2, netns=one.path))
        stage.driver.network_attach(attachment=stage.attachment(network, 3, netns=two.path))

        assert reaches(one.run, two.run, "10.77.1.3")
        assert reaches(two.run, one.run, "10.77.1.2")

    @clause("NET-22", "what is attached cannot be attached again")
    def test_attach_twice(self, stage: NetworkStage) -> None:
        network = stage.create()
        attachment = stage.attachment(network)
        attached = stage.driver.network_attach(attachment=attachment)
        before = self.seen()

        with pytest.raises(AlreadyExists):
            stage.driver.network_attach(attachment=attachment)

        assert self.seen() == before
        stage.driver.network_check(attachment=attachment, attached=attached)

    @clause("NET-22", "the network must be there")
    def test_attach_to_a_network_that_is_not_there(self, stage: NetworkStage) -> None:
        before = self.seen()

        with pytest.raises(NotFound):
            stage.driver.network_attach(attachment=stage.attachment(stage.spec(5)))

        assert self.seen() == before

    @clause("NET-22", "the namespace must be there")
    @clause("NET-23", "nothing is left of a failed attach")
    def test_attach_of_a_namespace_that_is_gone(self, stage: NetworkStage) -> None:
        network = stage.create()
        before = self.seen()
        attachment = stage.attachment(network, netns=stage.gone())

        with pytest.raises(NotFound):
            stage.driver.network_attach(attachment=attachment)

        assert self.seen() == before
        stage.driver.network_detach(attachment=attachment, attached=None)

    @clause("NET-22", "an address of another network is refused")
    @clause("NET-23", "nothing is left of a failed attach")
    def test_attach_with_a_foreign_address(self, stage: NetworkStage) -> None:
        self.need_addresses()
        network = stage.create()
        before = self.seen()
        attachment = stage.attachment(network, addresses=(ip_interface("10.99.0.2/24"),))

        with pytest.raises(InvalidArgument, match=r"10\.99\.0\.2"):
            stage.driver.network_attach(attachment=attachment)

        assert self.seen() == before

    @clause("NET-1", "an attach whose last step fails leaves nothing")
    @clause("NET-23", "nothing is left in either namespace")
    def test_a_failed_attach_leaves_nothing(self, stage: NetworkStage) -> None:
        self.need_wires()
        network, inside = stage.create(), stage.namespace()
        inside.ip("link", "add", "eth0", "type", "bridge")
        before, within = self.seen(), inside.ip("link")

        with pytest.raises(PydError):
            stage.driver.network_attach(attachment=stage.attachment(network, netns=inside.path))

        assert self.seen() == before
        assert inside.ip("link") == within

    # --- detach --------------------------------------------------------------------------------------------------

    @clause("NET-25", "detach takes the interface away; again is no error; attach works again")
    def test_detach_and_attach_again(self, stage: NetworkStage) -> None:
        network = stage.create()
        attachment = stage.attachment(network)
        before = self.seen()
        attached = stage.driver.network_attach(attachment=attachment)

        stage.driver.network_detach(attachment=attachment, attached=attached)
        stage.driver.network_detach(attachment=attachment, attached=attached)
        stage.driver.network_detach(attachment=attachment, attached=None)

        eventually(lambda: self.seen() == before, "the host is as before the attach")
        again = stage.driver.network_attach(attachment=attachment)
        stage.driver.network_check(attachment=attachment, attached=again)

    @clause("NET-25", "detach succeeds when the namespace is gone, and the attachment may come again")
    def test_detach_after_the_namespace(self, stage: NetworkStage) -> None:
        network = stage.create()
        inside = stage.namespace() if self.kernel and stage.own else None
        attachment = stage.attachment(network, netns=inside.path) if inside is not None else stage.attachment(network)
        attached = stage.driver.network_attach(attachment=attachment)
        if inside is not None:
            inside.close()
        gone = replace(attachment, netns=stage.gone())

        stage.driver.network_detach(attachment=gone, attached=attached)
        stage.driver.network_detach(attachment=gone, attached=None)

        again = replace(attachment, netns=stage.netns())
        stage.driver.network_check(attachment=again, attached=stage.driver.network_attach(attachment=again))

    # --- the host ------------------------------------------------------------------------------------------------

    @clause("NET-2", "what was there before stays as it was, and all of ours goes")
    def test_the_host_is_left_alone(self, stage: NetworkStage) -> None:
        if not self.kernel:
            pytest.skip("the driver has no kernel behind it")
        ip_json("link", "add", "theirs", "type", "bridge")
        ip_json("addr", "add", "192.0.2.1/24", "dev", "theirs")
        ip_json("link", "set", "theirs", "up")
        before, theirs = self.seen(), ip_json("addr", "show", "dev", "theirs")

        network = stage.create()
        attachment = stage.attachment(network)
        attached = stage.driver.network_attach(attachment=attachment)
        during = ip_json("addr", "show", "dev", "theirs")
        stage.driver.network_detach(attachment=attachment, attached=attached)
        stage.driver.network_delete(network=network)
        stage.driver.network_close()

        assert during == theirs
        assert self.seen() == before

    @clause("NET-3", "every thread is where it was")
    def test_no_thread_is_left_elsewhere(self, stage: NetworkStage) -> None:
        here = os.readlink("/proc/thread-self/ns/net")
        before = namespaces_of_threads()
        network = stage.create()
        attachment = stage.attachment(network)

        attached = stage.driver.network_attach(attachment=attachment)
        stage.driver.network_check(attachment=attachment, attached=attached)
        stage.driver.network_gc(network=network, valid=[attachment])
        stage.driver.network_detach(attachment=attachment, attached=attached)
        stage.driver.network_delete(network=network)

        eventually(lambda: namespaces_of_threads() == before, "all threads are in the namespace they began in")
        assert os.readlink("/proc/thread-self/ns/net") == here
