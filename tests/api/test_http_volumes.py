"""Volumes over HTTP."""

from __future__ import annotations

from typing import Any

from pyd_daemon.wire.requests import VolumeCreate


async def test_list(api: Any, fakes: Any) -> None:
    status, body, _ = await api("GET", '/volumes?filters={"dangling":["true"],"label":["a=b"]}')
    assert (status, body) == (200, {"Volumes": [{"Name": "kept", "Driver": "local"}], "Warnings": None})
    assert fakes.calls == [("volumes", {"dangling": ["true"], "label": ["a=b"]})]


async def test_an_unknown_filter(api: Any) -> None:
    status, body, _ = await api("GET", '/volumes?filters={"color":["red"]}')
    assert status == 400
    assert "color" in body["message"]


async def test_inspect(api: Any) -> None:
    assert (await api("GET", "/volumes/kept"))[:2] == (200, {"Name": "kept", "Driver": "local"})
    assert (await api("GET", "/volumes/nope"))[:2] == (404, {"message": "get nope: no such volume"})


async def test_create(api: Any, fakes: Any) -> None:
    body = {"Name": "v", "Driver": "local", "DriverOpts": {"type": "tmpfs"}, "Labels": {"a": "b"}}
    status, answer, _ = await api("POST", "/volumes/create", json=body)
    assert (status, answer["Name"]) == (201, "v")
    wanted = VolumeCreate(name="v", driver="local", driver_opts={"type": "tmpfs"}, labels={"a": "b"})
    assert fakes.calls == [("create_volume", wanted)]


async def test_create_without_a_name_or_a_body(api: Any) -> None:
    status, answer, _ = await api("POST", "/volumes/create", json={})
    assert (status, len(answer["Name"])) == (201, 64)
    assert (await api("POST", "/volumes/create"))[0] == 400


async def test_cluster_volumes_are_for_swarms(api: Any, fakes: Any) -> None:
    status, answer, _ = await api("POST", "/volumes/create", json={"Name": "v", "ClusterVolumeSpec": {"Group": "g"}})
    assert (status, "swarm manager" in answer["message"]) == (503, True)
    assert (await api("PUT", "/volumes/v?version=1", json={}))[0] == 503
    assert fakes.calls == []


async def test_remove(api: Any, fakes: Any) -> None:
    assert (await api("DELETE", "/volumes/v?force=1"))[0] == 204
    assert (await api("DELETE", "/volumes/kept"))[:2] == (409, {"message": "remove kept: volume is in use - [abc]"})
    assert fakes.calls == [("remove_volume", "v", True), ("remove_volume", "kept", False)]


async def test_prune_spares_named_volumes_since_1_42(api: Any, fakes: Any) -> None:
    await api("POST", "/volumes/prune", version="1.41")
    await api("POST", "/volumes/prune")
    await api("POST", '/volumes/prune?filters={"all":["true"],"label":["x"]}')
    assert fakes.calls == [
        ("prune_volumes", {}, True),
        ("prune_volumes", {}, False),
        ("prune_volumes", {"label": ["x"]}, True),
    ]
    assert (await api("POST", '/volumes/prune?filters={"all":["perhaps"]}'))[0] == 400
