"""The wires of one process: its pipes or terminal on one side, clients' connections and the spool on the other.

Runs in a shim, on one epoll loop, with non-blocking descriptors. A client that does not read slows the process and loses
nothing: while any client's buffer is full, the process's output is not read.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyd_shim.spool import SpoolWriter

__all__ = ["Client", "Loop", "Wires"]

STDOUT, STDERR = 1, 2
CHUNK = 65536
BUFFER_LIMIT = 1 << 20
"""Bytes a client may lag behind before its process has to wait."""
PIPE_MAX = 1 << 20
"""Bytes a pipe can hold at most, where /proc/sys/fs/pipe-max-size was not changed (pipe(7))."""


class Loop:
    """An epoll loop: a descriptor has one callback, which gets the event mask."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._masks: dict[int, int] = {}

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        """Call *callback* on events of *mask*; a mask of 0 keeps the descriptor but asks for nothing."""
        if fd in self._masks:
            if self._masks[fd] != mask:
                self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._masks[fd] = mask
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Stop watching, before the descriptor is closed."""
        if self._masks.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            del self._callbacks[fd]

    def run_once(self, timeout: float | None) -> None:
        """Wait for events and call."""
        for fd, mask in self._epoll.poll(timeout, 16):
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback(mask)


class Client:
    """One connection wired to a process."""

    def __init__(
        self, wires: Wires, connection: socket.socket, *, stdin: bool, streams: frozenset[int], framed: bool,
        detach_keys: bytes, early: bytes,
    ) -> None:  # fmt: skip
        self.wires = wires
        self.connection = connection
        self.stdin = stdin
        self.streams = streams
        self.framed = framed
        self.detach_keys = detach_keys
        self.matched = 0
        self.early = early
        self.pending = bytearray()
        self.reading = stdin
        self.closing = False
        connection.setblocking(False)
        self.fd = connection.fileno()
        self.update()

    def update(self) -> None:
        """Ask the loop for what is of interest now."""
        want_input = self.reading and not self.wires.stdin_full
        mask = (select.EPOLLIN if want_input else 0) | (select.EPOLLOUT if self.pending else 0)
        # Without EPOLLIN a client that went away still shows as EPOLLHUP or EPOLLERR.
        self.wires.loop.watch(self.fd, mask, self.on_event)

    def feed_early(self) -> None:
        """Take the input that came with the request's own packet."""
        early, self.early = self.early, b""
        if early and self.stdin:
            self.take_input(early)

    def on_event(self, mask: int) -> None:
        """Read input, flush output, notice the end."""
        if mask & select.EPOLLOUT:
            self.flush()
        if mask & select.EPOLLIN and self.reading:
            try:
                data = self.connection.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            if data:
                self.take_input(data)
            else:
                self.reading = False
                self.wires.input_ended(self)
        elif mask & (select.EPOLLHUP | select.EPOLLERR):
            self.close()
            return
        if self.fd >= 0:
            self.update()

    def take_input(self, data: bytes) -> None:
        """Hand input to the process, or leave when the detach keys were typed (term/proxy semantics: a prefix waits)."""
        if not self.detach_keys:
            self.wires.write_input(data)
            return
        keys = self.detach_keys
        through = bytearray()
        for byte in data:
            if byte == keys[self.matched]:
                self.matched += 1
                if self.matched == len(keys):
                    self.wires.write_input(bytes(through))
                    self.close()
                    return
                continue
            through += keys[: self.matched]
            self.matched = 1 if byte == keys[0] else 0
            if not self.matched:
                through.append(byte)
        if through:
            self.wires.write_input(bytes(through))

    def deliver(self, stream: int, data: bytes) -> None:
        """Send output, or queue what the socket does not take."""
        if stream not in self.streams or self.fd < 0:
            return
        head = struct.pack(">BxxxI", stream, len(data)) if self.framed else b""
        if self.pending:
            self.pending += head
            self.pending += data
            return
        try:
            sent = self.connection.sendmsg((head, data), (), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(head) + len(data):
            self.pending += (head + data)[sent:]
            self.update()

    def flush(self) -> None:
        """Send what is queued."""
        try:
            while self.pending:
                sent = self.connection.send(memoryview(self.pending)[: 4 * CHUNK], socket.MSG_NOSIGNAL)
                del self.pending[:sent]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if self.closing:
            self.close()
        else:
            self.wires.update()

    def finish(self) -> None:
        """No more output will come: close once all is delivered."""
        self.closing = True
        if not self.pending:
            self.close()

    def close(self) -> None:
        """Hang up; the process goes on."""
        if self.fd < 0:
            return
        self.wires.loop.forget(self.fd)
        self.fd = -1
        # Shut down, not only close: a copy of the descriptor may still be held by who accepted the connection.
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was faster
        self.connection.close()
        self.wires.client_gone(self)


class Wires:
    """The descriptors of one process.

    *sources* maps stream numbers to descriptors that are read, *sink* is where input goes (-1: none). With a terminal
    both are the same master.
    """

    def __init__(
        self, loop: Loop, sources: dict[int, int], sink: int, *, terminal: bool, stdin_once: bool,
        spool: SpoolWriter | None, on_change: Callable[[], None],
    ) -> None:  # fmt: skip
        self.loop = loop
        self.sources = sources
        self.sink = sink
        self.terminal = terminal
        self.stdin_once = stdin_once
        self.spool = spool
        self.on_change = on_change
        self.clients: list[Client] = []
        self.input = bytearray()
        self.input_closing = False
        self.open = set(sources)
        self._by_fd = {fd: stream for stream, fd in sources.items()}
        for fd in {*sources.values(), sink} - {-1}:
            os.set_blocking(fd, False)
        self.update()

    @property
    def stdin_full(self) -> bool:
        """Input waits for the process to read."""
        return len(self.input) >= CHUNK

    @property
    def drained(self) -> bool:
        """All output has been read to its end."""
        return not self.open

    def add(self, client: Client) -> None:
        """Wire a client in."""
        self.clients.append(client)
        client.feed_early()

    def update(self) -> None:
        """Ask the loop for what is of interest now."""
        blocked = self.spool_full or any(len(client.pending) >= BUFFER_LIMIT for client in self.clients)
        for stream in self.open:
            fd = self.sources[stream]
            mask = 0 if blocked else select.EPOLLIN
            if fd == self.sink and self.input:
                mask |= select.EPOLLOUT
            self.loop.watch(fd, mask, self._source_event(fd))
        if self.sink >= 0 and self.sink not in self._by_fd:
            self.loop.watch(self.sink, select.EPOLLOUT if self.input else 0, self._on_sink)

    def _source_event(self, fd: int) -> Callable[[int], None]:
        def on_event(mask: int) -> None:
            if mask & select.EPOLLOUT:
                self._on_sink(mask)
            if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._read(self._by_fd[fd])

        return on_event

    def _read(self, stream: int) -> int:
        """Read once from a source: how many bytes; 0 when there was nothing."""
        fd = self.sources[stream]
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return 0
        except OSError:  # EIO: the last slave of the terminal was closed
            data = b""
        if not data:
            self._end_of(stream)
            return 0
        now = time.time_ns()
        if self.spool is not None:
            self.spool.write(now, stream, data)
        for client in tuple(self.clients):
            client.deliver(stream, data)
        if self.spool_full or any(len(client.pending) >= BUFFER_LIMIT for client in self.clients):
            self.update()
        return len(data)

    @property
    def spool_full(self) -> bool:
        """The container waits for whoever takes its output from the spool."""
        return self.spool is not None and self.spool.full

    def look(self) -> None:
        """Go on if the spool has room again."""
        if self.spool is not None and self.spool.full and self.spool.look():
            self.update()

    def _end_of(self, stream: int) -> None:
        if stream not in self.open:
            return
        self.open.discard(stream)
        fd = self.sources[stream]
        self.loop.forget(fd)
        if fd == self.sink:
            self.sink = -1
        os.close(fd)
        if not self.open:
            self.on_change()

    def drain(self) -> None:
        """The process is gone: read what the pipes still hold, whatever the clients' buffers say.

        Not more than a pipe can hold: another process may have the other end and write for ever.
        """
        for stream in tuple(self.open):
            left = PIPE_MAX
            while left > 0 and (length := self._read(stream)):
                left -= length

    def write_input(self, data: bytes) -> None:
        """Queue input for the process."""
        if self.sink < 0 or not data:
            return
        self.input += data
        self._on_sink(select.EPOLLOUT)

    def _on_sink(self, mask: int) -> None:
        if mask & select.EPOLLERR and not mask & select.EPOLLOUT:
            self._close_input()
            return
        was_full = self.stdin_full
        try:
            while self.input:
                written = os.write(self.sink, memoryview(self.input)[:CHUNK])
                del self.input[:written]
        except BlockingIOError:
            pass
        except OSError:  # EPIPE: the process closed its standard input
            self._close_input()
            return
        if self.input_closing and not self.input:
            self._close_input()
        if was_full and not self.stdin_full:
            for client in self.clients:
                client.update()
        self.update()

    def _close_input(self) -> None:
        self.input.clear()
        if self.sink >= 0 and self.sink not in self._by_fd:
            self.loop.forget(self.sink)
            os.close(self.sink)
            self.sink = -1
        for client in self.clients:
            client.update()

    def input_ended(self, client: Client) -> None:
        """A client closed its half: so does the process's input when it is wired once; else that client is done."""
        if self.stdin_once and not self.terminal:
            self.input_closing = True
            if not self.input:
                self._close_input()
        else:
            client.finish()

    def client_gone(self, client: Client) -> None:
        """A client hung up."""
        if client in self.clients:
            self.clients.remove(client)
        if client.stdin and self.stdin_once and not self.terminal and not self.input_closing:
            self.input_closing = True
            if not self.input:
                self._close_input()
        self.update()
        self.on_change()

    def resize(self, height: int, width: int) -> bool:
        """Set the terminal's size; False when there is no terminal."""
        if not self.terminal or STDOUT not in self.open:
            return False
        fcntl.ioctl(self.sources[STDOUT], termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        return True

    def finish(self) -> None:
        """The process has ended and is drained: let the clients go once they have everything."""
        for stream in tuple(self.open):
            self._end_of(stream)
        self._close_input()
        for client in tuple(self.clients):
            client.finish()
