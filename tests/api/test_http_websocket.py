"""Attach over a websocket."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from pyd_daemon.hijack import frame
from pyd_daemon.routes.attach_ws import Unframed

IMAGE = "registry.example:5000/team/app:1.0"
TARGET = "http://docker/v1.50/containers/one/attach/ws"


async def made(api: Any, *command: str, **config: Any) -> None:
    body = {"Image": IMAGE, "Cmd": list(command), **config}
    assert (await api("POST", "/containers/create?name=one", json=body))[0] == 201


async def test_output_and_input(api: Any) -> None:
    await made(api, "cat", "x", OpenStdin=True, AttachStdin=True)
    async with api.session.ws_connect(f"{TARGET}?stream=1&stdin=1&stdout=1&stderr=1") as socket:
        assert (await api("POST", "/containers/one/start"))[0] == 204
        assert (await socket.receive()).data == b"cat x\n"
        await socket.send_bytes(b"hello\n")
        assert (await socket.receive()).data == b"hello\n"
        await socket.send_str("text too\n")
        assert (await socket.receive()).data == b"text too\n"


async def test_the_end_of_the_container_closes_it(api: Any) -> None:
    await made(api, "exit", "0")
    async with api.session.ws_connect(f"{TARGET}?stream=1&stdout=1") as socket:
        assert (await api("POST", "/containers/one/start"))[0] == 204
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize(("target", "status"), [(f"{TARGET}?stdout=1", 400), (TARGET.replace("one", "no"), 400)])
async def test_refused_before_the_handshake(api: Any, target: str, status: int) -> None:
    await made(api, "cat")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await api.session.ws_connect(target)
    assert refused.value.status == status


async def test_no_such_container(api: Any) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await api.session.ws_connect(f"{TARGET}?stream=1")
    assert refused.value.status == 404


async def test_without_a_handshake(api: Any) -> None:
    await made(api, "cat")
    status, body, _ = await api("GET", "/containers/one/attach/ws?stream=1")
    assert status == 400
    assert "handshake" in body["message"]


def test_frames_in_any_pieces() -> None:
    whole = frame(1, b"one") + frame(2, b"") + frame(1, b"x" * 1000)
    for size in (1, 3, 7, 2000):
        unframed = Unframed()
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert [payload for piece in pieces for payload in unframed.feed(piece)] == [b"one", b"", b"x" * 1000]
