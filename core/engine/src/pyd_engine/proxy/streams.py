"""TCP: connections that are accepted here and led on to a container, byte for byte, by splice(2).

What arrives goes from socket to pipe to socket and never into this program. A pipe is needed only while bytes are on their
way: connections that are quiet have none, and one pipe serves nearly all the others in turn.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Protocol

from pyd_engine.proxy.dispatch import ERROR, IN, OUT, Dispatcher

__all__ = ["Listener", "Pipes", "Place", "Room", "Session"]

_PIPE_SIZE = 256 << 10
_TURN = 1 << 20
"""Bytes that one connection may move in one direction before it is another's turn."""
_ACCEPTED_AT_ONCE = 64
_F_SETPIPE_SZ = 1031
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
_SPARE_PIPES = 8

Place = tuple[str, int]
"""Address and port of a container."""


class Room(Protocol):
    """How much this process takes on."""

    def has_room(self) -> bool:
        """Whether there are descriptors for one more connection."""

    def full(self) -> None:
        """One had to be left waiting."""

    def left(self) -> None:
        """A connection is over."""

    def admits(self, sender: str) -> bool:
        """Whether somebody at that address may use published ports."""


class Pipes:
    """Pipes without content, ready to be used."""

    def __init__(self) -> None:
        self._spare: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int]:
        """(read end, write end). Raises OSError when there are no descriptors left."""
        if self._spare:
            return self._spare.pop()
        pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with contextlib.suppress(OSError):  # pipe(7): a user's share is limited; a smaller one does as well
            fcntl.fcntl(pipe[1], _F_SETPIPE_SZ, _PIPE_SIZE)
        return pipe

    def give(self, pipe: tuple[int, int], *, empty: bool) -> None:
        """Give one back."""
        if empty and len(self._spare) < _SPARE_PIPES:
            self._spare.append(pipe)
            return
        for fd in pipe:
            os.close(fd)

    def close(self) -> None:
        """Close what is spare."""
        while self._spare:
            self.give(self._spare.pop(), empty=False)


class _Way:
    """One direction of a connection."""

    __slots__ = ("ended", "held", "pipe", "sink", "source")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.pipe: tuple[int, int] | None = None
        self.held = 0  # bytes in the pipe
        self.ended = False  # the source says no more, and the sink was told

    def move(self, pipes: Pipes) -> None:
        """Move what can be moved. Raises OSError when the connection is broken."""
        budget = _TURN
        while budget > 0 and not self.ended:
            if not self.held and not self._fill(pipes):
                return
            while self.held:
                assert self.pipe is not None
                try:
                    moved = os.splice(self.pipe[0], self.sink.fileno(), self.held, flags=_SPLICE)
                except BlockingIOError:
                    return
                self.held -= moved
                budget -= moved
            self.release(pipes)

    def _fill(self, pipes: Pipes) -> bool:
        """Take bytes from the source; whether there are any."""
        self.pipe = pipes.take()
        try:
            self.held = os.splice(self.source.fileno(), self.pipe[1], _PIPE_SIZE, flags=_SPLICE)
        except BlockingIOError:
            self.release(pipes)
            return False
        if not self.held:
            self.release(pipes)
            self.ended = True
            with contextlib.suppress(OSError):  # ENOTCONN: the other end is gone already
                self.sink.shutdown(socket.SHUT_WR)
            return False
        return True

    def release(self, pipes: Pipes) -> None:
        """Give the pipe back."""
        if self.pipe is not None:
            pipes.give(self.pipe, empty=not self.held)
            self.pipe = None


class Session:
    """A client's connection and ours to the container. *over* is told when both are closed."""

    __slots__ = ("_client", "_connected", "_dispatcher", "_over", "_pipes", "_target", "_ways")

    def __init__(
        self,
        client: socket.socket,
        place: Place,
        dispatcher: Dispatcher,
        pipes: Pipes,
        over: Callable[[Session], None],
    ) -> None:
        """Raises OSError when there can be no connection; *client* is not closed then."""
        self._client = client
        self._dispatcher = dispatcher
        self._pipes = pipes
        self._over = over
        self._connected = False
        family = socket.AF_INET6 if ip_address(place[0]).version == 6 else socket.AF_INET
        self._target = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            for each in (client, self._target):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # whether to wait, the two ends decide
                each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            failed = self._target.connect_ex(place)
            if failed not in (0, errno.EINPROGRESS):
                raise OSError(failed, os.strerror(failed))
        except OSError:
            self._target.close()
            raise
        self._ways = (_Way(client, self._target), _Way(self._target, client))
        dispatcher.watch(self._target.fileno(), OUT, self._ready)

    def close(self, *, reset: bool = False) -> None:
        """End both connections; *reset* tells both sides that something is missing."""
        for each in (self._client, self._target):
            self._dispatcher.forget(each.fileno())
            if reset:
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            each.close()
        for way in self._ways:
            way.release(self._pipes)
        self._over(self)

    def _ready(self, events: int) -> None:
        if events & ERROR:  # refused, reset, or gone without a word; what came before is delivered all the same
            for way in self._ways if self._connected else ():
                with contextlib.suppress(OSError):
                    way.move(self._pipes)
            self.close(reset=True)
            return
        self._connected = True
        try:
            for way in self._ways:
                way.move(self._pipes)
        except OSError:
            self.close(reset=True)
            return
        up, down = self._ways
        if up.ended and down.ended:
            self.close()
            return
        for each, read, write in ((self._client, up, down), (self._target, down, up)):
            wanted = (0 if read.held or read.ended else IN) | (OUT if write.held else 0)
            if wanted or not write.ended:
                self._dispatcher.watch(each.fileno(), wanted, self._ready)
            else:  # closed at both ends, as far as the kernel goes: it would tell so again and again (EPOLLHUP)
                self._dispatcher.forget(each.fileno())


class Listener:
    """A listening socket whose connections lead to *place*."""

    protocol = "tcp"

    def __init__(self, bound: socket.socket, place: Place, dispatcher: Dispatcher, pipes: Pipes, room: Room) -> None:
        self.socket = bound
        self.place = place
        self._dispatcher = dispatcher
        self._pipes = pipes
        self._room = room
        self._sessions: set[Session] = set()
        bound.setblocking(False)
        self.resume()

    def __len__(self) -> int:
        return len(self._sessions)

    def resume(self) -> None:
        """Accept again."""
        if self.socket.fileno() >= 0:
            self._dispatcher.watch(self.socket.fileno(), IN, self._accept)

    def pause(self) -> None:
        """Let those who come wait."""
        self._dispatcher.forget(self.socket.fileno())

    def stop(self) -> None:
        """Accept no more; what is connected goes on."""
        if self.socket.fileno() >= 0:
            self.pause()
            self.socket.close()

    def close(self) -> None:
        """The same, and cut what is connected."""
        self.stop()
        for session in list(self._sessions):
            session.close(reset=True)

    def _accept(self, _events: int) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if not self._room.has_room():
                self._room.full()
                return
            try:
                client, sender = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EINVAL:  # it listens no more: the daemon has taken the port back
                    self.pause()
                    return
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._room.full()
                    return
                continue  # this one is gone already (accept(2))
            client.setblocking(False)
            try:
                if not self._room.admits(sender[0]):
                    raise PermissionError(errno.EACCES, "published ports are not for this network")
                self._sessions.add(Session(client, self.place, self._dispatcher, self._pipes, self._over))
            except OSError:
                with contextlib.suppress(OSError):
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()

    def _over(self, session: Session) -> None:
        self._sessions.discard(session)
        self._room.left()
