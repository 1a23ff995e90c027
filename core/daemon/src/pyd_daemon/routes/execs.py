"""Execs: a further process in a running container, prepared, started with the client wired to it, looked at."""

from __future__ import annotations

from aiohttp import web

from pyd_contracts.errors import InvalidArgument
from pyd_daemon.failures import describe
from pyd_daemon.hijack import Taken, hijack
from pyd_daemon.routes.containers import size_of_terminal
from pyd_daemon.routing import Call, Route
from pyd_daemon.wire.responses import IdResponse
from pyd_engine.containers.config import ExecStart, decode_exec_create, decode_exec_start

__all__ = ["ROUTES"]


async def create(call: Call) -> web.StreamResponse:
    """Remember what is to be run; nothing starts yet."""
    request = decode_exec_create(await call.body())
    return call.json(IdResponse(await call.backends.containers.exec_create(call.name, request)), status=201)


async def start(call: Call) -> web.StreamResponse:
    """Start it: detached, or with the client's connection as its stdio."""
    request = decode_exec_start(await call.body())
    plan = await call.backends.containers.exec_start(
        call.name, detach=request.detach, tty=request.tty, console_size=_console_size(call, request)
    )
    if request.detach:
        return call.empty(200)
    taken = await hijack(call.request, framed=plan.framed, multiplexed=call.since(42))
    try:
        await plan.connect(taken.fd, taken.early)
    except Exception as error:  # noqa: BLE001 # HTTP is over: Docker says it on stdout, the status is in the inspect
        await taken.apologise(1, describe(error, f"start exec {call.name}")[1])
    finally:
        taken.close()
    return Taken()


def _console_size(call: Call, request: ExecStart) -> tuple[int, int] | None:
    size = request.console_size
    if size is None or request.detach or not call.since(42):
        return None
    if len(size) != 2 or not all(0 <= value <= 0xFFFF for value in size):
        raise InvalidArgument("invalid ConsoleSize: expected [height, width] in characters")
    if not request.tty:
        raise InvalidArgument("console size is only supported when TTY is enabled")
    return (size[0], size[1]) if any(size) else None


async def inspect(call: Call) -> web.StreamResponse:
    """Whether it runs, and how it ended."""
    return call.json(await call.backends.containers.exec_inspect(call.name))


async def resize(call: Call) -> web.StreamResponse:
    """Tell its terminal how large it is."""
    height, width = size_of_terminal(call)
    await call.backends.containers.exec_resize(call.name, height, width)
    return call.empty(200)


ROUTES = (
    Route("POST", "/containers/{name}/exec", create),
    Route("POST", "/exec/{id}/start", start, hijacks=True),
    Route("POST", "/exec/{id}/resize", resize),
    Route("GET", "/exec/{id}/json", inspect),
)
