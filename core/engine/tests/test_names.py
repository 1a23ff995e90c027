"""The resolver: messages, names, and a server on real sockets that asks an upstream of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyd_conformance.network_stage import Namespace
from pyd_engine.names import server as server_module
from pyd_engine.names import sockets as sockets_module
from pyd_engine.names import wire
from pyd_engine.names.pieces import LAST, PIECE, pieces
from pyd_engine.names.server import Server
from pyd_engine.names.table import Table


def question(name: str, kind: int = wire.A, identity: int = 7, edns: bool = False) -> bytes:
    labels = b"".join(bytes((len(each),)) + each.encode() for each in name.split(".") if each) + b"\0"
    extra = b"\0" + struct.pack("!HHIH", 41, 4096, 0, 0) if edns else b""
    return struct.pack("!HHHHHH", identity, 0x0100, 1, 0, 0, int(edns)) + labels + struct.pack("!HH", kind, 1) + extra


def addresses(answer: bytes) -> list[str]:
    """The A and AAAA records of an answer of ours: names are pointers."""
    count = struct.unpack_from("!H", answer, 6)[0]
    position = 12
    while answer[position]:
        position += 1 + answer[position]
    position += 5
    found = []
    for _ in range(count):
        _, kind, _, _, length = struct.unpack_from("!HHHIH", answer, position)
        data = answer[position + 12 : position + 12 + length]
        found.append(str(ip_address(data)) if kind in (wire.A, wire.AAAA) else data.decode("latin-1"))
        position += 12 + length
    return found


def code(answer: bytes) -> int:
    return answer[3] & 15


# --- messages ------------------------------------------------------------------------------------------------------------


def test_a_question_is_read() -> None:
    query = wire.parse(question("Web.Example.", wire.AAAA, identity=300, edns=True))
    assert (query.identity, query.name, query.kind, query.edns, query.size) == (
        300,
        "web.example",
        wire.AAAA,
        True,
        4096,
    )
    assert wire.parse(question("web")).size == 512


def test_an_answer_repeats_the_question_and_carries_the_records() -> None:
    query = wire.parse(question("web", edns=True))
    answer = wire.response(query, [ip_address("10.1.2.3"), ip_address("10.1.2.4")])
    assert addresses(answer) == ["10.1.2.3", "10.1.2.4"]
    assert answer[:2] == b"\0\7"
    assert struct.unpack_from("!HH", answer, 4) == (1, 2)
    assert answer[2] & 0x81 == 0x81  # a response, recursion desired as asked
    assert code(wire.failure(query)) == wire.SERVFAIL
    assert wire.truncated(query)[2] & 2


@pytest.mark.parametrize(
    "message",
    [b"", b"\0" * 11, question("a")[:-1], struct.pack("!HHHHHH", 1, 0x8000, 1, 0, 0, 0) + b"\0\0\1\0\1",
     struct.pack("!HHHHHH", 1, 0, 2, 0, 0, 0) + b"\0\0\1\0\1", struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"],
    ids=["empty", "short", "cut", "response", "two", "pointer"],
)  # fmt: skip
def test_what_is_no_question_is_malformed(message: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.parse(message)


@pytest.mark.parametrize(
    ("message", "said"),
    [(struct.pack("!HHHHHH", 9, 0x1000, 1, 0, 0, 0), 4), (struct.pack("!HHHHHH", 9, 0, 2, 0, 0, 0), 1),
     (struct.pack("!HHHHHH", 9, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", 1), (question("a")[:-1] + b"\3", 4),
     (struct.pack("!HHHHHH", 9, 0x8000, 1, 0, 0, 0), None), (b"\0" * 11, None)],
    ids=["status", "two", "pointer", "chaos", "response", "short"],
)  # fmt: skip
def test_who_asks_wrongly_need_not_wait(message: bytes, said: int | None) -> None:
    with pytest.raises(wire.Malformed) as fault:
        wire.parse(message)

    answer = fault.value.answer
    assert (answer[:2], code(answer) if answer else None) == (message[:2] if answer else b"", said)


@given(st.binary(max_size=100000))
def test_an_order_of_any_length_comes_in_pieces(document: bytes) -> None:
    found = list(pieces(document))
    assert b"".join(each[1:] for each in found) == document
    assert max(map(len, found)) <= PIECE
    assert [each[:1] == LAST for each in found] == [False] * (len(found) - 1) + [True]


@given(st.binary(max_size=600))
def test_no_message_breaks_the_reader(message: bytes) -> None:
    with contextlib.suppress(wire.Malformed):
        wire.parse(message)


# --- names ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table() -> Table:
    table = Table()
    table.add("e1", "n1", "App", ["web", "www", "0123456789ab"], ["10.0.0.2", "fd00::2"])
    table.add("e2", "n1", "App", ["web2", "www"], ["10.0.0.3"])
    table.add("e3", "n2", "other", ["web"], ["10.9.0.9"])
    return table


def found(table: Table, networks: list[str], name: str) -> list[str] | None:
    answer = table.addresses(networks, name)
    return None if answer is None else sorted(map(str, answer))


def test_names_of_a_network(table: Table) -> None:
    assert found(table, ["n1"], "web") == ["10.0.0.2", "fd00::2"]
    assert found(table, ["n1"], "www") == ["10.0.0.2", "10.0.0.3", "fd00::2"]
    assert found(table, ["n1"], "web.app") == ["10.0.0.2", "fd00::2"]
    assert found(table, ["n2", "n1"], "web") == ["10.9.0.9"]
    assert found(table, ["n2"], "www") is None
    assert found(table, ["n2"], "web.app") is None
    assert found(table, ["n3"], "web") is None


def test_those_with_one_name_take_turns(table: Table) -> None:
    firsts = {str((table.addresses(["n1"], "www") or [None])[0]) for _ in range(6)}
    assert firsts == {"10.0.0.2", "10.0.0.3", "fd00::2"}


def test_addresses_have_names(table: Table) -> None:
    assert table.name_of(["n2", "n1"], ip_address("10.0.0.3")) == "web2.app"
    assert table.name_of(["n2"], ip_address("10.0.0.3")) is None


def test_who_leaves_is_not_found(table: Table) -> None:
    table.drop("e1")
    table.drop("e1")
    assert found(table, ["n1"], "web") is None
    assert found(table, ["n1"], "www") == ["10.0.0.3"]
    assert table.name_of(["n1"], ip_address("10.0.0.2")) is None
    table.add("e2", "n1", "App", ["renamed"], ["10.0.0.3"])
    assert found(table, ["n1"], "www") is None
    assert found(table, ["n1"], "renamed") == ["10.0.0.3"]


# --- the server ------------------------------------------------------------------------------------------------------------


class Upstream(asyncio.DatagramProtocol):
    """Answers every A question with 192.0.2.1; *deaf* ones say nothing."""

    def __init__(self, deaf: bool = False) -> None:
        self.deaf = deaf
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        query = wire.parse(data)
        self.asked.append(query.name)
        if not self.deaf:
            self.transport.sendto(wire.response(query, [ip_address("192.0.2.1")]), addr)  # type: ignore[attr-defined]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    for each in (udp, tcp):
        each.bind(("127.0.0.1", 0))
    tcp.listen()
    yield udp, tcp
    udp.close()
    tcp.close()


def conversation(
    sockets: tuple[socket.socket, socket.socket],
    upstream: list[str],
    talk: Callable[[Callable[[bytes], Awaitable[bytes]], Callable[[bytes], Awaitable[bytes]]], Awaitable[None]],
) -> None:
    """A server with a network ``n1``; *talk* gets ways to ask it by UDP and by TCP."""
    udp, tcp = sockets
    places = udp.getsockname(), tcp.getsockname()

    async def run() -> None:
        server = Server()
        await server.order(
            {"op": "add", "endpoint": "e", "network": "n1", "network_name": "app", "names": ["web"],
             "addresses": ["10.0.0.2"]}, [],
        )  # fmt: skip
        order = {
            "op": "serve",
            "container": "c",
            "networks": ["n1"],
            "upstream": upstream,
            "aliases": {"db": ["n1", "web"]},
        }
        await server.order(order, [udp.detach(), tcp.detach()])

        async def by_udp(message: bytes) -> bytes:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(places[0])
                client.send(message)
                async with asyncio.timeout(20):
                    return await asyncio.get_running_loop().sock_recv(client, 4096)

        async def by_tcp(message: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(*places[1])
            writer.write(len(message).to_bytes(2, "big") + message)
            async with asyncio.timeout(20):
                answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            writer.close()
            return answer

        await talk(by_udp, by_tcp)
        await server.order({"op": "leave", "container": "c"}, [])
        while len(asyncio.all_tasks()) > 1:  # conversations see that they are over
            await asyncio.sleep(0)

    asyncio.run(run())


def test_known_names_are_answered_by_udp_and_tcp(sockets: tuple[socket.socket, socket.socket]) -> None:
    async def talk(udp: Callable[[bytes], Awaitable[bytes]], tcp: Callable[[bytes], Awaitable[bytes]]) -> None:
        assert addresses(await udp(question("WEB"))) == ["10.0.0.2"]
        assert addresses(await tcp(question("web.app"))) == ["10.0.0.2"]
        none = await udp(question("web", wire.AAAA))
        assert (addresses(none), code(none)) == ([], 0)
        assert addresses(await udp(question("db"))) == ["10.0.0.2"]
        assert addresses(await udp(question("2.0.0.10.in-addr.arpa", wire.PTR))) == ["\x03web\x03app\x00"]

    conversation(sockets, [], talk)


def test_without_an_upstream_nothing_is_asked(sockets: tuple[socket.socket, socket.socket]) -> None:
    async def talk(udp: Callable[[bytes], Awaitable[bytes]], tcp: Callable[[bytes], Awaitable[bytes]]) -> None:
        assert code(await udp(question("nosuch.example"))) == wire.SERVFAIL
        assert code(await tcp(question("nosuch.example"))) == wire.SERVFAIL

    conversation(sockets, [], talk)


def test_what_is_not_known_is_asked_of_the_next_who_answers(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_PATIENCE", 0.2)
    ports = {}
    real = asyncio.BaseEventLoop.create_datagram_endpoint

    async def elsewhere(loop: asyncio.BaseEventLoop, factory: object, **more: object) -> object:
        address = more.get("remote_addr")
        if isinstance(address, tuple) and address[1] == 53:
            more["remote_addr"] = ("127.0.0.1", ports[address[0]])
        return await real(loop, factory, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_datagram_endpoint", elsewhere)
    deaf, good = Upstream(deaf=True), Upstream()

    async def talk(udp: Callable[[bytes], Awaitable[bytes]], _tcp: Callable[[bytes], Awaitable[bytes]]) -> None:
        transports = []
        for name, each in (("deaf", deaf), ("good", good)):
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda each=each: each,  # type: ignore[misc]
                local_addr=("127.0.0.1", 0),
            )
            ports[name] = transport.get_extra_info("sockname")[1]
            transports.append(transport)
        answer = await udp(question("Far.Example", identity=4711))
        assert addresses(answer) == ["192.0.2.1"]
        assert answer[:2] == struct.pack("!H", 4711)
        assert deaf.asked == good.asked == ["far.example"]
        for transport in transports:
            transport.close()

    conversation(sockets, ["deaf", "good"], talk)


@pytest.mark.root
def test_sockets_are_opened_again_where_the_rules_lead() -> None:
    """Who asks from one socket all its life is answered by the next daemon, too."""
    if sockets_module._library() is None:
        pytest.skip("no libnftables here (scripts/provision)")
    inside = Namespace()
    inside.ip("link", "set", "lo", "up")
    opened: list[socket.socket] = []
    try:
        for _ in range(2):
            opened += sockets_module.open_in(inside.path)
        assert [each.getsockname() for each in opened[:2]] == [each.getsockname() for each in opened[2:]]
    finally:
        for each in opened:
            each.close()
        inside.close()


@pytest.mark.root
def test_without_nftables_a_container_is_served_again_before_the_last_time_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets_module, "_library", lambda: None)
    inside = Namespace()
    inside.ip("link", "set", "lo", "up")
    opened: list[socket.socket] = []
    try:
        for _ in range(2):
            opened += sockets_module.open_in(inside.path)
        assert {each.getsockname() for each in opened} == {("127.0.0.11", 53)}
    finally:
        for each in opened:
            each.close()
        inside.close()
