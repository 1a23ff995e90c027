"""Answers that take their time: progress as JSON lines, events, logs, archives.

A stream's first item is made *before* the status line goes out, so that "no such image" is a 404 and not a line in a
stream that began with 200. What fails later is said in the stream, in the shape Docker's clients look for. Streams are
cancelled when the client goes away, and close what they read from.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from pyd_daemon.failures import describe
from pyd_daemon.hijack import Connection

__all__ = ["Cut", "cancellable", "gone", "send_bytes", "send_objects"]

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_END = object()


class Cut(ConnectionError):
    """The connection is to end without another word."""


def gone(request: BaseRequest) -> bool:
    """Nobody listens any more."""
    transport = request.transport
    return transport is None or transport.is_closing()


@contextmanager
def cancellable(request: BaseRequest) -> Iterator[None]:
    """Inside, the request's task is cancelled when the client goes away.

    One that has closed its side already cannot be seen leaving: it gets no stream.
    """
    connection = request.protocol
    if not isinstance(connection, Connection):
        yield
        return
    if connection.half_closed:
        raise Cut("the client has closed its side: nothing would tell when it leaves")
    connection.cancellable = True
    try:
        yield
    finally:
        connection.cancellable = False  # the connection may serve another request, which must not be


async def send_objects(
    request: BaseRequest,
    items: AsyncIterable[Any],
    headers: Mapping[str, str],
    *,
    primed: bool = True,
    start: bytes = b"",
    end: bytes = b"\r\n",
) -> web.StreamResponse:
    """One JSON object per line. *primed*: wait for the first before the status is sent; else the head goes at once.

    The content type is ``application/json`` unless *headers* has another; *start* and *end* go around each object.
    """

    async def fail(response: web.StreamResponse, error: Exception) -> None:
        # The status is gone: the stream is the only way to say it.
        _, text = describe(error, f"{request.method} {request.rel_url.raw_path}")
        await response.write(start + _encode({"errorDetail": {"message": text}, "error": text}) + end)

    response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
    return await _send(request, response, items, lambda item: start + _encode(item) + end, fail, primed)


async def send_bytes(
    request: BaseRequest, items: AsyncIterable[bytes], headers: Mapping[str, str], *, primed: bool = True
) -> web.StreamResponse:
    """Bytes as they come. What fails in the middle ends the connection without the last chunk: the client sees it."""

    async def fail(_response: web.StreamResponse, error: Exception) -> None:
        describe(error, f"{request.method} {request.rel_url.raw_path}")
        raise Cut("the stream failed half-way: cut, so that the client knows") from error

    return await _send(request, web.StreamResponse(headers=headers), items, bytes, fail, primed)


async def _send(
    request: BaseRequest,
    response: web.StreamResponse,
    items: AsyncIterable[T],
    encode: Callable[[T], bytes],
    fail: Callable[[web.StreamResponse, Exception], Any],
    primed: bool,
) -> web.StreamResponse:
    source: AsyncIterator[T] = aiter(items)
    try:
        with cancellable(request):
            head: Any = _END
            if primed:
                head = await anext(source, _END)
            await response.prepare(request)  # a StreamResponse sends its head at once
            try:
                if head is not _END:
                    await response.write(encode(head))
                if head is not _END or not primed:
                    async for item in source:
                        await response.write(encode(item))
            except Exception as error:
                if gone(request):
                    raise Cut("the client went away") from error
                await fail(response, error)
            await response.write_eof()
    finally:
        for closing in {id(source): source, id(items): items}.values():
            close = getattr(closing, "aclose", None)
            if close is not None:
                await close()
    return response
