"""The resolver's process: answers what containers ask at 127.0.0.11, asks others for the rest.

One process a daemon, so that no flood of queries slows the API; it ends with the daemon. Standard input is a unix socket that
brings JSON objects, each in one message or several (`pieces`), with descriptors:

    {"op": "serve", "container", "networks": [id…], "upstream": [address…], "aliases": {alias: [network, name]}},
                                                                        with a container's sockets, udp and tcp
    {"op": "leave", "container"}
    {"op": "add", "endpoint", "network", "network_name", "names", "addresses"}
    {"op": "drop", "endpoint"}

Its sockets lie in the containers' network namespaces; what it asks others leaves from the host's, so that a resolver on the
host's loopback is within reach. No upstream: nothing is asked, as on internal networks (CVE-2024-29018).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from pyd_engine.names import wire
from pyd_engine.names.pieces import LAST, PIECE
from pyd_engine.names.table import Table

__all__ = ["Server", "main"]

_BATCH = 32
_PATIENCE = 2.0
"""Seconds that one upstream gets, as in resolv.conf(5) (timeout is 5 there, for a whole round)."""
_WAITING = 512
"""Questions of one container that wait for others' answers; what is asked beyond is refused."""
_TALKS = 64
"""Connections of one container at once; what comes beyond is closed."""
_IDLE = 30.0
"""Seconds a connection may be silent."""


