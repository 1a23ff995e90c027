"""Messages between the daemon, the zygote and the shims: one JSON object and descriptors per SOCK_SEQPACKET packet."""

from __future__ import annotations

import array
import json
import socket
from typing import Any

__all__ = ["MAX_MESSAGE", "receive", "send"]

MAX_MESSAGE = 1 << 20
"""Bytes; above what a plan with a long environment needs, below what the kernel refuses once SO_SNDBUF is raised."""
_MAX_FDS = 16
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; Python has no name for it
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


def make_roomy(connection: socket.socket) -> None:
    """Let *connection* send messages of up to MAX_MESSAGE bytes: a packet must fit the send buffer whole."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, MAX_MESSAGE * 2)
    except OSError:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE * 2)


def send(connection: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message. Raises OSError; a message that does not fit raises EMSGSIZE."""
    data = _encode(message).encode("ascii")
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    connection.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Receive one message and its descriptors (close-on-exec); None when the other end is gone."""
    data, ancillary, flags, _ = connection.recvmsg(
        MAX_MESSAGE, socket.CMSG_SPACE(_MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
    )
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
            fds.extend(numbers)
    if not data:
        return None, fds
    if flags & socket.MSG_TRUNC:
        raise OSError(90, "message too long for this protocol")  # EMSGSIZE
    message: dict[str, Any] = _decode(data.decode("utf-8"))
    return message, fds
