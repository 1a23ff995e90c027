"""Containers: made, listed, started, stopped, waited for, watched, removed."""

from __future__ import annotations

import asyncio

from aiohttp import web

from pyd_contracts.errors import InvalidArgument
from pyd_daemon import requests
from pyd_daemon.backends import Waiter
from pyd_daemon.failures import describe
from pyd_daemon.hijack import MULTIPLEXED, RAW, Taken, hijack
from pyd_daemon.routing import Call, Route
from pyd_daemon.streams import cancellable, send_bytes
from pyd_daemon.wire.responses import ContainerCreated, WaitError, WaitResult
from pyd_engine.containers.config import decode_create

__all__ = ["ROUTES"]

_LIST_FILTERS = frozenset(
    "ancestor before exited expose health id is-task isolation label name network publish since status volume".split()
)
_PRUNE_FILTERS = frozenset({"label", "label!", "until"})
_CONDITIONS = frozenset({"not-running", "next-exit", "removed"})
_WIRING = 5.0  # seconds at most
_FIRST_LONG_BODY = 7  # bytes; some clients send "{}" or "null" and a newline to /start


async def create(call: Call) -> web.StreamResponse:
    """Make a container; the image must be there (404 otherwise: the client then pulls it)."""
    body = await call.body()
    if not body:
        raise InvalidArgument("config cannot be empty in order to create a container")
    creation = await call.backends.containers.create(
        call.text("name") or None, decode_create(body), requests.platform(call.text("platform"))
    )
    return call.json(ContainerCreated(creation.id, list(creation.warnings)), status=201)


async def list_(call: Call) -> web.StreamResponse:
    """Containers; running ones only unless `all`, a `limit` or a status filter says otherwise."""
    limit = call.integer("limit", 0) or 0
    found = await call.backends.containers.list(
        all=call.flag("all"), limit=max(limit, 0), size=call.flag("size"), filters=call.filters(_LIST_FILTERS)
    )
    return call.json(found)


async def inspect(call: Call) -> web.StreamResponse:
    """Everything about one container."""
    return call.json(await call.backends.containers.inspect(call.name, size=call.flag("size")))


async def start(call: Call) -> web.StreamResponse:
    """Start it; 304 if it runs."""
    length = call.request.content_length
    if (length is not None and length > _FIRST_LONG_BODY) or (length is None and call.request.body_exists):
        raise InvalidArgument(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    if call.api.connecting:
        # `docker run` attaches, reads the head, and starts: its attach is wired first, or it would miss output.
        await asyncio.wait(call.api.connecting, timeout=_WIRING)
    await call.backends.containers.start(call.name, detach_keys=call.text("detachKeys") or None)
    return call.empty()


async def stop(call: Call) -> web.StreamResponse:
    """Ask it to end, then end it; 304 if it does not run. `t`: seconds, -1 waits for ever."""
    await call.backends.containers.stop(call.name, timeout=call.integer("t"), signal=_signal(call))
    return call.empty()


async def restart(call: Call) -> web.StreamResponse:
    """Stop and start."""
    await call.backends.containers.restart(call.name, timeout=call.integer("t"), signal=_signal(call))
    return call.empty()


def _signal(call: Call) -> str | None:
    return (call.text("signal") or None) if call.since(42) else None


async def kill(call: Call) -> web.StreamResponse:
    """Send it a signal."""
    await call.backends.containers.kill(call.name, signal=call.text("signal") or "SIGKILL")
    return call.empty()


async def pause(call: Call) -> web.StreamResponse:
    """Freeze it."""
    await call.backends.containers.pause(call.name)
    return call.empty()


async def unpause(call: Call) -> web.StreamResponse:
    """Thaw it."""
    await call.backends.containers.unpause(call.name)
    return call.empty()


async def rename(call: Call) -> web.StreamResponse:
    """Give it another name."""
    name = call.text("name")
    if not name:
        raise InvalidArgument("Neither old nor new names may be empty")
    await call.backends.containers.rename(call.name, name)
    return call.empty()


async def resize(call: Call) -> web.StreamResponse:
    """Tell its terminal how large it is."""
    height, width = size_of_terminal(call)
    await call.backends.containers.resize(call.name, height, width)
    return call.empty(200)


def size_of_terminal(call: Call) -> tuple[int, int]:
    """``h`` and ``w``, in characters."""
    height, width = call.integer("h"), call.integer("w")
    for value, name in ((height, "height"), (width, "width")):
        if value is None or not 0 <= value <= 0xFFFF:
            raise InvalidArgument(
                f"invalid resize {name}: expected a number of characters from 0 to 65535, got {value}"
            )
    assert height is not None
    assert width is not None
    return height, width


async def remove(call: Call) -> web.StreamResponse:
    """Remove it; a running one only with `force`."""
    await call.backends.containers.remove(
        call.name, force=call.flag("force"), volumes=call.flag("v"), link=call.flag("link")
    )
    return call.empty()


async def prune(call: Call) -> web.StreamResponse:
    """Remove all that do not run."""
    return call.json(await call.backends.containers.prune(call.filters(_PRUNE_FILTERS)))


async def top(call: Call) -> web.StreamResponse:
    """Its processes, as `ps` shows them."""
    return call.json(await call.backends.containers.top(call.name, call.text("ps_args") or "-ef"))


async def wait(call: Call) -> web.StreamResponse:
    """Its exit status, once it has one. The head is sent when the wait is registered: `docker run` starts it then."""
    condition = call.text("condition") if call.since(30) else ""
    if condition and condition not in _CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition[:40]}"')
    waiter = await call.backends.containers.waiter(call.name, condition or "not-running")
    response = web.StreamResponse(headers=call.api.json_headers)
    try:
        with cancellable(call.request):
            await response.prepare(call.request)
            await response.write(call.encode(await _result(call, waiter)))
            await response.write_eof()
    finally:
        waiter.cancel()
    return response


