"""Taking connections away from HTTP: what is kept, what is handed on, what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.web_request import BaseRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyd_contracts.errors import InvalidArgument
from pyd_daemon.hijack import ApiServer, Connection, Hijacked, Taken, frame, hijack

ATTACH = b"POST /v1.50/containers/abc/attach?stdin=1 HTTP/1.1\r\nHost: docker\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"
SWITCHED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)


@dataclass
class Site:
    """A server with one kind of route: takes attach and exec, answers everything else with its path."""

    path: str = ""
    port: int = 0
    seen: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    taken: asyncio.Queue[tuple[socket.socket, bytes]] = field(default_factory=asyncio.Queue)
    refuse: bool = False
    detach: bool = False
    server: ApiServer | None = None
    faults: list[Exception] = field(default_factory=list)

    async def __call__(self, request: BaseRequest) -> web.StreamResponse:
        self.seen.append(request.path)
        connection = request.protocol
        assert isinstance(connection, Connection)
        response: web.StreamResponse = web.Response(body=request.path.encode())
        if request.path.endswith(("/attach", "/start")):
            self.bodies.append(await request.read())
            if self.refuse:
                response = web.Response(status=409, body=b"{}")
            elif not self.detach:
                try:
                    taken = await hijack(request, framed=True, multiplexed=True)
                except InvalidArgument as error:
                    self.faults.append(error)
                    response = web.Response(status=400, body=str(error).encode())
                else:
                    client = socket.socket(fileno=taken.fd)
                    await self.taken.put((client, taken.early))
                    return Taken()
        if not connection.release(keep=response.status < 300):
            response.force_close()
        return response

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)

    async def owner(self) -> tuple[socket.socket, bytes]:
        async with asyncio.timeout(5):
            return await self.taken.get()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(path=str(tmp_path / "s"))
    site.server = ApiServer(site, headers={"Server": "pyd"}, access_log=None)
    runner = web.ServerRunner(site.server, shutdown_timeout=1.0)
    await runner.setup()
    await web.UnixSite(runner, site.path).start()
    listener = socket.create_server(("127.0.0.1", 0))
    site.port = listener.getsockname()[1]
    await web.SockSite(runner, listener).start()
    yield site
    await runner.cleanup()
    while not site.taken.empty():
        site.taken.get_nowait()[0].close()


@contextlib.asynccontextmanager
async def opened(
    connecting: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await connecting
    try:
        async with asyncio.timeout(5):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def talk(owner: socket.socket, payload: bytes) -> bytes:
    """What the process that owns the container does: blocking reads until the end, then its answer."""

    def run() -> bytes:
        owner.setblocking(True)
        owner.settimeout(5)
        got = b""
        while data := owner.recv(65536):
            got += data
        owner.sendall(payload)
        owner.close()
        return got

    return await asyncio.to_thread(run)


async def drained(connections: Callable[[], int]) -> None:
    async with asyncio.timeout(5):
        while connections():
            await asyncio.sleep(0.001)


class TestTheHead:
    async def test_an_upgrade_gets_101_and_the_content_type(self, site: Site) -> None:
        async with opened(site.connect()) as (reader, writer):
            writer.write(ATTACH + UPGRADE + b"\r\n")
            owner, early = await site.owner()
            assert await reader.readexactly(len(SWITCHED)) == SWITCHED
            assert early == b""
            owner.close()
            assert await reader.read() == b""

    async def test_a_client_without_upgrade_gets_200_raw(self, site: Site) -> None:
        async with opened(site.connect()) as (reader, writer):
            writer.write(ATTACH + b"\r\n")
            owner, _ = await site.owner()
            head = await reader.readuntil(b"\r\n\r\n")
            assert head == b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
            owner.close()

    async def test_over_tcp(self, site: Site) -> None:
        async with opened(asyncio.open_connection("127.0.0.1", site.port)) as (reader, writer):
            writer.write(ATTACH + UPGRADE + b"\r\nearly")
            owner, early = await site.owner()
            assert early == b"early"
            assert await reader.readexactly(len(SWITCHED)) == SWITCHED
            owner.sendall(b"out")
            owner.close()
            assert await reader.read() == b"out"


class TestOutput:
    async def test_is_held_back_until_the_head_was_read(self, site: Site) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, site.path)
            await loop.sock_sendall(client, ATTACH + UPGRADE + b"\r\n")
            owner = loop.create_task(site.owner())
            while True:
                with contextlib.suppress(BlockingIOError):
                    assert client.recv(65536, socket.MSG_PEEK) == SWITCHED
                    break
                await asyncio.sleep(0)
            for _ in range(5):  # the head is there and unread
                await asyncio.sleep(0)
                assert not owner.done()
            assert client.recv(65536) == SWITCHED
            (await owner)[0].close()

    async def test_but_not_for_ever(self, site: Site) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, site.path)
            await loop.sock_sendall(client, ATTACH + UPGRADE + b"\r\n")
            began = loop.time()
            (await site.owner())[0].close()
            assert loop.time() - began < 2


class TestWhatIsKept:
    async def test_bytes_in_the_segment_of_the_request(self, site: Site) -> None:
        async with opened(site.connect()) as (reader, writer):
            writer.write(ATTACH + UPGRADE + b"\r\nGET / HTTP/1.1\r\n\r\n")
            owner, early = await site.owner()
            assert early == b"GET / HTTP/1.1\r\n\r\n"
            assert site.seen == ["/v1.50/containers/abc/attach"]
            writer.write_eof()
            assert await talk(owner, b"bye") == b""
            assert await reader.read() == SWITCHED + b"bye"

    async def test_a_body_and_bytes_behind_it(self, site: Site) -> None:
        body = b'{"Detach":false}'
        async with opened(site.connect()) as (_, writer):
            writer.write(
                b"POST /exec/e1/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\ncontent-length: 16\r\n"
                + UPGRADE
                + b"\r\n"
                + body
                + b"stdin"
            )
            owner, early = await site.owner()
            assert (site.bodies, early) == ([body], b"stdin")
            owner.close()

    async def test_every_way_of_cutting_the_request(self, site: Site) -> None:
        whole = b"POST /exec/e1/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n" + UPGRADE + b"\r\n{}" + b"input"
        for cut in range(1, len(whole)):
            async with opened(site.connect()) as (reader, writer):
                writer.write(whole[:cut])
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                writer.write(whole[cut:])
                writer.write_eof()
                owner, early = await site.owner()
                assert early + await talk(owner, b"") == b"input", f"cut at {cut}"
                assert await reader.read() == SWITCHED
        assert site.bodies == [b"{}"] * (len(whole) - 1)

    async def test_a_byte_at_a_time(self, site: Site) -> None:
        async with opened(site.connect()) as (_, writer):
            for byte in ATTACH + UPGRADE + b"\r\nx":
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0)
            writer.write_eof()
            owner, early = await site.owner()
            assert early + await talk(owner, b"") == b"x"

    async def test_a_large_body_with_flow_control(self, site: Site) -> None:
        body = b"x" * 900_000
        async with opened(site.connect()) as (_, writer):
            writer.write(b"POST /exec/e1/start HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + body + b"input")
            writer.write_eof()
            owner, early = await site.owner()
            assert site.bodies == [body]
            assert early + await talk(owner, b"") == b"input"

    async def test_half_close_keeps_the_output(self, site: Site) -> None:
        async with opened(site.connect()) as (reader, writer):
            writer.write(ATTACH + UPGRADE + b"\r\nall of it")
            writer.write_eof()
            owner, early = await site.owner()
            assert early == b"all of it"
            assert await talk(owner, b"late answer") == b""
            assert await reader.read() == SWITCHED + b"late answer"

    async def test_input_stays_in_the_kernel(self, site: Site) -> None:
        async with opened(site.connect()) as (_, writer):
            writer.write(ATTACH + UPGRADE + b"\r\n")
            owner, early = await site.owner()
            writer.write(b"later")
            await writer.drain()
            writer.write_eof()
            assert early + await talk(owner, b"") == b"later"


class TestKeepAlive:
    async def test_requests_before_it_on_the_same_connection(self, site: Site) -> None:
        async with opened(site.connect()) as (reader, writer):
            for number in range(3):
                writer.write(f"GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"Content-Length: 2" in head
                assert await reader.readexactly(2) == f"/{number}".encode()
            writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
            writer.write(b"ab")
            await reader.readuntil(b"\r\n\r\n/x")
            writer.write(ATTACH + UPGRADE + b"\r\nearly")
            owner, early = await site.owner()
            assert early == b"early"
            owner.close()

    async def test_a_detached_exec_keeps_the_connection(self, site: Site) -> None:
        site.detach = True
        async with opened(site.connect()) as (reader, writer):
            request = b"POST /exec/e/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
            for _ in range(2):
                writer.write(request)
                await reader.readuntil(b"\r\n\r\n/exec/e/start")
            writer.write(request + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n/exec/e/start")
            await reader.readuntil(b"\r\n\r\n/next")

    async def test_what_follows_a_refused_attach_is_no_request(self, site: Site) -> None:
        site.refuse = True
        async with opened(site.connect()) as (reader, writer):
            writer.write(ATTACH + UPGRADE + b"\r\nDELETE /containers/abc HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 409")
            assert b"\r\nConnection: close" in answer
            assert site.seen == ["/v1.50/containers/abc/attach"]


class TestRefused:
    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" + ATTACH + UPGRADE + b"\r\nDELETE /b HTTP/1.1\r\n\r\n",
            b"POST /containers/a/attach HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
        ids=["pipelined", "chunked"],
    )
    async def test_where_the_end_of_the_request_is_hidden(self, site: Site, request_bytes: bytes) -> None:
        async with opened(site.connect()) as (reader, writer):
            writer.write(request_bytes)
            await reader.readuntil(b"HTTP/1.1 400")
            await reader.read()
            assert "Content-Length" in str(site.faults[0])
            assert site.seen[-1].endswith("/attach")

    @pytest.mark.parametrize(
        "head",
        [
            ATTACH + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
            ATTACH + b"Content-Length: -1\r\n\r\nabc",
            ATTACH + b"Content-Length : 1\r\n\r\nabc",
            ATTACH + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nabc",
            ATTACH + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
            b"POST /containers/a/attach HTTP/1.1\r\n" + b"x: y\r\n" * 500 + b"\r\n",
            b"POST /" + b"containers/" * 9000,
        ],
    )
    async def test_malformed_requests_get_400_and_no_handler(self, site: Site, head: bytes) -> None:
        async with opened(site.connect()) as (reader, writer):
            writer.write(head)
            answer = await reader.read()
            assert answer.split(b" ")[1] == b"400"
            assert b'{"message": "' in answer
            assert b"Server: pyd\r\n" in answer
            assert not site.taken.qsize()
            assert site.seen == []


class TestEnds:
    async def test_nothing_is_left_behind(self, site: Site) -> None:
        assert site.server is not None
        server = site.server

        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd"))

        for round_ in range(52):
            async with opened(site.connect()) as (reader, writer):
                writer.write(ATTACH + UPGRADE + b"\r\n")
                owner, _ = await site.owner()
                await reader.readexactly(len(SWITCHED))
                owner.close()
            if round_ == 1:
                await drained(lambda: len(server.connections))
                before, tasks = descriptors(), len(asyncio.all_tasks())
        await drained(lambda: len(server.connections))
        gc.collect()
        assert descriptors() <= before
        assert len(asyncio.all_tasks()) <= tasks

    async def test_the_connection_outlives_the_server(self, site: Site) -> None:
        async with opened(site.connect()) as (reader, writer):
            writer.write(ATTACH + UPGRADE + b"\r\n")
            owner, _ = await site.owner()
            await reader.readexactly(len(SWITCHED))
            assert site.server is not None
            await site.server.shutdown(0.1)
            writer.write(b"still")
            writer.write_eof()
            assert await talk(owner, b"here") == b"still"
            assert await reader.read() == b"here"


class TestApologies:
    @pytest.mark.parametrize(("framed", "expected"), [(True, frame(2, b"no\r\n")), (False, b"no\r\n")])
    async def test_said_in_the_stream(self, framed: bool, expected: bytes) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            taken = Hijacked(ours.detach(), b"", framed)
            await taken.apologise(2, "no")
            taken.close()
            assert theirs.recv(100) == expected
            assert theirs.recv(100) == b""

    async def test_a_client_that_is_gone_is_no_error(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.close()
        taken = Hijacked(ours.detach(), b"", framed=True)
        await taken.apologise(1, "nobody there")
        taken.close()


def test_frames() -> None:
    assert frame(1, b"abc") == b"\x01\x00\x00\x00\x00\x00\x00\x03abc"
    assert frame(2, b"") == b"\x02\x00\x00\x00\x00\x00\x00\x00"


@settings(max_examples=40, deadline=None)
@given(
    before=st.lists(st.sampled_from(["GET", "PUT", "POST", "CHUNKED"]), max_size=3),
    early=st.binary(max_size=40),
    data=st.data(),
)
def test_whatever_the_cuts_each_request_is_seen_once_and_no_byte_is_lost(
    before: list[str], early: bytes, data: st.DataObject
) -> None:
    """Ordinary requests one after the other, then an attach with input behind it, cut anywhere."""
    requests = {
        "GET": b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT": b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nPOST ",
        "POST": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nPOST /x",
        "CHUNKED": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    }

    def pieces(whole: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
        return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if a != b]

    sent = [pieces(requests[name]) for name in before]
    attach = pieces(ATTACH + UPGRADE + b"\r\n" + early)

    async def run() -> None:
        site = Site()
        server = ApiServer(site, access_log=None)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(server, theirs)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        async with asyncio.timeout(5):
            for request in sent:
                for piece in request:
                    writer.write(piece)
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                await reader.readuntil(b"\r\n\r\n/a")
            for piece in attach:
                writer.write(piece)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            writer.write_eof()
            owner, got = await site.owner()
            got += await talk(owner, b"done")
            assert await reader.read() == SWITCHED + b"done"
        assert got == early
        assert site.seen == ["/a"] * len(before) + ["/v1.50/containers/abc/attach"]
        writer.close()
        await writer.wait_closed()
        await server.shutdown(1)
        transport.close()

    asyncio.run(run())
