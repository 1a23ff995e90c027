"""Servers for the sinks of log drivers: what listens, and can vanish, come back, or say nothing any more.

How a stream or a datagram is read is the test's business: *parse* turns what one connection sent so far (or one datagram) into
messages by container, and fails on what breaks the protocol.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable

from pyd_conformance.log import Message

__all__ = ["DatagramServer", "StreamServer"]

Found = list[tuple[str, Message]]
Answer = Callable[[bytes], bytes]


class _Server:
    """Common to both kinds."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._found: Found = []
        self.fault: BaseException | None = None

    def received(self, container: str) -> list[Message]:
        """What has arrived of a container; raises what parsing raised."""
        with self._lock:
            if self.fault is not None:
                raise self.fault
            return [message for whose, message in self._found if container.startswith(whose)]

    def _failed(self, error: BaseException) -> None:
        with self._lock:
            self.fault = self.fault or error


class StreamServer(_Server):
    """Takes connections at *where*: a path, or a port of 127.0.0.1.

    *parse* gets the bytes of a connection that were not parsed yet: messages, how many bytes they took, and what to answer.
    """

    def __init__(
        self, parse: Callable[[bytes], tuple[Found, int, bytes]], where: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__()
        self._parse = parse
        self._where = where
        self._tls = tls
        self._port = 0
        self._hanging = False
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.up()

    @property
    def port(self) -> int:
        """Of 127.0.0.1."""
        return self._port

    def up(self) -> None:
        """Listen, at the same place as before."""
        if self._where:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._where)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self._where)
        else:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
            self._port = listener.getsockname()[1]
        listener.listen(64)
        self._hanging = False
        self._listener = listener
        self._spawn(self._accept, listener)

    def down(self) -> None:
        """Refuse and break connections, once what they brought is read."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            connections = list(self._connections)
        for each in connections:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RD)  # what has arrived can still be read
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(10)

    def hang(self) -> None:
        """Read nothing any more."""
        self._hanging = True

    def close(self) -> None:
        """End everything."""
        self._hanging = False
        self.down()

    def _spawn(self, work: Callable[[socket.socket], None], argument: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(argument,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        pending = b""
        try:
            if self._tls is not None:
                plain, connection = connection, self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._connections.discard(plain)
                    self._connections.add(connection)
            connection.settimeout(0.05)
            while True:
                if self._hanging and self._listener is not None:
                    threading.Event().wait(0.05)
                    continue
                try:
                    data = connection.recv(1 << 16)
                except TimeoutError:
                    continue
                if not data:
                    return
                pending += data
                found, length, answer = self._parse(pending)
                pending = pending[length:]
                with self._lock:
                    self._found += found
                if answer:
                    connection.sendall(answer)
        except OSError:
            pass  # the driver hung up
        except BaseException as error:
            self._failed(error)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()


class DatagramServer(_Server):
    """Takes datagrams at *where*: a path, or a port of 127.0.0.1. *parse* gets the data and the descriptors of one."""

    def __init__(self, parse: Callable[[bytes, list[int]], Found], where: str = "") -> None:
        super().__init__()
        self._parse = parse
        self._where = where
        self._port = 0
        self._hanging = False
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.up()

    @property
    def port(self) -> int:
        """Of 127.0.0.1."""
        return self._port

    def up(self) -> None:
        """Listen, at the same place as before."""
        if self._where:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._where)
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.bind(self._where)
        else:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            made.bind(("127.0.0.1", self._port))
            self._port = made.getsockname()[1]
        made.settimeout(0.05)
        self._hanging = False
        self._socket = made
        self._thread = threading.Thread(target=self._serve, args=(made,), daemon=True)
        self._thread.start()

    def down(self) -> None:
        """Close, once everything is read."""
        self._socket = None
        if self._thread is not None:
            self._thread.join(10)
            self._thread = None

    def hang(self) -> None:
        """Read nothing any more."""
        self._hanging = True

    def close(self) -> None:
        """End everything."""
        self._hanging = False
        self.down()

    def _serve(self, made: socket.socket) -> None:
        with made:
            while True:
                if self._hanging:
                    threading.Event().wait(0.05)
                    continue
                try:
                    data, fds, _, _ = socket.recv_fds(made, 1 << 20, 4)
                except TimeoutError:
                    if self._socket is not made:
                        return
                    continue
                try:
                    found = self._parse(data, fds)
                    with self._lock:
                        self._found += found
                except BaseException as error:
                    self._failed(error)
                finally:
                    for fd in fds:
                        os.close(fd)
