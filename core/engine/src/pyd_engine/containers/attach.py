"""Clients wired to containers: the plans routes get, and the connections that wait for a container to be started."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Connection

__all__ = ["DEFAULT_DETACH_KEYS", "ConnectPlan", "Pending", "parse_detach_keys"]

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_detach_keys(keys: str | None) -> bytes:
    """``ctrl-p,ctrl-q`` or ``a,b`` as bytes (moby/term, ToBytes); None gives the default."""
    sequence = bytearray()
    for key in (keys or DEFAULT_DETACH_KEYS).split(","):
        if len(key) == 1:
            sequence += key.encode("utf-8", "replace")[:1]
            continue
        if key == "DEL":
            sequence.append(127)
            continue
        letter = key.removeprefix("ctrl-")
        if letter == key or len(letter) != 1:
            raise InvalidArgument(f"invalid detach keys provided ({keys}): unknown key {key!r}")
        if letter.isascii() and letter.isalpha():
            sequence.append(ord(letter.lower()) - 96)
        elif letter in _CONTROL:
            sequence.append(_CONTROL[letter])
        else:
            raise InvalidArgument(f"invalid detach keys provided ({keys}): unknown key {key!r}")
    return bytes(sequence)


@dataclass(frozen=True, slots=True)
class ConnectPlan:
    """An attach or exec that passed its checks: it waits for the client's connection.

    wiring   what is to be wired; its descriptor is not there yet
    perform  takes the connection; the descriptor in it is duplicated by whoever needs it longer
    """

    framed: bool
    wiring: Connection
    perform: Callable[[Connection], Awaitable[None]]

    async def connect(self, fd: int, early: bytes) -> None:
        """Wire the client; the caller keeps and closes its own *fd*."""
        await self.perform(replace(self.wiring, fd=fd, early=early))


class Pending:
    """Connections of clients that attached before the start, as ``docker run`` does: none of the output may be missed."""

    def __init__(self) -> None:
        self._by_container: dict[str, list[Connection]] = defaultdict(list)

    def add(self, container: str, connection: Connection) -> None:
        """Keep a duplicate until the start."""
        duplicate = os.dup(connection.fd)
        os.set_inheritable(duplicate, False)
        self._by_container[container].append(replace(connection, fd=duplicate))

    def take(self, container: str) -> list[Connection]:
        """All that wait; the caller closes their descriptors."""
        return self._by_container.pop(container, [])

    def drop(self, container: str) -> None:
        """The container will not be started: hang up."""
        for connection in self.take(container):
            os.close(connection.fd)

    def close(self) -> None:
        """Hang up on all."""
        for container in tuple(self._by_container):
            self.drop(container)
