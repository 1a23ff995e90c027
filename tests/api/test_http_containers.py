"""Containers over HTTP: their life, waiting, logs, attach and exec."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pyd_contracts.errors import DriverFault, Unavailable

UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


async def made(api: Any, *command: str, name: str = "", **config: Any) -> str:
    target = f"/containers/create?name={name}" if name else "/containers/create"
    status, body, _ = await api("POST", target, json={"Image": "app", "Cmd": list(command), **config})
    assert status == 201
    container_id: str = body["Id"]
    return container_id


class TestCreate:
    async def test_it(self, api: Any, fakes: Any) -> None:
        body = {"Image": "app", "Cmd": ["a", "b"], "HostConfig": {"Memory": 5_000_000}}
        status, answer, _ = await api("POST", "/containers/create?name=one&platform=linux/amd64", json=body)
        assert (status, answer) == (201, {"Id": next(iter(fakes.all)), "Warnings": []})
        _, name, request, platform = fakes.calls[0]
        assert (name, request.config.cmd, platform) == ("one", ("a", "b"), "linux/amd64")
        assert request.host_config.memory == 5_000_000

    async def test_warnings(self, api: Any) -> None:
        _, answer, _ = await api("POST", "/containers/create?name=warned", json={"Image": "app"})
        assert answer["Warnings"] == ["careful"]

    async def test_refused(self, api: Any, fakes: Any) -> None:
        await made(api, name="one")
        assert (await api("POST", "/containers/create?name=one", json={"Image": "app"}))[0] == 409
        assert (await api("POST", "/containers/create", json={"Image": "absent"}))[0] == 404
        status, body, _ = await api("POST", "/containers/create")
        assert (status, body) == (400, {"message": "config cannot be empty in order to create a container"})
        assert (await api("POST", "/containers/create?platform=a+b", json={"Image": "app"}))[0] == 400


class TestLooking:
    async def test_list(self, api: Any, fakes: Any) -> None:
        await made(api, "x", name="one")
        assert (await api("GET", "/containers/json"))[:2] == (200, [])
        target = '/containers/json?all=True&limit=3&size=1&filters={"status":["created"],"label":{"a=b":true}}'
        status, body, _ = await api("GET", target)
        assert (status, body[0]["Names"]) == (200, ["/one"])
        assert fakes.calls[-1] == ("list", True, 3, True, {"status": ["created"], "label": ["a=b"]})

    @pytest.mark.parametrize("query", ["limit=x", 'filters={"x":["y"]}', "filters=[", 'filters={"status":1}'])
    async def test_list_refused(self, api: Any, query: str) -> None:
        assert (await api("GET", f"/containers/json?{query}"))[0] == 400

    async def test_inspect(self, api: Any, fakes: Any) -> None:
        container_id = await made(api, name="one")
        for ref in ("one", container_id, container_id[:12]):
            status, body, _ = await api("GET", f"/containers/{ref}/json?size=1")
            assert (status, body["Id"]) == (200, container_id)
        assert fakes.calls[-1] == ("inspect", container_id[:12], True)
        assert (await api("GET", "/containers/two/json"))[:2] == (404, {"message": "No such container: two"})

    async def test_top(self, api: Any, fakes: Any) -> None:
        await made(api, name="one")
        assert (await api("GET", "/containers/one/top"))[1]["Titles"] == ["PID", "CMD"]
        assert (await api("GET", "/containers/one/top?ps_args=aux"))[0] == 200
        assert [call[2] for call in fakes.calls[-2:]] == ["-ef", "aux"]


class TestLife:
    async def test_start_and_stop(self, api: Any, fakes: Any) -> None:
        await made(api, "sleep", name="one")
        assert (await api("POST", "/containers/one/start?detachKeys=ctrl-a"))[0] == 204
        assert fakes.calls[-1] == ("start", "one", "ctrl-a")
        status, body, _ = await api("POST", "/containers/one/start")
        assert (status, body) == (304, b"")
        assert (await api("DELETE", "/containers/one"))[0] == 409
        assert (await api("POST", "/containers/one/stop?t=3&signal=INT"))[0] == 204
        assert fakes.calls[-1] == ("stop", "one", 3, "INT")
        assert (await api("POST", "/containers/one/stop?t=3"))[0] == 304
        assert (await api("POST", "/containers/one/kill"))[0] == 409
        assert (await api("DELETE", "/containers/one?v=1&force=true&link=0"))[0] == 204
        assert fakes.calls[-1] == ("remove", "one", True, True, False)
        assert (await api("DELETE", "/containers/one"))[0] == 404

    async def test_start_with_a_body_of_old(self, api: Any) -> None:
        await made(api, "x", name="one")
        status, body, _ = await api("POST", "/containers/one/start", json={"Binds": ["/:/host"]})
        assert status == 400
        assert "removed in v1.24" in body["message"]
        assert (await api("POST", "/containers/one/start", json={}))[0] == 204

    async def test_the_signal_of_stop_came_with_1_42(self, api: Any, fakes: Any) -> None:
        await made(api, "sleep", name="one")
        await api("POST", "/containers/one/start")
        await api("POST", "/containers/one/stop?signal=INT", version="1.41")
        assert fakes.calls[-1] == ("stop", "one", None, None)

    async def test_a_command_that_is_not_there(self, api: Any) -> None:
        await made(api, "broken", name="one")
        status, body, _ = await api("POST", "/containers/one/start")
        assert status == 400
        assert "executable file not found" in body["message"]

    async def test_the_rest(self, api: Any, fakes: Any) -> None:
        await made(api, "sleep", name="one")
        await api("POST", "/containers/one/start")
        for target, expected, call in (
            ("/containers/one/restart?t=-1", 204, ("restart", "one", -1, None)),
            ("/containers/one/pause", 204, ("pause", "one")),
            ("/containers/one/unpause", 204, ("unpause", "one")),
            ("/containers/one/resize?h=24&w=80", 200, ("resize", "one", 24, 80)),
            ("/containers/one/rename?name=two", 204, ("rename", "one", "two")),
            ("/containers/two/kill?signal=HUP", 204, ("kill", "two", "HUP")),
            ('/containers/prune?filters={"until":["10m"]}', 200, ("prune", {"until": ["10m"]})),
        ):
            assert (await api("POST", target))[0] == expected, target
            assert fakes.calls[-1] == call

    @pytest.mark.parametrize(
        "target", ["resize", "resize?h=x&w=1", "resize?h=-1&w=1", "resize?h=1&w=70000", "rename", "stop?t=soon"]
    )
    async def test_arguments(self, api: Any, target: str) -> None:
        await made(api, name="one")
        assert (await api("POST", f"/containers/one/{target}"))[0] == 400

    async def test_a_client_that_leaves_does_not_stop_the_work(self, api: Any, fakes: Any, until: Any) -> None:
        gate, finished = asyncio.Event(), asyncio.Event()

        async def slow(ref: str, *, timeout: int | None, signal: str | None) -> None:
            fakes.note("slow")
            await gate.wait()
            finished.set()

        fakes.backends.containers.restart = slow
        reader, writer = await api.connect()
        writer.write(b"POST /containers/x/restart HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: ("slow",) in fakes.calls)
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
        for _ in range(10):
            await asyncio.sleep(0)
        gate.set()
        async with asyncio.timeout(5):
            await finished.wait()


class TestWait:
    async def test_the_head_comes_before_the_end(self, api: Any, fakes: Any) -> None:
        await made(api, "exit", "7", name="one")
        response = await api.session.post("http://docker/v1.50/containers/one/wait?condition=next-exit")
        assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
        assert fakes.calls[-1] == ("wait", "one", "next-exit")
        await api("POST", "/containers/one/start")
        assert await response.json() == {"StatusCode": 7}
        assert fakes.waiters[0].cancelled

    async def test_conditions(self, api: Any, fakes: Any) -> None:
        await made(api, "exit", "0", name="one")
        await api("POST", "/containers/one/start")
        assert (await api("POST", "/containers/one/wait"))[:2] == (200, {"StatusCode": 0})
        assert fakes.calls[-1] == ("wait", "one", "not-running")
        assert (await api("POST", "/containers/one/wait?condition=removed", version="1.29"))[0] == 200
        assert fakes.calls[-1] == ("wait", "one", "not-running")
        status, body, _ = await api("POST", "/containers/one/wait?condition=tired")
        assert (status, body) == (400, {"message": 'invalid condition: "tired"'})
        assert (await api("POST", "/containers/none/wait"))[0] == 404

    async def test_failing(self, api: Any, fakes: Any) -> None:
        await made(api, name="one")
        fakes.late_fault = DriverFault("lost sight of it")
        status, body, _ = await api("POST", "/containers/one/wait")
        assert (status, body) == (200, {"StatusCode": -1, "Error": {"Message": "lost sight of it"}})

    async def test_a_client_that_leaves(self, api: Any, fakes: Any, until: Any) -> None:
        await made(api, "sleep", name="one")
        response = await api.session.post("http://docker/containers/one/wait")
        response.close()
        await until(lambda: bool(fakes.waiters[0].cancelled))


class TestLogs:
    async def ran(self, api: Any, **config: Any) -> None:
        await made(api, "hello", name="one", **config)
        await api("POST", "/containers/one/start")
        await api("POST", "/containers/one/wait")

    @pytest.mark.parametrize(
        ("version", "tty", "kind"),
        [
            ("1.41", False, "application/vnd.docker.raw-stream"),
            ("1.42", False, "application/vnd.docker.multiplexed-stream"),
            ("1.42", True, "application/vnd.docker.raw-stream"),
        ],
    )
    async def test_it(self, api: Any, fakes: Any, version: str, tty: bool, kind: str) -> None:
        await self.ran(api, Tty=tty)
        target = (
            "/containers/one/logs?stdout=1&stderr=1&since=5&until=1700000000.123456789&timestamps=1&tail=3&details=1"
        )
        status, body, response = await api("GET", target, version=version)
        assert (status, response.headers["Content-Type"]) == (200, kind)
        assert body == (b"hello\n" if tty else b"\x01\0\0\0\0\0\0\x06hello\n")
        assert fakes.calls[-1] == ("logs", "one", False, True, True, 5 * 10**9, 1700000000123456789, True, 3, True)
        assert fakes.opened_logs[0].closed

    @pytest.mark.parametrize(("tail", "expected"), [("all", None), ("", None), ("x", None), ("-1", None), ("0", 0)])
    async def test_tail(self, api: Any, fakes: Any, tail: str, expected: int | None) -> None:
        await self.ran(api)
        await api("GET", f"/containers/one/logs?stdout=1&tail={tail}")
        assert fakes.calls[-1][-2:] == (expected, False)

    async def test_a_stream_must_be_chosen(self, api: Any) -> None:
        status, body, _ = await api("GET", "/containers/one/logs?follow=1")
        assert (status, body) == (400, {"message": "Bad parameters: you must choose at least one stream"})
        assert (await api("GET", "/containers/none/logs?stdout=1"))[0] == 404

    async def test_followed_until_the_client_leaves(self, api: Any, fakes: Any, until: Any) -> None:
        await self.ran(api)
        response = await api.session.get("http://docker/containers/one/logs?stdout=1&follow=1")
        assert await response.content.readexactly(14) == b"\x01\0\0\0\0\0\0\x06hello\n"
        response.close()
        await until(lambda: bool(fakes.opened_logs[0].closed))


class TestAttach:
    @pytest.mark.parametrize(
        ("version", "tty", "kind"),
        [(b"1.41", False, b"raw"), (b"1.42", False, b"multiplexed"), (b"1.42", True, b"raw")],
    )
    async def test_streams(self, api: Any, fakes: Any, version: bytes, tty: bool, kind: bytes) -> None:
        await made(api, "cat", name="one", OpenStdin=True, Tty=tty)
        reader, writer = await api.connect()
        query = b"stream=1&stdin=1&stdout=1&detachKeys=ctrl-x"
        writer.write(
            b"POST /v"
            + version
            + b"/containers/one/attach?"
            + query
            + b" HTTP/1.1\r\nHost: x\r\n"
            + UPGRADE
            + b"\r\nfirst\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker." + kind + b"-stream\r\n"
        )
        assert fakes.calls[-1] == ("attach", "one", True, False, True, True, False, "ctrl-x")
        await api("POST", "/containers/one/start")
        writer.write_eof()
        async with asyncio.timeout(5):
            output = await reader.read()
        expected = [b"cat\n", b"first\n"]
        frames = [b"\x01\0\0\0\0\0\0" + bytes((len(each),)) + each for each in expected]
        assert output == b"".join(expected if tty else frames)
        writer.close()

    async def test_refused_before_the_connection_is_taken(self, api: Any, fakes: Any) -> None:
        await made(api, "cat", name="one")
        await api("POST", "/containers/one/pause")
        for path, status in ((b"one", b"409"), (b"two", b"404")):
            reader, writer = await api.connect()
            writer.write(
                b"POST /containers/" + path + b"/attach?stream=1 HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\nrm -rf /\n"
            )
            answer = await reader.read()
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.split(b" ")[1] == status
            assert json.loads(body)["message"]
            assert fakes.calls[-1][0] == "attach"
            writer.close()

    async def test_is_wired_before_a_start_that_follows_its_head(self, api: Any, fakes: Any, until: Any) -> None:
        await made(api, "hello", name="one")
        plan = await fakes.backends.containers.attach(
            "one", stream=True, logs=False, stdin=False, stdout=True, stderr=True, detach_keys=None
        )
        gate = asyncio.Event()

        class Slow:
            framed = True

            async def connect(self, fd: int, early: bytes) -> None:
                await gate.wait()
                await plan.connect(fd, early)

        async def attach(ref: str, **options: Any) -> Slow:
            return Slow()

        fakes.backends.containers.attach = attach
        reader, writer = await api.connect()
        writer.write(b"POST /containers/one/attach?stream=1 HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        start = asyncio.create_task(api("POST", "/containers/one/start"))
        assert (await api("GET", "/info"))[0] == 200  # a round trip: the start is there
        assert not start.done()
        assert not any(call[0] == "start" for call in fakes.calls)
        gate.set()
        assert (await start)[0] == 204
        assert await reader.read() == b"\x01\0\0\0\0\0\0\x06hello\n"
        writer.close()

    async def test_an_attach_behind_another_request(self, api: Any, fakes: Any) -> None:
        await made(api, "cat", name="one")
        reader, writer = await api.connect()
        attach = b"POST /containers/one/attach?stream=1 HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n"
        writer.write(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n" + attach + b"DELETE /containers/one HTTP/1.1\r\n\r\n")
        answer = await reader.read()
        assert answer.count(b"HTTP/1.1 ") == 2
        assert b"HTTP/1.1 400" in answer
        assert "one" in {each.name for each in fakes.all.values()}
        writer.close()

    async def test_what_fails_afterwards_is_said_in_the_stream(self, api: Any, fakes: Any) -> None:
        await made(api, "cat", name="one")
        fakes.late_fault = Unavailable("its shim does not answer")
        reader, writer = await api.connect()
        writer.write(b"POST /containers/one/attach?stream=1 HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        text = b"Error attaching: its shim does not answer\r\n"
        assert await reader.read() == b"\x02\0\0\0\0\0\0" + bytes((len(text),)) + text
        writer.close()


class TestExec:
    async def running(self, api: Any) -> None:
        await made(api, "sleep", name="one")
        await api("POST", "/containers/one/start")

    async def prepared(self, api: Any, **config: Any) -> str:
        status, body, _ = await api(
            "POST", "/containers/one/exec", json={"Cmd": ["id"], "AttachStdout": True, **config}
        )
        assert status == 201
        exec_id: str = body["Id"]
        return exec_id

    async def test_streams(self, api: Any, fakes: Any) -> None:
        await self.running(api)
        exec_id = await self.prepared(api, AttachStdin=True)
        reader, writer = await api.connect()
        body = b'{"Detach":false,"Tty":false}'
        writer.write(
            f"POST /v1.50/exec/{exec_id}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
            + f"Content-Length: {len(body)}\r\n".encode()
            + UPGRADE
            + b"\r\n"
            + body
            + b"me\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream" in head
        writer.write_eof()
        assert await reader.read() == b"\x01\0\0\0\0\0\0\x03id\n\x01\0\0\0\0\0\0\x03me\n"
        writer.close()
        status, answer, _ = await api("GET", f"/exec/{exec_id}/json")
        assert (status, answer["Running"], answer["ExitCode"]) == (200, False, 0)

    async def test_detached(self, api: Any, fakes: Any) -> None:
        await self.running(api)
        exec_id = await self.prepared(api)
        status, body, response = await api("POST", f"/exec/{exec_id}/start", json={"Detach": True})
        assert (status, body) == (200, b"")
        assert response.headers.get("Connection", "keep-alive").lower() == "keep-alive"
        assert fakes.calls[-1] == ("exec_start", exec_id, True, False, None)

    @pytest.mark.parametrize(
        ("version", "body", "expected"),
        [
            ("1.50", {"Tty": True, "ConsoleSize": [24, 80]}, (24, 80)),
            ("1.50", {"Tty": True, "ConsoleSize": [0, 0]}, None),
            ("1.50", {"Tty": True, "ConsoleSize": None}, None),
            ("1.41", {"Tty": True, "ConsoleSize": [24, 80]}, None),
            ("1.50", {"Tty": False, "ConsoleSize": [24, 80]}, 400),
            ("1.50", {"Tty": True, "ConsoleSize": [24]}, 400),
            ("1.50", {"Tty": True, "ConsoleSize": [24, -1]}, 400),
        ],
    )
    async def test_console_size(self, api: Any, fakes: Any, version: str, body: Any, expected: Any) -> None:
        await self.running(api)
        exec_id = await self.prepared(api, Tty=True)
        fakes.calls.clear()
        status, _, _ = await api("POST", f"/exec/{exec_id}/start", json=body, version=version)
        if expected == 400:
            assert (status, fakes.calls) == (400, [])
        else:
            assert fakes.calls[-1] == ("exec_start", exec_id, False, True, expected)

    async def test_failing_to_start_is_said_on_stdout(self, api: Any, fakes: Any) -> None:
        await self.running(api)
        exec_id = await self.prepared(api)
        fakes.late_fault = Unavailable("no such program")
        status, body, _ = await api("POST", f"/exec/{exec_id}/start")
        assert (status, body) == (200, b"\x01\0\0\0\0\0\0\x11no such program\r\n")

    async def test_refused(self, api: Any) -> None:
        await made(api, "sleep", name="one")
        assert (await api("POST", "/containers/one/exec", json={"Cmd": ["id"]}))[0] == 409
        assert (await api("POST", "/containers/none/exec", json={"Cmd": ["id"]}))[0] == 404
        status, body, _ = await api("POST", "/containers/one/exec", json={"Cmd": []})
        assert (status, body) == (400, {"message": "No exec command specified"})
        for method, target in (("GET", "json"), ("POST", "start"), ("POST", "resize?h=1&w=1")):
            assert (await api(method, f"/exec/none/{target}"))[0] == 404

    async def test_resize(self, api: Any, fakes: Any) -> None:
        await self.running(api)
        exec_id = await self.prepared(api)
        assert (await api("POST", f"/exec/{exec_id}/resize?h=1&w=2"))[0] == 200
        assert fakes.calls[-1] == ("exec_resize", exec_id, 1, 2)
