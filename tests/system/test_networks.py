"""Networks over the API: what is asked for is what is there; what cannot be has Docker's status and leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from clients import IMAGE
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

_SUBNET = {"Config": [{"Subnet": "10.95.0.0/29", "Gateway": "10.95.0.1"}]}


class Api:
    """Requests to one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status, and the document or None."""
        content = None if body is None else json.dumps(body).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        with closing(self._daemon.api()) as connection:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            text = answer.read()
        return answer.status, json.loads(text) if text.strip() else None

    def network(self, name: str, **more: Any) -> str:
        """A network's id."""
        status, document = self("POST", "/networks/create", {"Name": name, **more})
        assert status == 201, document
        return str(document["Id"])

    def container(self, name: str, networks: dict[str, Any], **more: Any) -> str:
        """The id of a container that runs."""
        body = {
            "Image": IMAGE,
            "Cmd": ["sleep", "1000"],
            "HostConfig": {"NetworkMode": next(iter(networks))},
            "NetworkingConfig": {"EndpointsConfig": networks},
            **more,
        }
        status, document = self("POST", f"/containers/create?name={name}", body)
        assert status == 201, document
        status, failure = self("POST", f"/containers/{document['Id']}/start")
        assert status == 204, failure
        return str(document["Id"])

    def names(self, **filters: list[str]) -> set[str]:
        """Networks that the filters leave."""
        _, found = self("GET", f"/networks?filters={json.dumps(filters).replace(' ', '')}")
        return {each["Name"] for each in found}


@pytest.fixture
def api(pydd: Daemon, warm: str) -> Api:
    return Api(pydd)


@pytest.fixture
def net(api: Api, name: str) -> Iterator[str]:
    """A small network that a user made."""
    api.network(name, IPAM=_SUBNET)
    yield name
    assert api("DELETE", f"/networks/{name}")[0] == 204


