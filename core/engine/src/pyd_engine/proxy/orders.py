"""What the daemon and the proxy's process say to one another: JSON objects with descriptors, over SOCK_SEQPACKET.

The process says first who it is::

    {"pid", "code"}

Then it is told::

    {"op": "lease", "endpoint"}   with a pidfd: when that process ends, the endpoint's ports end
    {"op": "lead", "endpoint", "ports": [[protocol, address, port], …]}   with a bound socket for each
    {"op": "leave", "endpoint"}
    {"op": "closed", "subnets": [subnet, …]}   whose addresses may not use published ports
    {"op": "show"}                which is answered in the words of "lead", and by {"end": true}
    {"op": "retire"}              take nothing new; end with the last connection
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["BATCH", "code", "receive", "send"]

BATCH = 200
"""Descriptors in a message; the kernel takes 253 (SCM_MAX_FD)."""
_SIZE = 1 << 16


def send(connection: socket.socket, words: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Say one message. Raises OSError."""
    socket.send_fds(connection, [json.dumps(words).encode()], list(fds), socket.MSG_NOSIGNAL)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Hear one message; an empty one when the other end is gone. Raises OSError, BlockingIOError."""
    data, fds, _, _ = socket.recv_fds(connection, _SIZE, BATCH, socket.MSG_CMSG_CLOEXEC)
    return (json.loads(data) if data else {}), fds


def code() -> str:
    """Changes with the program: a process that an earlier version left is recognised by it."""
    with os.scandir(os.path.dirname(__file__)) as entries:
        sources = sorted((each.name, each.stat()) for each in entries if each.name.endswith(".py"))
    return " ".join(f"{found.st_mtime_ns:x}.{found.st_size:x}" for _, found in sources)
