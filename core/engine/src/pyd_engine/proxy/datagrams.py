"""UDP: datagrams that arrive here are led on to a container, its answers go back from the address that was asked.

Who asks gets a socket of ours towards the container, which tells the answers apart. It goes when it was silent for some
time, as in the kernel's own connection tracking.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from pyd_engine.proxy.dispatch import IN, Dispatcher
from pyd_engine.proxy.streams import Place, Room

__all__ = ["IDLE", "Port"]

IDLE = 90.0
"""Seconds; docker-proxy's as well."""
_ASKERS = 1024
"""Of one port at once; whoever was silent longest makes room."""
_BATCH = 64
_SIZE = 65535
_RECVPKTINFO, _PKTINFO = 49, 50  # IPV6_RECVPKTINFO, IPV6_PKTINFO (ipv6(7))
_INFO = struct.Struct("=16sI")

_Key = tuple[Any, bytes]
"""Who asks, and the address asked together with its interface."""


class _Asker:
    __slots__ = ("last", "socket")

    def __init__(self, place: Place) -> None:
        """Raises OSError."""
        family = socket.AF_INET6 if ip_address(place[0]).version == 6 else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self.socket.connect(place)
        except OSError:
            self.socket.close()
            raise
        self.last = time.monotonic()


class Port:
    """A bound socket whose datagrams lead to *place*."""

    protocol = "udp"

    def __init__(self, bound: socket.socket, place: Place, dispatcher: Dispatcher, room: Room) -> None:
        self.socket = bound
        self.place = place
        self._dispatcher = dispatcher
        self._room = room
        self._askers: dict[_Key, _Asker] = {}  # the one that was silent longest is the first
        bound.setblocking(False)
        bound.setsockopt(socket.IPPROTO_IPV6, _RECVPKTINFO, 1)
        self.resume()

    def __len__(self) -> int:
        return len(self._askers)

    def resume(self) -> None:
        """Take datagrams again."""
        if self.socket.fileno() >= 0:
            self._dispatcher.watch(self.socket.fileno(), IN, self._asked)

    def pause(self) -> None:
        """Let them wait, or be lost."""
        self._dispatcher.forget(self.socket.fileno())

    def stop(self) -> None:
        """Take no more; without the socket there are no answers either."""
        self.close()

    def close(self) -> None:
        """End it."""
        for key in list(self._askers):
            self._drop(key)
        if self.socket.fileno() >= 0:
            self.pause()
            self.socket.close()

    def expire(self, now: float) -> float | None:
        """Drop who was silent too long; when the next one is due, None: nobody is."""
        while self._askers:
            key, asker = next(iter(self._askers.items()))
            if asker.last + IDLE > now:
                return asker.last + IDLE
            self._drop(key)
        return None

    def _asked(self, _events: int) -> None:
        for _ in range(_BATCH):
            try:
                data, ancillary, _, sender = self.socket.recvmsg(_SIZE, 64)
            except OSError:
                return
            info = next((content[: _INFO.size] for _, kind, content in ancillary if kind == _PKTINFO), b"")
            asker = self._askers.get((sender, info)) or self._new(sender, info)
            if asker is None:
                continue
            self._touch((sender, info), asker)
            with contextlib.suppress(OSError):  # the container's port is closed: what was sent is lost, as on any path
                asker.socket.send(data)

    def _new(self, sender: Any, info: bytes) -> _Asker | None:
        if not info or not self._room.admits(sender[0]):
            return None
        while self._askers and (len(self._askers) >= _ASKERS or not self._room.has_room()):
            self._drop(next(iter(self._askers)))
        if not self._room.has_room():
            return None
        try:
            asker = _Asker(self.place)
        except OSError:
            return None
        key = sender, info
        self._askers[key] = asker
        self._dispatcher.watch(asker.socket.fileno(), IN, self._answering(key, asker))
        return asker

    def _answering(self, key: _Key, asker: _Asker) -> Callable[[int], None]:
        sender, info = key
        address, interface = _INFO.unpack(info)
        # A link-local address means nothing without its interface; elsewhere the routes decide, as for any answer.
        where = _INFO.pack(address, interface if ip_address(address).is_link_local else 0)
        source = [(socket.IPPROTO_IPV6, _PKTINFO, where)]

        def answer(_events: int) -> None:
            for _ in range(_BATCH):
                try:
                    data = asker.socket.recv(_SIZE)
                except ConnectionRefusedError:
                    continue  # nobody listens there
                except OSError:
                    return
                self._touch(key, asker)
                with contextlib.suppress(OSError):
                    self.socket.sendmsg([data], source, 0, sender)

        return answer

    def _touch(self, key: _Key, asker: _Asker) -> None:
        asker.last = time.monotonic()
        self._askers[key] = self._askers.pop(key, asker)  # the last one now

    def _drop(self, key: _Key) -> None:
        asker = self._askers.pop(key)
        self._dispatcher.forget(asker.socket.fileno())
        asker.socket.close()