async def _result(call: Call, waiter: Waiter) -> WaitResult:
    try:
        status, why = await waiter.result()
    except Exception as error:  # noqa: BLE001 # the status line is gone: the body has a field for it
        return WaitResult(-1, WaitError(describe(error, f"wait for {call.name}")[1]))
    return WaitResult(status, WaitError(why) if why else None)


async def attach(call: Call) -> web.StreamResponse:
    """Wire the client's connection to the container's stdio: everything is checked before the connection is taken.

    Who asks for neither stream nor logs gets an empty stream: docker-py does unless it is told otherwise.
    """
    plan = await call.backends.containers.attach(
        call.name,
        stream=call.flag("stream"),
        logs=call.flag("logs"),
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        detach_keys=call.text("detachKeys") or None,
    )
    wired = asyncio.get_running_loop().create_future()
    call.api.connecting.add(wired)
    try:
        taken = await hijack(call.request, framed=plan.framed, multiplexed=call.since(42))
        try:
            await plan.connect(taken.fd, taken.early)
        except Exception as error:  # noqa: BLE001 # HTTP is over: the stream is the only way to say it
            await taken.apologise(2, f"Error attaching: {describe(error, f'attach {call.name}')[1]}")
        finally:
            taken.close()
    finally:
        call.api.connecting.discard(wired)
        wired.set_result(None)
    return Taken()


async def logs(call: Call) -> web.StreamResponse:
    """What it wrote, framed unless it has a terminal."""
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not (stdout or stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    stream = await call.backends.containers.logs(
        call.name,
        follow=call.flag("follow"),
        stdout=stdout,
        stderr=stderr,
        since_ns=requests.nanoseconds(call.text("since"), "since"),
        until_ns=requests.nanoseconds(call.text("until"), "until"),
        timestamps=call.flag("timestamps"),
        tail=_tail(call.text("tail")),
        details=call.flag("details"),
    )
    kind = MULTIPLEXED if stream.framed and call.since(42) else RAW
    return await send_bytes(call.request, stream, {**call.headers, "Content-Type": kind}, primed=False)


def _tail(text: str) -> int | None:
    """A number of lines; "all", nothing and whatever is no such number mean all, as in Docker."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


ROUTES = (
    Route("POST", "/containers/create", create),
    Route("GET", "/containers/json", list_),
    Route("POST", "/containers/prune", prune),
    Route("GET", "/containers/{name}/json", inspect),
    Route("GET", "/containers/{name}/logs", logs),
    Route("GET", "/containers/{name}/top", top),
    Route("POST", "/containers/{name}/start", start),
    Route("POST", "/containers/{name}/stop", stop),
    Route("POST", "/containers/{name}/restart", restart),
    Route("POST", "/containers/{name}/kill", kill),
    Route("POST", "/containers/{name}/pause", pause),
    Route("POST", "/containers/{name}/unpause", unpause),
    Route("POST", "/containers/{name}/rename", rename),
    Route("POST", "/containers/{name}/resize", resize),
    Route("POST", "/containers/{name}/wait", wait),
    Route("POST", "/containers/{name}/attach", attach, hijacks=True),
    Route("DELETE", "/containers/{name}", remove),
)
