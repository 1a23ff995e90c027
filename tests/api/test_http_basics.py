"""Versions, standard headers, errors, limits: what holds for every endpoint."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pyd_contracts.errors import PydError
from pyd_daemon.app import Api, make_runner

UPGRADE_IT = "Minimum supported API version is 1.24, please upgrade your client to a newer version"
PRUNE = b"POST /containers/prune HTTP/1.1\r\nHost: x\r\n"


class TestPing:
    @pytest.mark.parametrize("version", [None, "1.24", "1.56"])
    async def test_get(self, api: Any, version: str | None) -> None:
        status, body, response = await api("GET", "/_ping", version=version)
        assert (status, body) == (200, b"OK")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
        assert (response.headers["Builder-Version"], response.headers["Swarm"]) == ("1", "inactive")

    async def test_head(self, api: Any) -> None:
        status, body, response = await api("HEAD", "/_ping", version=None)
        assert (status, body) == (200, b"")
        assert response.headers["Api-Version"] == "1.56"


class TestVersions:
    @pytest.mark.parametrize("version", ["1.24", "1.41", "1.56"])
    async def test_supported(self, api: Any, version: str) -> None:
        status, body, _ = await api("GET", "/version", version=version)
        assert (status, body["ApiVersion"]) == (200, "1.56")

    @pytest.mark.parametrize(
        ("version", "message"),
        [
            ("1.10", f"client version 1.10 is too old. {UPGRADE_IT}"),
            ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.56"),
            ("2", "client version 2 is too new. Maximum supported API version is 1.56"),
            ("...", f"client version ... is too old. {UPGRADE_IT}"),
        ],
    )
    async def test_refused(self, api: Any, version: str, message: str) -> None:
        status, body, response = await api("GET", "/version", version=version)
        assert (status, body) == (400, {"message": message})
        assert response.headers["Api-Version"] == "1.56"

    @pytest.mark.parametrize(
        "target", ["/v/version", "/v1.4x/version", "/V1.44/version", "/v1.44", "/v" + "9" * 5000 + "/x"]
    )
    async def test_no_version_at_all(self, api: Any, target: str) -> None:
        status, body, _ = await api("GET", target, version=None)
        assert (status, body) == (404, {"message": "page not found"})


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/version", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/containers/none/json", 404),
        ("POST", "/containers/none/kill", 404),
        ("PUT", "/version", 405),
    ],
)
async def test_every_answer_says_who_speaks(api: Any, method: str, target: str, status: int) -> None:
    got, _, response = await api(method, target)
    assert got == status
    assert response.headers["Api-Version"] == "1.56"
    assert response.headers["Docker-Experimental"] == "false"
    assert response.headers["Ostype"] == "linux"
    assert response.headers["Server"] == "pyd/1.0.0 (linux)"
    assert response.headers["Content-Type"] == "application/json"


async def test_other_methods_are_named(api: Any) -> None:
    status, body, response = await api("PATCH", "/containers/x")
    assert (status, response.headers["Allow"]) == (405, "DELETE")
    assert body["message"] == "method PATCH is not allowed for /containers/x: use DELETE"


class TestErrors:
    async def test_the_table(self, api: Any, fakes: Any, fault: tuple[PydError, int]) -> None:
        error, expected = fault
        fakes.fault = error
        status, body, _ = await api("GET", "/info")
        assert (status, body) == (expected, {"message": str(error)})

    async def test_a_stranger_is_a_number(self, api: Any, fakes: Any, caplog: pytest.LogCaptureFixture) -> None:
        fakes.fault = RuntimeError("/var/lib/secret")
        with caplog.at_level(logging.ERROR):
            status, body, _ = await api("GET", "/info")
        assert status == 500
        assert body["message"].startswith("internal error ")
        assert "secret" not in body["message"]
        assert body["message"].split()[2].rstrip(":") in caplog.text
        assert (await api("GET", "/info"))[0] == 200

    async def test_a_connection_of_the_engine_is_not_the_clients(self, api: Any, fakes: Any) -> None:
        fakes.fault = ConnectionRefusedError("the shim does not answer")
        assert (await api("GET", "/info"))[0] == 500

    async def test_messages_with_anything_in_them(self, api: Any, fakes: Any) -> None:
        status, body, _ = await api("GET", "/containers/%00%0A%22%F0%9F%90%8D/json")
        assert (status, body) == (404, {"message": 'No such container: \0\n"\N{SNAKE}'})


async def test_a_path_forges_no_log_record(api: Any, fakes: Any, caplog: pytest.LogCaptureFixture) -> None:
    fakes.fault = RuntimeError("x")
    with caplog.at_level(logging.ERROR):
        await api("GET", "/containers/a%0AERROR forged/json")
    assert caplog.records[0].getMessage().startswith("GET /v1.50/containers/a%0AERROR%20forged/json: internal error")


class TestBodies:
    async def test_another_content_type(self, api: Any) -> None:
        for target in ("/containers/create", "/containers/x/exec", "/networks/create", "/auth"):
            status, body, _ = await api("POST", target, data=b"{}", headers={"Content-Type": "text/plain"})
            assert (status, body) == (
                400,
                {"message": "Content-Type specified (text/plain) must be 'application/json'"},
            )

    async def test_parameters_of_the_content_type_do_not_matter(self, api: Any) -> None:
        headers = {"Content-Type": "Application/JSON; charset=utf-8"}
        status, _, _ = await api("POST", "/containers/create", data=b'{"Image":"x"}', headers=headers)
        assert status == 201

    @pytest.mark.parametrize(
        "data", [b"{", b"nothing", b'{"Image": 1}', b"{} {}", b"[" * 200_000, b'{"a":' * 65 + b"1" + b"}" * 65]
    )
    async def test_malformed(self, api: Any, data: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        status, body, _ = await api("POST", "/containers/create", data=data, headers=headers)
        assert status == 400
        assert "invalid JSON" in body["message"] or "cannot be empty" in body["message"]

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_too_large(self, api: Any, fakes: Any, chunked: bool) -> None:
        async def pieces() -> Any:
            for _ in range(5):
                yield b" " * 1_000_000

        headers = {"Content-Type": "application/json"}
        data: Any = pieces() if chunked else io.BytesIO(b" " * 5_000_000)
        status, body, _ = await api("POST", "/containers/create", data=data, headers=headers)
        assert status == 413
        assert "4194304" in body["message"]
        assert fakes.calls == []

    async def test_cut_short(self, api: Any, fakes: Any, until: Any) -> None:
        reader, writer = await api.connect()
        writer.write(
            b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"Image":'
        )
        writer.close()
        assert await reader.read() == b""
        assert (await api("GET", "/_ping"))[0] == 200
        assert fakes.calls == []


class TestWire:
    """Raw requests: one request reaches at most one handler, what is malformed reaches none."""

    async def ask(self, api: Any, data: bytes) -> bytes:
        reader, writer = await api.connect()
        writer.write(data)
        async with asyncio.timeout(5):
            answer: bytes = await reader.read()
        writer.close()
        return answer

    @pytest.mark.parametrize(
        "data",
        [
            PRUNE + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\n12345",
            PRUNE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            PRUNE + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
            PRUNE + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            PRUNE + b"Content-Length: +1\r\n\r\na",
            PRUNE + b" folded: y\r\n\r\n",
            b"POST /containers/prune\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"P\xc3\xb6ST /containers/prune HTTP/1.1\r\nHost: x\r\n\r\n",
            PRUNE + b"A: " + b"b" * 70_000 + b"\r\n\r\n",
            b"POST /containers/prune HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ],
    )
    async def test_malformed(self, api: Any, fakes: Any, data: bytes) -> None:
        answer = await self.ask(api, data)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split(b" ")[1].startswith(b"4")
        assert json.loads(body)["message"]
        assert b"Server: pyd/1.0.0 (linux)" in head
        assert fakes.calls == []

    @pytest.mark.parametrize(
        "path", [b"//containers/json", b"/v1.44/../info", b"/v1.44//info", b"/./info", b"/info/", b"/%69nfo/.."]
    )
    async def test_paths_are_not_normalised(self, api: Any, fakes: Any, path: bytes) -> None:
        answer = await self.ask(api, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 404 " in answer.partition(b"\r\n")[0]
        assert fakes.calls == []

    async def test_pipelined_requests_are_answered_in_order(self, api: Any, fakes: Any) -> None:
        one = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await self.ask(api, one * 50 + b"GET /info HTTP/1.0\r\n\r\n")
        assert (answer.count(b"HTTP/1.1 200 OK"), answer.count(b"HTTP/1.0 200 OK")) == (50, 1)
        assert fakes.calls == [("info",)]

    @pytest.mark.parametrize(
        "data",
        [
            b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n",
            PRUNE + b"Content-Length: 2\r\n\r\n{}",
            PRUNE + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ],
    )
    async def test_clients_that_close_their_side_get_their_answer(self, api: Any, data: bytes) -> None:
        reader, writer = await api.connect()
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        writer.close()

    @pytest.mark.parametrize(
        "data",
        [
            b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
            PRUNE[:-2],
            PRUNE.replace(b"prune", b"create") + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{}",
        ],
        ids=["stream", "head", "body"],
    )
    async def test_but_no_stream_and_nothing_that_was_half_said(self, api: Any, fakes: Any, data: bytes) -> None:
        reader, writer = await api.connect()
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        assert all(each.closed for each in fakes.subscriptions)
        assert not fakes.all
        writer.close()

    async def test_http_1_0(self, api: Any) -> None:
        answer = await self.ask(api, b"GET /_ping HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 200 OK")
        assert answer.endswith(b"\r\n\r\nOK")


class TestTcp:
    """On TCP, web pages are kept out."""

    async def test_origins_and_host_names(self, fakes: Any) -> None:
        runner = await make_runner(Api(fakes.backends, version="1.0.0", allowed_hosts=frozenset({"box.lan"})))
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        cases = {
            (): 200,
            (("Origin", "http://evil.example"),): 403,
            (("Origin", "null"),): 403,
            (("Sec-Fetch-Site", "cross-site"),): 403,
            (("Host", "evil.example"),): 403,
            (("Host", f"evil.example:{port}"),): 403,
            (("Host", "box.lan:2375"),): 200,
            (("Host", "localhost"),): 200,
            (("Host", "[::1]:2375"),): 200,
        }
        async with aiohttp.ClientSession() as session:
            for headers, expected in cases.items():
                async with session.get(f"http://127.0.0.1:{port}/info", headers=dict(headers)) as response:
                    assert response.status == expected, headers
        await runner.cleanup()
        assert len(fakes.calls) == list(cases.values()).count(200)


async def test_streams_end_when_the_server_stops(fakes: Any, tmp_path: Any, until: Any) -> None:
    runner = await make_runner(Api(fakes.backends, version="1.0.0"), shutdown_timeout=30.0)
    path = str(tmp_path / "s")
    await web.UnixSite(runner, path).start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        response = await session.get("http://x/events")
        async with asyncio.timeout(5):
            await runner.cleanup()
        response.close()
    assert fakes.subscriptions[0].closed
