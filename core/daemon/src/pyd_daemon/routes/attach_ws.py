"""Attach over a websocket: for browsers, which can do nothing else.

Messages are binary; output comes as it is written, both streams as one, as dockerd has it since 1.28.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

from aiohttp import WSCloseCode, WSMsgType, web

from pyd_contracts.errors import InvalidArgument
from pyd_daemon.failures import describe
from pyd_daemon.routing import Call, Route

__all__ = ["ROUTES", "Unframed"]

_CHUNK = 64 * 1024
_HEAD = 8


class Unframed:
    """The payloads of Docker's multiplexed stream, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that are whole now."""
        self._buffer += data
        while len(self._buffer) >= _HEAD:
            end = _HEAD + int.from_bytes(self._buffer[4:_HEAD], "big")
            if len(self._buffer) < end:
                return
            yield bytes(self._buffer[_HEAD:end])
            del self._buffer[:end]


async def attach(call: Call) -> web.StreamResponse:
    """Wire the client's websocket to the container's stdio."""
    if not (call.flag("stream") or call.flag("logs")):
        raise InvalidArgument("Bad parameters: you must choose stream or logs")
    connection = web.WebSocketResponse(max_msg_size=1 << 20)
    if not connection.can_prepare(call.request):
        raise InvalidArgument("attach over a websocket: the request is no websocket handshake (RFC 6455)")
    plan = await call.backends.containers.attach(
        call.name,
        stream=call.flag("stream"),
        logs=call.flag("logs"),
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        detach_keys=call.text("detachKeys") or None,
    )
    await connection.prepare(call.request)
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        theirs.setblocking(False)
        try:
            await plan.connect(theirs.fileno(), b"")
        except Exception as error:  # noqa: BLE001 # HTTP is over: the close is the only way to say it
            text = describe(error, f"attach {call.name}")[1]
            await connection.close(code=WSCloseCode.INTERNAL_ERROR, message=text.encode()[:120])
            return connection
        finally:
            theirs.close()
        await _pass_on(connection, ours, framed=plan.framed)
    finally:
        ours.close()
    return connection


async def _pass_on(connection: web.WebSocketResponse, ours: socket.socket, *, framed: bool) -> None:
    """Both ways, until the container's side has ended or the client has left."""
    sending = asyncio.ensure_future(_output(connection, ours, framed))
    receiving = asyncio.ensure_future(_input(connection, ours))
    try:
        await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
    await connection.close()


async def _output(connection: web.WebSocketResponse, ours: socket.socket, framed: bool) -> None:
    unframed, loop = Unframed(), asyncio.get_running_loop()
    while data := await loop.sock_recv(ours, _CHUNK):
        for payload in unframed.feed(data) if framed else (data,):
            await connection.send_bytes(payload)


async def _input(connection: web.WebSocketResponse, ours: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async for message in connection:
        if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
            data = message.data.encode() if isinstance(message.data, str) else message.data
            with contextlib.suppress(ConnectionError):  # the program reads no more: its output goes on
                await loop.sock_sendall(ours, data)


ROUTES = (Route("GET", "/containers/{id}/attach/ws", attach),)
