"""Taking a client's connection away from HTTP: attach and exec.

Docker's clients turn the connection of ``POST /containers/{id}/attach`` and of ``POST /exec/{id}/start`` into a raw
stream. Here the socket itself is handed on: the route gets a duplicate of the descriptor, the engine passes it to the
process that owns the container, and the daemon is out of the data path. What shaped this module:

* aiohttp's C parser treats only ``websocket`` as an upgrade; bytes behind the request (same segment) would be parsed as
  HTTP and lost. So `Connection` recognises the two requests before the parser does, feeds it exactly one request, keeps
  what follows, and stops reading: later bytes, and the client's half-close, stay in the kernel for the next owner.
* asyncio closes a connection whose peer half-closed, unless `eof_received` says otherwise: `echo x | docker run -i`
  would lose its output.
* closing an asyncio or uvloop transport closes its descriptor without `shutdown(2)`, so a duplicate lives on.
* docker-py reads the head through a buffered file and the stream from the bare socket: output that arrives together with
  the head is lost to it. So output is held back until the client has read the head, for 0.2 s at most.
* bytes behind a hijack request that was *refused* are input of a program, not requests: the connection is closed then,
  whatever the client asked for (request smuggling, CVE-2026-34040's family).

It leans on aiohttp's internals (`web_protocol.RequestHandler`): the distribution pins ``aiohttp<3.15``.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import json
import os
import re
import socket
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from pyd_contracts.errors import InvalidArgument, Unavailable, Unsupported

__all__ = ["MULTIPLEXED", "RAW", "ApiServer", "Connection", "Hijacked", "Taken", "frame", "hijack"]

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

_STARTS = b"POST /"
_TARGET = re.compile(rb"POST (?:/v[0-9.]+)?/(?:containers/[^/? ]+/attach|exec/[^/? ]+/start)[? ]")
_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\nTransfer-Encoding:", re.IGNORECASE)
_PATIENCE = 0.2  # seconds for the client to read the head
_HEAD_LIMIT = 64 * 1024
_TARGET_LIMIT = 1024  # longer than any such request line; past it the bytes go to the parser, which has its own limits


def frame(stream: int, payload: bytes) -> bytes:
    """One frame of Docker's multiplexed stream; *stream*: 1 stdout, 2 stderr."""
    return bytes((stream, 0, 0, 0)) + len(payload).to_bytes(4, "big") + payload