# --- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"Name": ""}, 400, "Name"),
        ({"Name": "a/b"}, 400, "a/b"),
        ({"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network"),
        ({"Name": "NET"}, 409, "network with name NET already exists"),
        ({"Name": "n", "Driver": "nope"}, 404, 'plugin "nope" not found'),
        ({"Name": "n", "Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
        ({"Name": "n", "IPAM": {"Driver": "nope"}}, 404, 'plugin "nope" not found'),
        ({"Name": "n", "IPAM": {"Options": {"nope": "1"}}}, 400, "nope"),
        ({"Name": "n", "IPAM": {"Config": [{"Subnet": "nonsense"}]}}, 400, "nonsense"),
        ({"Name": "n", "IPAM": {"Config": [{"Subnet": "10.95.0.0/16"}]}}, 403, "10.95.0.0/29"),
        ({"Name": "n", "IPAM": {"Config": [{"Subnet": "10.96.0.0/24", "Gateway": "10.97.0.1"}]}}, 400, "10.97.0.1"),
        ({"Name": "n", "IPAM": {"Config": [{"Subnet": "10.96.0.0/24", "IPRange": "10.97.0.0/25"}]}}, 400, "10.97.0.0/25"),
        ({"Name": "n", "IPAM": {"Config": [{"Gateway": "10.96.0.1"}]}}, 400, "need a subnet"),
        ({"Name": "n", "IPAM": {"Config": [{"Subnet": "fd00:96::/64"}]}}, 400, "IPv6"),
        ({"Name": "n", "EnableIPv4": False}, 400, "IPv4 or IPv6 must be enabled"),
        ({"Name": "n", "Ingress": True}, 403, "Ingress network can only be global scope network"),
        ({"Name": "n", "Scope": "swarm"}, 503, "not a swarm manager"),
        ({"Name": "n", "ConfigFrom": {"Network": "nope"}}, 404, 'configuration network "nope" does not exist'),
        ({"Name": "n", "ConfigOnly": True, "Internal": True}, 403, "network specific fields"),
        ({"Name": "n", "Driver": "macvlan", "Options": {"parent": "nocard"}}, 400, "invalid subinterface vlan name nocard"),
        ({"Name": "n", "Options": {"com.docker.network.driver.mtu": "x"}}, 400, "com.docker.network.driver.mtu"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be(api: Api, net: str, body: dict[str, Any], status: int, words: str) -> None:
    before = api.names()

    found, document = api("POST", "/networks/create", {**body, "Name": net if body["Name"] == "NET" else body["Name"]})

    assert (found, words.replace("NET", net) in document["message"]) == (status, True), document
    assert api.names() == before


@pytest.mark.parametrize(
    ("endpoint", "status", "words"),
    [
        ({"IPAMConfig": {"IPv4Address": "10.96.0.2"}}, 400, "10.96.0.2"),
        ({"IPAMConfig": {"IPv4Address": "10.95.0.1"}}, 403, "Address already in use"),
        ({"IPAMConfig": {"IPv4Address": "10.95.0.2"}}, 403, "Address already in use"),
        ({"IPAMConfig": {"IPv4Address": "x"}}, 400, "x"),
        ({"IPAMConfig": {"IPv6Address": "fd00::2"}}, 400, "fd00::2"),
        ({"IPAMConfig": {"LinkLocalIPs": ["10.0.0.1"]}}, 400, "invalid link-local IP address: 10.0.0.1"),
        ({"MacAddress": "nonsense"}, 400, "nonsense"),
        ({"MacAddress": "01:00:5e:00:00:01"}, 400, "01:00:5e:00:00:01"),
    ],
)
def test_places_that_cannot_be(api: Api, net: str, name: str, endpoint: Any, status: int, words: str) -> None:
    first = api.container(f"{name}-a", {net: {}})
    second = api.container(f"{name}-b", {"bridge": {}})
    try:
        before = api("GET", f"/networks/{net}")
        found, document = api("POST", f"/networks/{net}/connect", {"Container": second, "EndpointConfig": endpoint})
        assert (found, words in document["message"]) == (status, True), document
        assert api("GET", f"/networks/{net}") == before
        assert api("POST", f"/networks/{net}/connect", {"Container": second})[0] == 200
    finally:
        for container in (first, second):
            api("DELETE", f"/containers/{container}?force=1")


def test_a_network_in_use_stays_and_connecting_twice_is_refused(api: Api, net: str, name: str) -> None:
    box = api.container(name, {net: {}})
    try:
        status, document = api("DELETE", f"/networks/{net}")
        assert (status, "has active endpoints" in document["message"]) == (403, True)
        status, document = api("POST", f"/networks/{net}/connect", {"Container": box})
        assert (status, f"already exists in network {net}" in document["message"]) == (403, True)
        assert api("POST", f"/networks/{net}/disconnect", {"Container": "nope"})[0] == 404
        assert api("POST", "/networks/nope/disconnect", {"Container": box})[0] == 404
    finally:
        api("DELETE", f"/containers/{box}?force=1")


def test_a_network_that_is_full_says_so_and_has_room_again(api: Api, net: str, name: str) -> None:
    boxes = [api.container(f"{name}-{number}", {net: {}}) for number in range(5)]
    try:
        _, made = api(
            "POST", f"/containers/create?name={name}-more", {"Image": IMAGE, "HostConfig": {"NetworkMode": net}}
        )
        boxes.append(made["Id"])
        status, document = api("POST", f"/containers/{made['Id']}/start")
        assert status == 500
        assert f"no available IPv4 addresses on this network's address pools: {net}" in document["message"]
        assert api("DELETE", f"/containers/{boxes.pop(2)}?force=1")[0] == 204
        assert api("POST", f"/containers/{made['Id']}/start")[0] == 204
        _, shown = api("GET", f"/containers/{made['Id']}/json")
        assert shown["NetworkSettings"]["Networks"][net]["IPAddress"] == "10.95.0.4"
    finally:
        for box in boxes:
            api("DELETE", f"/containers/{box}?force=1")


def test_places_beside_the_host_and_none(api: Api, net: str, name: str) -> None:
    for mode in ("host", "none"):
        body = {"Image": IMAGE, "HostConfig": {"NetworkMode": mode}}
        status, document = api(
            "POST", f"/containers/create?name={name}",
            {**body, "NetworkingConfig": {"EndpointsConfig": {mode: {}, net: {}}}},
        )  # fmt: skip
        assert (status, f"beside {mode}" in document["message"]) == (403, True)
        wishes = {"IPAMConfig": {"IPv4Address": "10.95.0.3"}}
        status, document = api(
            "POST", f"/containers/create?name={name}", {**body, "NetworkingConfig": {"EndpointsConfig": {mode: wishes}}}
        )
        assert (status, "user defined networks only" in document["message"]) == (400, True)


def test_what_a_stopped_container_cannot_have_is_said_at_once(api: Api, name: str) -> None:
    """And it leaves networks that are gone."""
    api.network(name)
    _, made = api("POST", f"/containers/create?name={name}", {"Image": IMAGE})
    try:
        asked = {"Container": made["Id"], "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.1.1.1"}}}
        status, document = api("POST", f"/networks/{name}/connect", asked)
        assert (status, "with user configured subnets" in document["message"]) == (400, True)
        assert api("POST", f"/networks/{name}/connect", {"Container": made["Id"]})[0] == 200
    finally:
        assert api("DELETE", f"/networks/{name}")[0] == 204
    assert api("POST", f"/containers/{made['Id']}/start")[0] == 404
    assert api("POST", f"/networks/{name}/disconnect", {"Container": made["Id"]})[0] == 200
    assert api("POST", f"/networks/{name}/disconnect", {"Container": made["Id"]})[0] == 404
    assert api("POST", f"/containers/{made['Id']}/start")[0] == 204
    api("DELETE", f"/containers/{made['Id']}?force=1")


# --- what can ----------------------------------------------------------------------------------------------------------


def test_a_container_is_made_on_several_networks_at_once(api: Api, net: str, name: str) -> None:
    other = f"{net}-6"
    api.network(other, EnableIPv4=False, EnableIPv6=True, IPAM={"Config": [{"Subnet": "fd00:95::/64"}]})
    places: dict[str, Any] = {
        net: {"IPAMConfig": {"IPv4Address": "10.95.0.5", "LinkLocalIPs": ["169.254.7.7"]}, "Aliases": ["one"]},
        other: {"IPAMConfig": {"IPv6Address": "fd00:95::77"}, "MacAddress": "02:42:00:00:00:77", "GwPriority": 5},
    }
    box = api.container(name, places)
    try:
        _, shown = api("GET", f"/containers/{box}/json")
        found = shown["NetworkSettings"]["Networks"]
        assert found[net]["IPAMConfig"] == places[net]["IPAMConfig"]
        assert (found[net]["IPAddress"], found[net]["Gateway"]) == ("10.95.0.5", "10.95.0.1")
        assert found[other]["GlobalIPv6Address"] == "fd00:95::77"
        assert (found[other]["IPAddress"], found[other]["IPv6Gateway"]) == ("", "fd00:95::1")
        assert (found[other]["MacAddress"], found[other]["GwPriority"]) == ("02:42:00:00:00:77", 5)
        assert {"one", name, box[:12]} <= set(found[net]["DNSNames"])
    finally:
        api("DELETE", f"/containers/{box}?force=1")
        api("DELETE", f"/networks/{other}")


def test_a_network_made_of_a_configuration(api: Api, name: str) -> None:
    conf = f"{name}-conf"
    api.network(conf, ConfigOnly=True, IPAM={"Config": [{"Subnet": "10.94.0.0/24"}]}, Labels={"a": "b"})
    made = api.network(name, ConfigFrom={"Network": conf})
    try:
        _, shown = api("GET", f"/networks/{made}")
        assert shown["IPAM"]["Config"] == [{"Subnet": "10.94.0.0/24", "Gateway": "10.94.0.1"}]
        assert (shown["ConfigFrom"], shown["ConfigOnly"], shown["Labels"]) == ({"Network": conf}, False, {"a": "b"})
        status, document = api("DELETE", f"/networks/{conf}")
        assert (status, f'configuration network "{conf}" is in use' in document["message"]) == (403, True)
    finally:
        assert api("DELETE", f"/networks/{name}")[0] == 204
        assert api("DELETE", f"/networks/{conf}")[0] == 204


def test_filters(api: Api, net: str) -> None:
    assert net in api.names(name=[net])
    assert api.names(name=[net], driver=["macvlan"]) == set()
    assert api.names(name=[net], dangling=["true"]) == {net}
    assert api.names(name=[net], scope=["local"], type=["custom"]) == {net}
    assert api.names(name=[net], type=["builtin"]) == set()
    status, document = api("GET", '/networks?filters={"nope":["x"]}')
    assert (status, "nope" in document["message"]) == (400, True)


def test_events(api: Api, pydd: Daemon, name: str) -> None:
    with closing(pydd.api()) as connection:
        connection.request("GET", '/events?filters={"type":["network"]}')
        answer = connection.getresponse()
        made = api.network(name)
        box = api.container(name, {name: {}})
        api("POST", f"/networks/{name}/disconnect", {"Container": box})
        api("DELETE", f"/containers/{box}?force=1")
        assert api("POST", '/networks/prune?filters={"label":["nobody-has-this"]}')[0] == 200
        api("DELETE", f"/networks/{name}")
        told: list[tuple[str, str, str]] = []
        while ("destroy", made, "") not in told:
            event = json.loads(answer.readline())
            told.append((event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"].get("container", "")))
    mine = [each for each in told if each[1] == made]
    assert mine == [("create", made, ""), ("connect", made, box), ("disconnect", made, box), ("destroy", made, "")]
    assert [each[0] for each in told].count("prune") == 1
