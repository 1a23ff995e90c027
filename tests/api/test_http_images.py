"""Images over HTTP: names with slashes and ports, progress streams, archives."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import aiohttp
import pytest

from pyd_contracts.errors import NotFound, Unavailable
from pyd_daemon.backends import RegistryAuth

IMAGE = "registry.example:5000/team/app:1.0"


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.split(b"\r\n") if line]


class TestPull:
    async def test_progress(self, api: Any, fakes: Any) -> None:
        header = base64.urlsafe_b64encode(b'{"username":"me","password":"pw"}').decode()
        target = "/images/create?fromImage=registry.example:5000/team/app&tag=2&platform=linux/arm64"
        status, body, response = await api("POST", target, headers={"X-Registry-Auth": header})
        assert (status, response.headers["Content-Type"]) == (200, "application/json")
        assert [line["status"].split()[0] for line in lines(body)] == ["Pulling", "Status:"]
        assert fakes.calls == [
            ("pull", "registry.example:5000/team/app:2", "linux/arm64", RegistryAuth("me", "pw")),
        ]

    async def test_push(self, api: Any, fakes: Any) -> None:
        header = base64.urlsafe_b64encode(b'{"username":"me","password":"pw"}').decode()
        status, body, _ = await api("POST", "/images/r:5000/a/b/push?tag=2", headers={"X-Registry-Auth": header})
        assert (status, lines(body)) == (200, [{"status": "The push refers to repository [r:5000/a/b]"}])
        assert fakes.calls == [("push", "r:5000/a/b", "2", RegistryAuth("me", "pw"))]

    @pytest.mark.parametrize(
        ("name", "tag", "reference"),
        [
            ("app", "", "app"),
            ("app", "1", "app:1"),
            ("app:1", "2", "app:2"),
            ("r:5000/app", "2", "r:5000/app:2"),
            ("r:5000/app:1", "sha256:abc", "r:5000/app@sha256:abc"),
            ("app@sha256:abc", "2", "app@sha256:abc"),
        ],
    )
    async def test_tags_and_digests(self, api: Any, fakes: Any, name: str, tag: str, reference: str) -> None:
        await api("POST", "/images/create", params={"fromImage": name, "tag": tag})
        assert fakes.calls[0][1] == reference

    async def test_a_fault_before_the_first_line_is_a_status(self, api: Any, fakes: Any) -> None:
        fakes.fault = NotFound("manifest for app:9 not found")
        status, body, _ = await api("POST", "/images/create?fromImage=app&tag=9")
        assert (status, body) == (404, {"message": "manifest for app:9 not found"})

    async def test_a_fault_after_it_is_a_line(self, api: Any, fakes: Any) -> None:
        fakes.late_fault = Unavailable("registry went away")
        status, body, _ = await api("POST", "/images/create?fromImage=app")
        assert status == 200
        assert lines(body)[-1] == {"errorDetail": {"message": "registry went away"}, "error": "registry went away"}

    async def test_a_connection_that_the_engine_lost_is_a_line_too(self, api: Any, fakes: Any) -> None:
        fakes.late_fault = ConnectionResetError("by the registry")
        status, body, _ = await api("POST", "/images/create?fromImage=app")
        assert status == 200
        assert lines(body)[-1]["error"].startswith("internal error")

    @pytest.mark.parametrize("header", ["{}", "not base64!", base64.b64encode(b"[]").decode()])
    async def test_malformed_credentials(self, api: Any, fakes: Any, header: str) -> None:
        status, _, _ = await api("POST", "/images/create?fromImage=app", headers={"X-Registry-Auth": header})
        assert (status, fakes.calls) == (400, [])

    async def test_neither_pull_nor_import(self, api: Any) -> None:
        assert (await api("POST", "/images/create"))[0] == 400
        assert (await api("POST", "/images/create?fromSrc=http://x/y.tar"))[0] == 501


class TestArchives:
    async def test_import(self, api: Any, fakes: Any) -> None:
        target = "/images/create?fromSrc=-&repo=a/b&tag=1&message=hi&changes=ENV+A=b&changes=CMD+x"
        status, body, _ = await api("POST", target, data=io.BytesIO(b"x" * 6_000_000))
        assert (status, lines(body)[0]["status"][:7]) == (200, "sha256:")
        assert fakes.calls == [("import", 6_000_000, "a/b", "1", "hi", ["ENV A=b", "CMD x"], None)]

    @pytest.mark.parametrize(("query", "quiet"), [("", True), ("?quiet=1", True), ("?quiet=0", False)])
    async def test_load(self, api: Any, fakes: Any, query: str, quiet: bool) -> None:
        async def pieces() -> Any:
            for _ in range(100):
                yield b"x" * 100_000

        status, body, _ = await api("POST", f"/images/load{query}", data=pieces())
        assert (status, lines(body)) == (200, [{"stream": f"Loaded image: {IMAGE}\n"}])
        assert fakes.calls == [("load", 10_000_000, quiet)]

    async def test_compressed_archives_come_as_they_are(self, api: Any, fakes: Any) -> None:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-tar"}
        assert (await api("POST", "/images/load", data=b"no gzip", headers=headers))[0] == 200
        assert fakes.calls == [("load", 7, True)]

    @pytest.mark.parametrize(("version", "there"), [("1.24", True), ("1.43", True), ("1.44", False)])
    async def test_older_clients_find_the_size_once_more(self, api: Any, version: str, there: bool) -> None:
        _, listed, _ = await api("GET", "/images/json", version=version)
        _, one, _ = await api("GET", f"/images/{IMAGE}/json", version=version)
        _, usage, _ = await api("GET", "/system/df", version=version)
        for image in (listed[0], one, usage["Images"][0]):
            assert ("VirtualSize" in image) is there

    async def test_docker_compose_finds_the_configuration_once_more(self, api: Any) -> None:
        _, one, _ = await api("GET", f"/images/{IMAGE}/json")
        assert one["ContainerConfig"] == one["Config"]

    @pytest.mark.parametrize("target", [f"/images/{IMAGE}/get", f"/images/get?names={IMAGE}"])
    async def test_save(self, api: Any, fakes: Any, target: str) -> None:
        status, body, response = await api("GET", target)
        assert (status, body) == (200, b"tar" * 1000 + b"end")
        assert response.headers["Content-Type"] == "application/x-tar"
        assert fakes.calls == [("save", [IMAGE])]

    async def test_save_what_is_not_there(self, api: Any) -> None:
        assert (await api("GET", "/images/nope/get"))[0] == 404
        assert (await api("GET", "/images/get"))[0] == 400

    async def test_save_that_fails_half_way_is_cut(self, api: Any, fakes: Any) -> None:
        fakes.late_fault = Unavailable("disk went away")
        with pytest.raises(aiohttp.ClientPayloadError):
            await api("GET", f"/images/{IMAGE}/get")


class TestLooking:
    async def test_list(self, api: Any, fakes: Any) -> None:
        status, body, _ = await api("GET", '/images/json?all=1&shared-size=true&filters={"dangling":["true"]}')
        assert (status, body[0]["RepoTags"]) == (200, [IMAGE])
        assert fakes.calls == [("images", True, {"dangling": ["true"]}, True)]

    async def test_unknown_filter(self, api: Any) -> None:
        status, body, _ = await api("GET", '/images/json?filters={"colour":["red"]}')
        assert (status, body) == (400, {"message": "invalid filter 'colour'"})

    @pytest.mark.parametrize("name", [IMAGE, IMAGE.replace("/", "%2F")])
    async def test_inspect(self, api: Any, fakes: Any, name: str) -> None:
        import yarl

        async with api.session.get(yarl.URL(f"http://docker/v1.50/images/{name}/json", encoded=True)) as response:
            assert response.status == 200
        assert fakes.calls == [("image", IMAGE)]

    async def test_inspect_what_is_not_there(self, api: Any) -> None:
        assert (await api("GET", "/images/a/b:c/json"))[:2] == (404, {"message": "No such image: a/b:c"})

    async def test_history(self, api: Any, fakes: Any) -> None:
        status, body, _ = await api("GET", f"/images/{IMAGE}/history")
        assert (status, body[0]["Id"]) == (200, "<missing>")

    async def test_distribution(self, api: Any, fakes: Any) -> None:
        status, body, _ = await api("GET", f"/distribution/{IMAGE}/json")
        assert (status, body["Platforms"]) == (200, [])
        assert fakes.calls == [("distribution", IMAGE, None)]


class TestChanging:
    async def test_tag(self, api: Any, fakes: Any) -> None:
        assert (await api("POST", f"/images/{IMAGE}/tag?repo=r:5000/x&tag=2"))[0] == 201
        assert fakes.calls == [("tag", IMAGE, "r:5000/x", "2")]
        assert (await api("POST", f"/images/{IMAGE}/tag"))[0] == 400

    async def test_remove(self, api: Any, fakes: Any) -> None:
        status, body, _ = await api("DELETE", f"/images/{IMAGE}?force=1&noprune=1")
        assert (status, body) == (200, [{"Untagged": IMAGE}])
        assert fakes.calls == [("remove_image", IMAGE, True, False)]

    async def test_prune(self, api: Any, fakes: Any) -> None:
        status, body, _ = await api("POST", '/images/prune?filters={"dangling":["false"]}')
        assert (status, body) == (200, {"ImagesDeleted": [], "SpaceReclaimed": 0})
        assert fakes.calls == [("prune_images", {"dangling": ["false"]})]
