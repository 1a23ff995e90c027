"""Attach over a websocket, as a browser does it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from clients import Client
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

Box = Callable[..., str]


async def talk(path: Path, container: str, said: bytes, until: bytes) -> bytes:
    """Send *said*; all output until *until* is in it or the other side closes."""
    heard = b""
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.ws_connect(
            f"http://docker/containers/{container}/attach/ws?stream=1&logs=1&stdin=1&stdout=1&stderr=1"
        ) as socket,
        asyncio.timeout(30),
    ):
        await socket.send_bytes(said)
        async for message in socket:
            heard += message.data
            if until in heard:
                break
    return heard


@pytest.mark.parametrize("terminal", [False, True])
def test_a_shell_over_a_websocket(pydd: Daemon, docker: Client, box: Box, terminal: bool) -> None:
    container = box("sh", "-c", "echo before; exec sh", flags=("-it",) if terminal else ("-i",))
    heard = asyncio.run(talk(pydd.socket, container, b"echo $((6*7)) >&2\n", b"42"))
    assert b"before" in heard
    assert b"42" in heard
    docker("kill", container)
