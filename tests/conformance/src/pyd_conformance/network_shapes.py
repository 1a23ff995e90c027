"""The part of the network suite about what attachments can be like: IPv6, MAC addresses, several networks, many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.network_ground import NetworkGround
from pyd_conformance.network_stage import Namespace, NetworkStage, eventually, reaches
from pyd_contracts.context import DriverContext
from pyd_contracts.errors import FailedPrecondition, InvalidArgument
from pyd_contracts.values import Attached, NetworkSpec, Subnet

__all__ = ["NetworkShapes"]

_MANY = 12
_IPV6 = Subnet(ip_network("fd77:1::/64"), ip_address("fd77:1::1"))


class NetworkShapes(NetworkGround):
    """Checks of attachments of every shape."""

    def _both(self, stage: NetworkStage, **changes: Any) -> NetworkSpec:
        """A network with addresses of both families."""
        self.need_addresses()
        return stage.create(subnets=(*stage.spec().subnets, _IPV6), **changes)

    @clause("NET-20", "addresses of both families are asked for and told")
    def test_both_families(self, stage: NetworkStage) -> None:
        attachment = stage.attachment(self._both(stage))

        attached = stage.driver.network_attach(attachment=attachment)

        assert attached.addresses == attachment.addresses
        assert [str(gateway) for gateway in attached.gateways] == ["10.77.1.1", "fd77:1::1"]
        stage.driver.network_check(attachment=attachment, attached=attached)

    @clause("NET-20", "addresses and default routes of both families are in the namespace, and usable at once")
    def test_the_namespace_has_both_families(self, stage: NetworkStage) -> None:
        self.need_wires()
        network, inside = self._both(stage), stage.namespace()

        attached = stage.driver.network_attach(attachment=stage.attachment(network, netns=inside.path))

        assert _state(inside, "eth0") == _told(attached)
        (link,) = inside.ip("addr", "show", "dev", "eth0")
        assert not any(each.get("tentative") for each in link["addr_info"] if each["scope"] == "global")
        (route,) = inside.ip("-6", "route", "show", "default")
        assert (route["gateway"], route["dev"]) == ("fd77:1::1", "eth0")

    @clause("NET-20", "an internal network has no default route of either family")
    def test_an_internal_network_of_both_families(self, stage: NetworkStage) -> None:
        self.need_wires()
        network, inside = self._both(stage, internal=True), stage.namespace()

        attached = stage.driver.network_attach(attachment=stage.attachment(network, netns=inside.path))

        assert attached.gateways == ()
        assert inside.ip("-6", "route", "show", "default") == []

    @clause("NET-21", "containers of one network reach one another by IPv6 too")
    def test_containers_reach_one_another_by_ipv6(self, stage: NetworkStage) -> None:
        self.need_wires()
        network, one, two = self._both(stage), stage.namespace(), stage.namespace()
        stage.driver.network_attach(attachment=stage.attachment(network, 2, netns=one.path))
        stage.driver.network_attach(attachment=stage.attachment(network, 3, netns=two.path))

        assert reaches(one.run, two.run, "fd77:1::3")

    @clause("NET-20", "what the answer says is what the kernel has")
    @pytest.mark.parametrize("mac", [None, "02:42:00:00:00:77"], ids=["any-mac", "static-mac"])
    def test_the_answer_is_what_the_kernel_has(self, stage: NetworkStage, mac: str | None) -> None:
        self.need_wires()
        if mac is not None and "shared-mac" in self.capabilities:
            pytest.skip("the driver declares shared-mac")
        network, inside = stage.create(), stage.namespace()

        attached = stage.driver.network_attach(attachment=stage.attachment(network, mac=mac, netns=inside.path))

        assert _state(inside, "eth0") == _told(attached)

    @clause("NET-20", "link-local addresses beside the network's")
    def test_link_local_addresses(self, stage: NetworkStage) -> None:
        self.need_wires()
        network, inside = stage.create(), stage.namespace()
        more = (ip_interface("169.254.7.7/16"), ip_interface("fe80::7/64"))
        attachment = stage.attachment(network, netns=inside.path, link_local=more)

        attached = stage.driver.network_attach(attachment=attachment)

        (link,) = inside.ip("addr", "show", "dev", "eth0")
        held = {f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"]}
        assert {"10.77.1.2/24", "169.254.7.7/16", "fe80::7/64"} <= held
        assert attached.addresses == attachment.addresses
        stage.driver.network_check(attachment=attachment, attached=attached)
        inside.ip("addr", "del", "169.254.7.7/16", "dev", "eth0")
        with pytest.raises(FailedPrecondition, match=r"169\.254\.7\.7"):
            stage.driver.network_check(attachment=attachment, attached=attached)

    @clause("NET-22", "a MAC address that can be nobody's is refused")
    @clause("NET-23", "nothing is left of a failed attach")
    @pytest.mark.parametrize("mac", ["nonsense", "01:00:5e:00:00:01", "00:00:00:00:00:00", "02:42:00:00:00"])
    def test_attach_with_an_impossible_mac(self, stage: NetworkStage, mac: str) -> None:
        network = stage.create()
        before = self.seen()

        with pytest.raises(InvalidArgument):
            stage.driver.network_attach(attachment=stage.attachment(network, mac=mac))

        assert self.seen() == before

    @clause("NET-20", "on several networks one default route leads out, and another one when its network goes")
    def test_a_container_on_two_networks(self, stage: NetworkStage) -> None:
        self.need_wires()
        self.need_second_network()
        inside = stage.namespace()
        first = stage.attachment(stage.create(1), netns=inside.path)
        second = replace(stage.attachment(stage.create(2), netns=inside.path), ifname="eth1")

        attached = stage.driver.network_attach(attachment=first)
        other = stage.driver.network_attach(attachment=second)

        leading = min(inside.ip("route", "show", "default"), key=lambda route: int(route.get("metric", 0)))
        assert leading["dev"] in ("eth0", "eth1")
        stage.driver.network_check(attachment=first, attached=attached)
        stage.driver.network_check(attachment=second, attached=other)
        stage.driver.network_detach(attachment=first, attached=attached)
        eventually(
            lambda: {route["dev"] for route in inside.ip("route", "show", "default")} == {"eth1"},
            "the other network leads out",
        )

    @clause("NET-3", "many attach at once, and each is whole")
    @clause("NET-25", "many detach at once, and nothing is left")
    def test_many_at_once(self, stage: NetworkStage) -> None:
        network = stage.create()
        before = self.seen()
        wanted = [stage.attachment(network, host) for host in range(2, 2 + _MANY)]
        if not stage.own:
            wanted = [replace(each, ifname=f"eth{place}") for place, each in enumerate(wanted)]

        call = stage.driver
        with ThreadPoolExecutor(_MANY) as pool:  # threads inherit the namespace of the one that starts them
            attached = list(pool.map(lambda each: call.network_attach(attachment=each), wanted))
            pairs = list(zip(wanted, attached, strict=True))
            list(pool.map(lambda pair: call.network_check(attachment=pair[0], attached=pair[1]), pairs))
            list(pool.map(lambda pair: call.network_detach(attachment=pair[0], attached=pair[1]), pairs))

        eventually(lambda: self.seen() == before, "nothing is left of many")

    # --- after a restart ---------------------------------------------------------------------------------------------

    @clause("NET-25", "what an earlier driver attached is detached without a record")
    def test_detach_after_a_restart(self, stage: NetworkStage, context: DriverContext) -> None:
        network = stage.create()
        before = self.seen()
        attachment = stage.attachment(network)
        stage.driver.network_attach(attachment=attachment)
        self.restart(stage, context, network)

        stage.driver.network_detach(attachment=attachment, attached=None)

        eventually(lambda: self.seen() == before, "nothing is left of it")
        stage.driver.network_attach(attachment=attachment)

    @clause("NET-35", "what an earlier driver attached is found, and goes or stays")
    def test_gc_after_a_restart(self, stage: NetworkStage, context: DriverContext) -> None:
        network = stage.create()
        kept, stranger = stage.attachment(network, 2), stage.attachment(network, 3)
        attached = stage.driver.network_attach(attachment=kept)
        stage.driver.network_attach(attachment=stranger)
        self.restart(stage, context, network)

        removed = stage.driver.network_gc(network=network, valid=[kept])

        if self.remembers:
            assert len(removed) == 1
            stage.driver.network_check(attachment=kept, attached=attached)
        stage.driver.network_attach(attachment=stranger)

    @clause("NET-15", "attachments go with their network")
    def test_delete_with_attachments(self, stage: NetworkStage) -> None:
        before = self.seen()
        network = stage.create()
        attachment = stage.attachment(network)
        stage.driver.network_attach(attachment=attachment)

        stage.driver.network_delete(network=network)

        eventually(lambda: self.seen() == before, "nothing is left of the network")
        stage.driver.network_create(network=network)
        assert list(stage.driver.network_gc(network=network, valid=[])) == []
        stage.driver.network_detach(attachment=attachment, attached=None)
        stage.driver.network_attach(attachment=attachment)

    @clause("NET-25", "what was never attached is no error")
    def test_detach_of_what_was_never_attached(self, stage: NetworkStage) -> None:
        network = stage.create()
        before = self.seen()

        stage.driver.network_detach(attachment=stage.attachment(network), attached=None)
        stage.driver.network_detach(attachment=stage.attachment(stage.spec(8)), attached=None)

        assert self.seen() == before


def _state(inside: Namespace, name: str) -> tuple[str, set[str], set[str]]:
    """MAC address, addresses and gateways of an interface, as the kernel has them."""
    (link,) = inside.ip("addr", "show", "dev", name)
    held = {f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"] if each["scope"] == "global"}
    routes = [*inside.ip("route", "show", "default"), *inside.ip("-6", "route", "show", "default")]
    return link["address"], held, {route["gateway"] for route in routes if "gateway" in route}


def _told(attached: Attached) -> tuple[str, set[str], set[str]]:
    return attached.mac, {str(each) for each in attached.addresses}, {str(each) for each in attached.gateways}
