"""A small HTTP/1.1 client for one daemon: requests, streamed answers, and connections taken over for raw streams.

http.client would cost more start-up time than the rest of a command together, and cannot hand over its socket.
One request per connection; the daemon is next door, connecting costs microseconds.
RFC 9112 is the grammar: status line, fields, then a body by `Transfer-Encoding: chunked`, by `Content-Length`, or
up to the end of the connection.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Protocol

from pyd_cli.errors import CliError, Unreachable

if TYPE_CHECKING:
    from pyd_cli.endpoint import Endpoint

BLOCK = 65536
MAX_HEAD = 256 * 1024  # a head that is larger comes from something that is no daemon


class Wire(Protocol):
    """What is used of a socket; a TLS socket has it too."""

    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def fileno(self) -> int: ...


class Connection:
    """A connected socket with what was received and not yet consumed."""

    def __init__(self, wire: Wire, label: str) -> None:
        self.wire = wire
        self.label = label
        self.pending = b""

    def receive(self) -> bytes:
        """What is pending, else what comes next; b"" at the end."""
        if self.pending:
            data, self.pending = self.pending, b""
            return data
        return self.wire.recv(BLOCK)

    def line(self) -> bytes:
        """Up to and with the next line feed."""
        data = self.pending
        while (end := data.find(b"\n")) < 0:
            if len(data) > MAX_HEAD:
                raise Unreachable(f"no HTTP answer from {self.label}: a line of more than {MAX_HEAD} bytes")
            more = self.wire.recv(BLOCK)
            if not more:
                raise Unreachable(f"error during connect: {self.label}: unexpected EOF")
            data += more
        self.pending = data[end + 1 :]
        return data[: end + 1]

    def close(self) -> None:
        self.wire.close()


class Response:
    """An answer whose head was read. The body is read once, by one of `chunks`, `read`."""

    def __init__(self, connection: Connection, method: str) -> None:
        self.connection = connection
        head = connection.line().split(None, 2)
        if len(head) < 2 or not head[0].startswith(b"HTTP/") or not head[1].isdigit():
            raise Unreachable(f"no HTTP answer from {connection.label}: {head[:3]!r}")
        self.status = int(head[1])
        self.headers: dict[str, str] = {}
        while line := connection.line().strip():
            name, _, value = line.partition(b":")
            self.headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
        self._empty = method == "HEAD" or self.status in (204, 304)

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes. Raises Unreachable when it ends before its announced end."""
        if self._empty:
            return
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            yield from self._chunked()
        elif "content-length" in self.headers:
            yield from self._exactly(int(self.headers["content-length"]))
        else:
            while data := self.connection.receive():
                yield data

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            data = self.connection.receive()
            if not data:
                raise Unreachable(f"error reading from {self.connection.label}: unexpected EOF")
            if len(data) > size:
                data, self.connection.pending = data[:size], data[size:]
            size -= len(data)
            yield data

    def _chunked(self) -> Iterator[bytes]:
        while True:
            size = int(self.connection.line().split(b";")[0].strip() or b"0", 16)
            if not size:
                while self.connection.line().strip():
                    pass  # trailer fields, which nobody here asked for
                return
            yield from self._exactly(size)
            self.connection.line()

    def read(self) -> bytes:
        """The whole body; the connection is closed."""
        try:
            return b"".join(self.chunks())
        finally:
            self.close()

    def lines(self) -> Iterator[bytes]:
        """The body in lines, each as soon as it is complete; empty lines are left out."""
        rest = b""
        for data in self.chunks():
            *lines, rest = (rest + data).split(b"\n")
            yield from (line for line in lines if line.strip())
        if rest.strip():
            yield rest

    def close(self) -> None:
        self.connection.close()


