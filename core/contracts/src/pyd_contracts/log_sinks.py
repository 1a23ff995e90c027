"""Sockets of log drivers: connections that are made when they are needed, and that do not make a hook wait for ever.

Times are seconds. What breaks is `Unavailable`: the engine keeps the records and comes again.
"""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress

from pyd_contracts.errors import Unavailable

__all__ = ["PATIENCE", "Stream", "connect", "reason", "split_host"]

PATIENCE = 4.0
"""How long a connection may take to be made, and a sink to take what it is sent."""
_RDHUP = 0x2000  # POLLRDHUP, poll(2)
_LOOK = 0.002


def reason(error: Exception) -> str:
    """What a socket's error says, in few words."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)


def split_host(address: str, port: int) -> tuple[str, int]:
    """``host``, ``host:port``, ``[v6]:port`` to host and port, *port* where there is none. Raises ValueError.

    >>> split_host("[::1]:99", 514), split_host("log.example", 514)
    (('::1', 99), ('log.example', 514))
    """
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"address {address}: missing ']' in address")
        digits = rest.removeprefix(":")
    else:
        host, _, digits = address.partition(":")
        if ":" in digits:
            raise ValueError(f"address {address}: too many colons in address")
    if digits and not (digits.isdigit() and 0 < int(digits) < 65536):
        raise ValueError(f"address {address}: invalid port {digits!r}")
    return host, int(digits or port)


def connect(
    kind: str, where: tuple[str, int] | str, patience: float, tls: ssl.SSLContext | None = None
) -> socket.socket:
    """A connected socket: *kind* ``tcp`` or ``udp`` to (host, port), ``unix`` or ``unixgram`` to a path. Raises OSError."""
    if isinstance(where, str):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "unixgram" else socket.SOCK_STREAM)
        made.settimeout(patience)
        try:
            made.connect(where)
        except BaseException:
            made.close()
            raise
        return made
    host, port = where
    if kind != "udp":
        made = socket.create_connection((host or "127.0.0.1", port), timeout=patience)
        if tls is None:
            return made
        try:
            return tls.wrap_socket(made, server_hostname=host)
        except BaseException:
            made.close()
            raise
    family, _, _, _, target = socket.getaddrinfo(host or "127.0.0.1", port, type=socket.SOCK_DGRAM)[0]
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.settimeout(patience)
    try:
        made.connect(target)
    except BaseException:
        made.close()
        raise
    return made


class Stream:
    """A stream to a sink. *what* names it in messages: ``syslog at tcp://10.0.0.1:514``."""

    def __init__(self, connect: Callable[[], socket.socket], what: str, patience: float = PATIENCE) -> None:
        self._connect = connect
        self._what = what
        self._patience = patience
        self._socket: socket.socket | None = None

    def open(self) -> socket.socket:
        """The connection, made if there is none or it broke. Raises Unavailable."""
        if self._socket is not None and _hung_up(self._socket):
            self.close()
        if self._socket is None:
            try:
                self._socket = self._connect()
            except (OSError, ValueError) as error:
                raise Unavailable(f"connect to {self._what}: {reason(error)}") from error
        return self._socket

    def send(self, data: bytes) -> socket.socket:
        """Send all of it; returns when the other host has it (what it has read nobody knows). Raises Unavailable; how much
        of it is there nobody knows then."""
        connection = self.open()
        try:
            connection.settimeout(self._patience)
            connection.sendall(data)
            self._settle(connection)
        except OSError as error:
            self.close()
            raise Unavailable(f"send to {self._what}: {reason(error)}") from error
        return connection

    def receive(self, connection: socket.socket) -> bytes:
        """Some bytes of an answer. Raises Unavailable."""
        try:
            if data := connection.recv(4096):
                return data
            why = "it hung up"
        except OSError as error:
            why = reason(error)
        self.close()
        raise Unavailable(f"wait for the answer of {self._what}: {why}")

    def close(self) -> None:
        """Let go. Twice is once."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None

    def _settle(self, connection: socket.socket) -> None:
        """Wait until nothing is on the way any more. One that is slow, and stands, is taken at its word."""
        deadline = time.monotonic() + self._patience
        while _outstanding(connection):
            if _hung_up(connection):
                raise ConnectionResetError(104, "connection reset by peer")
            if time.monotonic() > deadline:
                return
            time.sleep(_LOOK)


def _hung_up(connection: socket.socket) -> bool:
    """The other side reads no more, as far as this one has heard."""
    poll = select.poll()
    poll.register(connection.fileno(), _RDHUP | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def _outstanding(connection: socket.socket) -> int:
    """Bytes that were sent and not acknowledged (tcp(7), SIOCOUTQ)."""
    if connection.family == socket.AF_UNIX:
        return 0  # it counts what the reader has not read there
    return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