@dataclass(slots=True)
class _Client:
    """One container."""

    networks: list[str]
    upstream: list[str]
    aliases: dict[str, list[str]]
    udp: socket.socket
    tcp: asyncio.Server | None = None
    waiting: int = 0
    talks: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Server:
    """All containers of a daemon."""

    def __init__(self) -> None:
        self.table = Table()
        self._clients: dict[str, _Client] = {}

    # --- orders ----------------------------------------------------------------------------------------------------

    async def order(self, order: dict[str, Any], fds: list[int]) -> None:
        """Carry out one message."""
        match order["op"]:
            case "serve":
                await self._serve(order, *fds)
            case "leave":
                self._leave(order["container"])
            case "add":
                self.table.add(
                    order["endpoint"], order["network"], order["network_name"], order["names"], order["addresses"]
                )
            case "drop":
                self.table.drop(order["endpoint"])

    async def _serve(self, order: dict[str, Any], udp: int, tcp: int) -> None:
        self._leave(order["container"])
        client = _Client(order["networks"], order["upstream"], order.get("aliases", {}), socket.socket(fileno=udp))
        client.udp.setblocking(False)
        asyncio.get_running_loop().add_reader(client.udp, self._readable, client)
        client.tcp = await asyncio.start_server(
            lambda reader, writer: self._conversation(client, reader, writer), sock=socket.socket(fileno=tcp)
        )
        self._clients[order["container"]] = client

    def _leave(self, container: str) -> None:
        client = self._clients.pop(container, None)
        if client is None:
            return
        asyncio.get_running_loop().remove_reader(client.udp)
        client.udp.close()
        if client.tcp is not None:
            client.tcp.close()
        for task in client.tasks:
            task.cancel()

    # --- questions -------------------------------------------------------------------------------------------------

    def _readable(self, client: _Client) -> None:
        for _ in range(_BATCH):
            try:
                message, asker = client.udp.recvfrom(4096)
            except OSError:
                return
            try:
                query = wire.parse(message)
            except wire.Malformed as fault:
                if fault.answer:
                    _send(client, fault.answer, asker)
                continue
            answer = self.known(client.networks, query, client.aliases)
            if answer is not None:
                _send(client, answer if len(answer) <= query.size else wire.truncated(query), asker)
            elif not client.upstream or client.waiting >= _WAITING:
                _send(client, wire.failure(query), asker)
            else:
                self._spawn(client, self._ask_for(client, query, message, asker))

    def _spawn(self, client: _Client, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        client.tasks.add(task)
        task.add_done_callback(client.tasks.discard)

    async def _ask_for(self, client: _Client, query: wire.Query, message: bytes, asker: Any) -> None:
        client.waiting += 1
        try:
            _send(client, await _forwarded(client.upstream, query, message) or wire.failure(query), asker)
        finally:
            client.waiting -= 1

    def known(
        self, networks: list[str], query: wire.Query, aliases: Mapping[str, Sequence[str]] | None = None
    ) -> bytes | None:
        """The answer from our own names; None when they say nothing of it. *aliases* are the asker's own: network and name."""
        if query.kind == wire.PTR:
            address = _reversed(query.name)
            name = self.table.name_of(networks, address) if address is not None else None
            return None if name is None else wire.response(query, [name])
        network, name = (aliases or {}).get(query.name, ("", ""))
        found = self.table.addresses([network], name) if network else None
        if found is None:
            found = self.table.addresses(networks, query.name)
        if found is None:
            return None
        version = {wire.A: (4,), wire.AAAA: (6,), wire.ANY: (4, 6)}.get(query.kind, ())
        return wire.response(query, [each for each in found if each.version in version])

    async def _conversation(self, client: _Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        client.tasks.add(task)
        client.talks += 1
        try:
            if client.talks > _TALKS:
                return
            with contextlib.suppress(OSError, EOFError, TimeoutError, wire.Malformed):
                while True:
                    async with asyncio.timeout(_IDLE):
                        message = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                        answer = await self._answer_for(client, message)
                        writer.write(len(answer).to_bytes(2, "big") + answer)
                        await writer.drain()
        finally:
            client.talks -= 1
            client.tasks.discard(task)
            writer.close()

    async def _answer_for(self, client: _Client, message: bytes) -> bytes:
        try:
            query = wire.parse(message)
        except wire.Malformed as fault:
            if not fault.answer:
                raise
            return fault.answer
        answer = self.known(client.networks, query, client.aliases)
        if answer is None and client.upstream:
            answer = await _forwarded_tcp(client.upstream, message)
        return answer or wire.failure(query)


def _send(client: _Client, answer: bytes, asker: Any) -> None:
    with contextlib.suppress(OSError):  # it is gone, or its buffers are full: it asks again
        client.udp.sendto(answer, asker)


def _reversed(name: str) -> IPv4Address | IPv6Address | None:
    """The address that ``4.3.2.1.in-addr.arpa`` or its like asks for."""
    try:
        if name.endswith(".in-addr.arpa"):
            return ip_address(".".join(reversed(name.removesuffix(".in-addr.arpa").split("."))))
        if name.endswith(".ip6.arpa"):
            digits = "".join(reversed(name.removesuffix(".ip6.arpa").split(".")))
            return ip_address(":".join(digits[place : place + 4] for place in range(0, 32, 4)))
    except ValueError:
        pass
    return None


class _Exchange(asyncio.DatagramProtocol):
    """One question to one upstream, from a port of its own with an identity of its own (RFC 5452)."""

    def __init__(self, message: bytes, question: bytes) -> None:
        self._identity = random.SystemRandom().randbytes(2)
        self._message = self._identity + message[2:]
        self._question = question
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:  # 3.11's datagram transport is no subclass of DatagramTransport
        transport.sendto(self._message)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data[:2] == self._identity and self._question.lower() in data.lower() and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _forwarded(upstream: list[str], query: wire.Query, message: bytes) -> bytes | None:
    """What the first upstream that answers says; a failure only when all fail."""
    last: bytes | None = None
    for address in upstream:
        transport = None
        try:
            async with asyncio.timeout(_PATIENCE):
                transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                    functools.partial(_Exchange, message, query.question), remote_addr=(address, 53)
                )
                last = message[:2] + (await protocol.answer)[2:]
        except (OSError, TimeoutError):
            continue
        finally:
            if transport is not None:
                transport.close()
        if last[3] & 15 not in (wire.SERVFAIL, 5):  # neither a failure nor a refusal
            return last
    return last


async def _forwarded_tcp(upstream: list[str], message: bytes) -> bytes | None:
    for address in upstream:
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_connection(address, 53)
                try:
                    writer.write(len(message).to_bytes(2, "big") + message)
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    return await reader.readexactly(length)
                finally:
                    writer.close()
        except (OSError, EOFError, TimeoutError):
            continue
    return None


async def _run(orders: socket.socket) -> None:
    server = Server()
    loop = asyncio.get_running_loop()
    whole, brought = bytearray(), list[int]()
    while True:
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(orders, readable.set_result, None)
        await readable
        loop.remove_reader(orders)
        data, fds, _, _ = socket.recv_fds(orders, PIECE, 2)
        if not data:
            return  # the daemon has ended
        for fd in fds:
            os.set_inheritable(fd, False)
        whole += data[1:]
        brought += fds
        if data[:1] == LAST:
            document, fds = bytes(whole), brought
            whole, brought = bytearray(), []
            await server.order(json.loads(document), fds)


def main() -> None:
    """Serve until the daemon closes its end."""
    with socket.socket(fileno=0) as orders:
        asyncio.run(_run(orders))