class Connection(RequestHandler):
    """One client connection: aiohttp's, plus the care for requests that may take the connection away.

    `cancellable` is set by streaming responses: only those are cancelled when the client goes away. A container that
    is being created is not left half made because somebody pressed ^C.
    """

    __slots__ = ("_early", "_gathered", "_in_head", "_last", "_remaining", "cancellable", "half_closed")

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self.cancellable = False
        self.half_closed = False  # the client has said all; whether it still listens shows when it is written to
        self._last: StreamReader | None = None  # the body of the newest request
        self._gathered = b""  # the beginning of what may be a hijack request, not yet fed to the parser
        self._in_head = False  # the parser has an incomplete head
        self._remaining = -1  # bytes of the recognised request's body still to come; -1: no such request
        self._early: bytes | None = None  # what came behind it; not None: the whole request was fed, reading is stopped

    # ------------------------------------------------------------------ from the transport

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp asks itself to go on parsing
            super().data_received(data)
        elif self._early is not None:
            self._early += data
        elif self._remaining >= 0:
            self._feed_body(data)
        elif self._gathered or (self._idle() and data[:6] == _STARTS[: len(data)]):
            self._gather(self._gathered + data)
        else:
            self._feed_plain(data)

    def eof_received(self) -> bool | None:  # type: ignore[override] # aiohttp's says None: "close"; ours keeps the write side
        if self._early is not None or self._remaining >= 0:
            return True
        if self._idle() or self._in_head or self.cancellable or self._last is None or not self._last.is_eof():
            return None
        # A whole request was said and is being answered: socat(1) and nc(1) close their side as soon as they have said it.
        self.half_closed = self._close = True
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        task = self._task_handler if self.cancellable else None
        super().connection_lost(exc)
        if task is not None:
            task.cancel()

    def _resume_transport_reading(self) -> None:
        if self._early is None:  # the body's flow control may not undo the stop
            super()._resume_transport_reading()

    # ------------------------------------------------------------------ recognising

    def _idle(self) -> bool:
        """Between two requests: what comes next begins with a request line."""
        waiter = self._waiter
        waits = waiter is not None and not waiter.done()
        return (waits or self._request_count == 0) and not self._messages and not self._in_head

    def _feed_plain(self, data: bytes) -> None:
        before = self._request_count
        idle = self._idle()
        super().data_received(data)
        if self._request_count != before:
            self._in_head = False
            if self._messages:
                self._last = self._messages[-1][1]
        elif idle:
            self._in_head = True

    def _gather(self, data: bytes) -> None:
        self._gathered = b""
        matched = _TARGET.match(data[:_TARGET_LIMIT])
        if matched is None:
            # The request line may still be on its way.
            if len(data) < _TARGET_LIMIT and b"\r" not in data and data[:6] == _STARTS[: len(data)]:
                self._gathered = data
            else:
                self._feed_plain(data)
            return
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) < _HEAD_LIMIT:
                self._gathered = data
            else:
                self._feed_plain(data)  # the parser refuses it
            return
        head, rest = data[: end + 4], data[end + 4 :]
        lengths = _LENGTH.findall(head[:-2])
        if _CHUNKED.search(head) or len(lengths) > 1:
            self._feed_plain(data)  # not a request to frame by hand: `hijack` refuses it
            return
        self._remaining = int(lengths[0]) if lengths else 0
        super().data_received(head)
        self._feed_body(rest)

    def _feed_body(self, data: bytes) -> None:
        body, behind = data[: self._remaining], data[self._remaining :]
        self._remaining -= len(body)
        if not self._remaining:
            self._remaining = -1
            self._early = behind
            self._pause_transport_reading()
        if body:
            super().data_received(body)

    # ------------------------------------------------------------------ for the routes

    @property
    def held(self) -> bool:
        """A hijack request was fed whole and nothing behind it was touched."""
        return self._early is not None

    def take_early(self) -> bytes:
        """What the client sent behind the request; it stays held."""
        early = self._early or b""
        self._early = b""
        return early

    def release(self, *, keep: bool) -> bool:
        """The request was answered as plain HTTP: go on reading. False if the connection must be closed instead.

        *keep*: what follows is another request (a detached exec), not input meant for a program (a refused attach).
        """
        if not keep or self._remaining >= 0:  # the second: refused before its body was there
            return False
        if self._early is None:
            return True
        early, self._early = self._early, None
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()
        if early:
            self._feed_plain(early)
        return True

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """A request that aiohttp could not parse: answered in the API's shape, and closed."""
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun: no other can be sent")
        if status >= 500 and exc is not None:
            self.logger.error("unhandled error outside the routes", exc_info=exc)
            text = "internal error"
        else:
            text = " ".join((message or "malformed request").split())[:300]
        headers = self._manager.headers if isinstance(self._manager, ApiServer) else {}
        response = web.Response(
            status=status,
            body=json.dumps({"message": text}).encode() + b"\n",
            headers={**headers, "Content-Type": "application/json"},
        )
        response.force_close()
        return response


