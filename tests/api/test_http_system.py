"""System, events, plugins, swarm, build, networks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pyd_contracts.values import Event
from pyd_daemon.backends import RegistryAuth


async def test_info(api: Any) -> None:
    status, body, _ = await api("GET", "/info")
    assert (status, body["Driver"]) == (200, "memory")


class TestDiskUsage:
    async def test_everything(self, api: Any, fakes: Any) -> None:
        status, body, _ = await api("GET", "/system/df")
        assert (status, len(body["Images"])) == (200, 1)
        assert fakes.calls == [("disk_usage", frozenset({"container", "image", "volume", "build-cache"}))]

    async def test_some(self, api: Any, fakes: Any) -> None:
        assert (await api("GET", "/system/df?type=image&type=volume"))[0] == 200
        assert fakes.calls == [("disk_usage", frozenset({"image", "volume"}))]

    async def test_summaries_since_1_52(self, api: Any, fakes: Any) -> None:
        async def usage(kinds: frozenset[str]) -> Any:
            return {
                "LayersSize": 100,
                "Images": [
                    {"Size": 60, "SharedSize": 20, "Containers": 1},
                    {"Size": 60, "SharedSize": 20, "Containers": 0},
                    {"Size": 5, "SharedSize": -1, "Containers": -1},
                ],
                "Containers": [
                    {"State": "running", "SizeRw": 7},
                    {"State": "exited", "SizeRw": 2},
                    {"State": "exited"},
                ],
                "Volumes": [{"UsageData": {"Size": 9, "RefCount": 0}}, {"UsageData": None}],
                "BuildCache": [],
            }

        fakes.backends.system.disk_usage = usage
        assert "ImageUsage" not in (await api("GET", "/system/df", version="1.51"))[1]
        _, both, _ = await api("GET", "/system/df", version="1.52")
        assert (both["LayersSize"], len(both["Images"])) == (100, 3)
        expected = {
            "ImageUsage": {"ActiveCount": 1, "TotalCount": 3, "Reclaimable": 45, "TotalSize": 100},
            "ContainerUsage": {"ActiveCount": 1, "TotalCount": 3, "Reclaimable": 2, "TotalSize": 9},
            "VolumeUsage": {"ActiveCount": 0, "TotalCount": 2, "Reclaimable": 9, "TotalSize": 9},
            "BuildCacheUsage": {"ActiveCount": 0, "TotalCount": 0, "Reclaimable": 0, "TotalSize": 0},
        }
        assert {key: both[key] for key in expected} == expected
        _, full, _ = await api("GET", "/system/df?verbose=1", version="1.56")
        assert len(full["ImageUsage"]["Items"]) == 3

    async def test_unknown(self, api: Any) -> None:
        status, body, _ = await api("GET", "/system/df?type=cloud")
        assert (status, body) == (400, {"message": "unknown object type: cloud"})


class TestAuth:
    async def test_good(self, api: Any, fakes: Any) -> None:
        body = {"username": "me", "password": "right", "serveraddress": "r.example"}
        status, answer, _ = await api("POST", "/auth", json=body)
        assert (status, answer) == (200, {"Status": "Login Succeeded", "IdentityToken": ""})
        assert fakes.calls == [("login", RegistryAuth("me", "right", "r.example"))]

    async def test_wrong(self, api: Any) -> None:
        status, answer, _ = await api("POST", "/auth", json={"username": "me", "password": "wrong"})
        assert status == 401
        assert "401 Unauthorized" in answer["message"]

    async def test_none(self, api: Any, fakes: Any) -> None:
        assert (await api("POST", "/auth", json={}))[0] == 401
        assert (await api("POST", "/auth"))[0] == 401
        assert fakes.calls == []


class TestEvents:
    async def test_the_past(self, api: Any, fakes: Any) -> None:
        target = '/events?since=1&until=2.5&filters={"type":{"container":true},"event":["start"]}'
        status, body, response = await api("GET", target)
        assert (status, response.headers["Content-Type"]) == (200, "application/json")
        assert body["Actor"] == {"ID": "abc", "Attributes": {"image": "app"}}
        assert body["timeNano"] == 1_700_000_000_000_000_001
        assert fakes.calls == [("subscribe", {"type": ["container"], "event": ["start"]}, 1.0, 2.5)]
        assert fakes.subscriptions[0].closed

    async def test_the_present_and_a_client_that_leaves(self, api: Any, fakes: Any, until: Any) -> None:
        response = await api.session.get("http://docker/events")
        assert response.status == 200  # before any event
        subscription = fakes.subscriptions[0]
        for number in range(3):
            subscription.queue.put_nowait(Event("image", "pull", str(number), {}, number))
            line = json.loads(await response.content.readline())
            assert (line["Type"], line["id"], line["status"]) == ("image", str(number), "pull")
        response.close()
        await until(lambda: subscription.closed)

    @pytest.mark.parametrize(
        ("version", "accept", "kind", "start"),
        [
            ("1.51", "application/json-seq", "application/json", b"{"),
            ("1.52", "application/json-seq", "application/json-seq", b"\x1e{"),
            ("1.52", "application/jsonl, */*", "application/jsonl", b"{"),
            ("1.52", "application/x-ndjson", "application/x-ndjson", b"{"),
            ("1.52", "*/*", "application/json", b"{"),
        ],
    )
    async def test_how_they_are_set_apart(self, api: Any, version: str, accept: str, kind: str, start: bytes) -> None:
        target = f"http://docker/v{version}/events?since=1&until=2"
        async with api.session.get(target, headers={"Accept": accept}) as response:
            assert response.headers["Content-Type"] == kind
            body = await response.read()
        assert (body[: len(start)], body[-2:]) == (start, b"}\n")

    async def test_times(self, api: Any, fakes: Any) -> None:
        status, body, _ = await api("GET", "/events?since=5&until=4")
        assert status == 400
        assert "cannot be after" in body["message"]
        assert (await api("GET", "/events?since=yesterday"))[0] == 400
        assert fakes.calls == []


class TestAbsent:
    @pytest.mark.parametrize("path", ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/services/x"])
    async def test_swarm(self, api: Any, path: str) -> None:
        status, body, _ = await api("GET", path)
        assert status == 503
        assert body["message"] == (
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
            "to swarm and try again."
        )

    @pytest.mark.parametrize(
        ("method", "path", "status", "words"),
        [
            ("POST", "/swarm/init", 501, "init a swarm: this daemon works by itself"),
            ("POST", "/swarm/leave", 503, "not a swarm manager"),
            ("POST", "/services/create", 503, "not a swarm manager"),
            ("DELETE", "/secrets/x", 503, "not a swarm manager"),
            ("POST", "/plugins/a/b/enable", 501, "pyd plugin ls"),
            ("DELETE", "/plugins/a/b", 501, "pyd plugin ls"),
            ("GET", "/images/search?term=x", 501, "pull by name"),
        ],
    )
    async def test_refused_with_a_reason(self, api: Any, method: str, path: str, status: int, words: str) -> None:
        found, body, _ = await api(method, path)
        assert found == status
        assert words in body["message"]

    async def test_plugins(self, api: Any) -> None:
        assert (await api("GET", "/plugins"))[:2] == (200, [])

    async def test_no_buildkit(self, api: Any) -> None:
        for path in ("/session", "/build?version=2", "/build?outputs=[{}]"):
            status, body, _ = await api(
                "POST", path, data=b"x" * 100_000, headers={"Content-Type": "application/x-tar"}
            )
            assert (status, "BuildKit" in body["message"]) == (501, True)


class TestNetworks:
    async def test_list(self, api: Any, fakes: Any) -> None:
        status, body, _ = await api("GET", '/networks?filters={"driver":["bridge"]}')
        assert (status, body[0]["Name"]) == (200, "bridge")
        assert fakes.calls == [("networks", {"driver": ["bridge"]})]
        assert (await api("GET", '/networks?filters={"color":["red"]}'))[0] == 400

    async def test_inspect(self, api: Any) -> None:
        status, body, _ = await api("GET", "/networks/bridge?verbose=1")
        assert (status, body["Containers"]) == (200, {})
        assert (await api("GET", "/networks/none-such"))[0] == 404

    async def test_create(self, api: Any, fakes: Any) -> None:
        request = {
            "Name": "n",
            "Driver": "bridge",
            "Internal": True,
            "EnableIPv6": None,
            "IPAM": {
                "Driver": "default",
                "Config": [{"Subnet": "10.9.0.0/16", "IPRange": "10.9.1.0/24"}],
                "Options": None,
            },
            "Options": {"com.docker.network.driver.mtu": "1400"},
            "Labels": {"a": "b"},
        }
        status, body, _ = await api("POST", "/networks/create", json=request)
        assert (status, body["Warning"], len(body["Id"])) == (201, "", 64)
        got = fakes.calls[0][1]
        assert (got.name, got.driver, got.internal, got.enable_ipv6) == ("n", "bridge", True, None)
        assert (got.ipam.config[0].subnet, got.ipam.config[0].ip_range) == ("10.9.0.0/16", "10.9.1.0/24")
        assert (got.options, got.labels) == ({"com.docker.network.driver.mtu": "1400"}, {"a": "b"})

    @pytest.mark.parametrize(("request_body", "status"), [({}, 400), ({"Name": " "}, 400), ({"Name": "bridge"}, 403)])
    async def test_create_refused(self, api: Any, request_body: Any, status: int) -> None:
        assert (await api("POST", "/networks/create", json=request_body))[0] == status

    async def test_remove_and_prune(self, api: Any) -> None:
        assert (await api("DELETE", "/networks/n"))[0] == 204
        assert (await api("DELETE", "/networks/bridge"))[0] == 403
        assert (await api("POST", "/networks/prune"))[:2] == (200, {"NetworksDeleted": []})


async def test_concurrent_requests(api: Any) -> None:
    answers = await asyncio.gather(*(api("GET", "/info") for _ in range(100)))
    assert {answer[0] for answer in answers} == {200}