class Client:
    """Requests to one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def connect(self, timeout: float | None = None) -> Connection:
        """A new connection. Raises Unreachable with the sentence docker's users know."""
        endpoint = self.endpoint
        try:
            if endpoint.scheme == "unix":
                wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                wire.settimeout(timeout)
                try:
                    wire.connect(endpoint.path)
                except OSError:
                    wire.close()
                    raise
            else:
                wire = socket.create_connection((endpoint.host, endpoint.port), timeout)
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if endpoint.tls is not None:
                    wire = endpoint.tls.wrap(wire, endpoint.host)
        except PermissionError as fault:
            raise Unreachable(
                f"permission denied while trying to connect to the pyd daemon socket at {endpoint}: {fault.strerror}"
            ) from fault
        except OSError as fault:
            raise Unreachable(
                f"Cannot connect to the pyd daemon at {endpoint}. Is the daemon running?"
                + ("" if isinstance(fault, (FileNotFoundError, ConnectionRefusedError)) else f" ({fault})")
            ) from fault
        return Connection(wire, str(endpoint))

    def request(
        self,
        method: str,
        target: str,
        body: bytes | IO[bytes] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """The answer to one request, whatever its status. A file as body is sent chunked, from where it stands."""
        connection = self.connect(timeout)
        try:
            self._send(connection, method, target, body, {"Connection": "close", **(headers or {})})
            response = Response(connection, method)
            while 100 <= response.status < 200:
                response = Response(connection, method)
            return response
        except TimeoutError as fault:
            connection.close()
            raise Unreachable(f"no answer from {connection.label} within {timeout:g} s") from fault
        except OSError as fault:
            connection.close()
            raise Unreachable(f"error during connect: {method} {connection.label}{target}: {fault.strerror}") from fault
        except CliError:
            connection.close()
            raise

    def upgrade(self, target: str, body: bytes | None, headers: dict[str, str] | None = None) -> Response:
        """POST that asks for the connection itself. Status 101 or 200: `connection` is now a raw stream.

        Daemons answer 101 when asked with `Upgrade: tcp`; old ones answer 200 and switch all the same.
        """
        connection = self.connect()
        try:
            asked = {"Connection": "Upgrade", "Upgrade": "tcp", **(headers or {})}
            self._send(connection, "POST", target, body, asked)
            return Response(connection, "POST")
        except OSError as fault:
            connection.close()
            raise Unreachable(f"error during connect: POST {connection.label}{target}: {fault.strerror}") from fault

    def _send(
        self, connection: Connection, method: str, target: str, body: bytes | IO[bytes] | None, headers: dict[str, str]
    ) -> None:
        fields = {"Host": self.endpoint.host or "api.pyd.localhost", "User-Agent": "pyd-cli", **headers}
        if isinstance(body, bytes):
            fields.setdefault("Content-Type", "application/json")
            fields["Content-Length"] = str(len(body))
        elif body is not None:
            fields.setdefault("Content-Type", "application/x-tar")
            fields["Transfer-Encoding"] = "chunked"
        elif method in ("POST", "PUT"):
            fields["Content-Length"] = "0"
        for name, value in fields.items():
            if "\r" in value or "\n" in value:
                raise CliError(f"the value of the HTTP field {name} contains a line break")
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        start = head.encode("latin-1", "replace") + b"\r\n"
        if isinstance(body, bytes):
            connection.wire.sendall(start + body)
            return
        connection.wire.sendall(start)
        if body is None:
            return
        try:
            while data := body.read(BLOCK):
                if not _pushed(connection.wire, b"%x\r\n%b\r\n" % (len(data), data)):
                    return
            _pushed(connection.wire, b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon has answered already, without wanting the rest: its answer says why


def _pushed(wire: Wire, data: bytes) -> bool:
    """Send `data`. False when the daemon has refused meanwhile: it may never read the rest, nor close."""
    if not isinstance(wire, socket.socket) or hasattr(wire, "cipher"):
        wire.sendall(data)  # TLS: what can be read may be a record of its own, and no answer
        return True
    poll = select.poll()
    poll.register(wire, select.POLLIN | select.POLLOUT)
    rest = memoryview(data)
    while rest:
        events = dict(poll.poll()).get(wire.fileno(), 0)
        if events & select.POLLIN:
            start = wire.recv(12, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            if not start or start[9:10] in (b"4", b"5"):
                return False
            poll.modify(wire, select.POLLOUT)  # an answer that begins early (load's does) and wants the rest
        if events & (select.POLLOUT | select.POLLERR | select.POLLHUP):
            try:
                rest = rest[wire.send(rest, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue
    return True