class ApiServer(web.Server):
    """aiohttp's low-level server, making `Connection`s. *headers*: what answers to unparsable requests carry."""

    def __init__(self, handler: Any, *, headers: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(handler, **options)
        self.headers = dict(headers or {})

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def pre_shutdown(self) -> None:
        """Streams that have no end (events, followed logs) end now; other requests get their time."""
        for connection in self.connections:
            task = connection._task_handler
            if isinstance(connection, Connection) and connection.cancellable and task is not None:
                task.cancel()
        super().pre_shutdown()


@dataclass(frozen=True, slots=True)
class Hijacked:
    """A connection that is no longer HTTP.

    *fd*: a duplicate of the client's socket, non-blocking, close-on-exec; the holder closes it. *early*: what the
    client sent together with the request.
    """

    fd: int
    early: bytes
    framed: bool

    def close(self) -> None:
        """Close the duplicate."""
        os.close(self.fd)

    async def apologise(self, stream: int, text: str) -> None:
        """Say in the stream why nothing came of it: HTTP is over, there is no status to send any more."""
        payload = f"{text}\r\n".encode(errors="replace")
        with socket.socket(fileno=os.dup(self.fd)) as duplicate:
            duplicate.setblocking(False)
            try:
                async with asyncio.timeout(5):
                    await asyncio.get_running_loop().sock_sendall(
                        duplicate, frame(stream, payload) if self.framed else payload
                    )
            except (OSError, TimeoutError):  # the client is gone, or does not read: there is nobody to tell
                return


class Taken(web.StreamResponse):
    """What a route returns after a hijack: writes nothing, and lets aiohttp drop the connection without a farewell."""

    async def prepare(self, request: BaseRequest) -> None:
        """Nothing to prepare: the head is on the wire."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing to end."""

    @property
    def keep_alive(self) -> bool | None:
        """Never: another process owns the socket."""
        return False


async def hijack(request: BaseRequest, *, framed: bool, multiplexed: bool) -> Hijacked:
    """Answer *request* with the head of a raw stream and take its socket.

    *framed*: output comes in frames; *multiplexed*: this client (API 1.42 and later) is told so by the content type.
    Returns once the head is with the kernel; from then on nothing of asyncio reads or writes the socket. The caller
    ends by returning `Taken()`, which closes the daemon's own descriptor; a duplicate keeps the connection.

    Raises `InvalidArgument` if the request came in a way that hides where it ends, `Unsupported` on TLS connections,
    `Unavailable` when the client has gone.
    """
    connection = request.protocol
    transport = request.transport
    if not isinstance(connection, Connection) or transport is None:
        raise Unavailable("take over the connection: the client has gone")
    if not connection.held:
        raise InvalidArgument(
            "take over the connection: cannot tell where the request ends; send it on its own (not pipelined), with "
            "Content-Length instead of Transfer-Encoding"
        )
    if transport.get_extra_info("sslcontext") is not None:
        raise Unsupported(
            "take over the connection: TLS connections cannot be handed to a container; use a unix socket"
        )
    if "upgrade" in request.headers:
        kind = MULTIPLEXED if framed and multiplexed else RAW
        head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n\r\n"
    transport.set_write_buffer_limits(high=0)  # "paused" now means: something is not yet with the kernel
    transport.write(head.encode())
    try:
        await connection._drain_helper()
    except ConnectionError as error:
        raise Unavailable("take over the connection: the client went away") from error
    if transport.is_closing():
        raise Unavailable("take over the connection: the client went away")
    fd = os.dup(transport.get_extra_info("socket").fileno())
    await _head_read(fd)
    return Hijacked(fd, connection.take_early(), framed)


async def _head_read(fd: int) -> None:
    """Wait, for a moment, until nothing that was sent is unread (SIOCOUTQ, unix(7)).

    On TCP that number says "unacknowledged", which says nothing about reading: there is no wait then.
    """
    with socket.socket(fileno=os.dup(fd)) as duplicate:
        if duplicate.family != socket.AF_UNIX:
            return
    unread = array.array("i", [0])
    loop = asyncio.get_running_loop()
    end = loop.time() + _PATIENCE
    while True:
        fcntl.ioctl(fd, termios.TIOCOUTQ, unread)
        if not unread[0] or loop.time() > end:
            return
        await asyncio.sleep(0.0002)
