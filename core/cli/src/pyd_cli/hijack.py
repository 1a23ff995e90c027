"""Raw streams over a connection that was taken over: attach, exec, and the framed output of logs.

Without a tty the daemon interleaves stdout and stderr in frames: one byte stream (0 stdin, 1 stdout, 2 stderr,
3 an error of the daemon), three zero bytes, four bytes length, big-endian, then that many bytes.
With a tty there is one stream, as it is.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator

from pyd_cli.errors import CliError
from pyd_cli.http import BLOCK, Connection
from pyd_cli.terminal import DetachFilter

HEADER = struct.Struct(">BxxxL")


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """All of `data`. A reader that has gone is BrokenPipeError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def frames(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """(stream, payload) for every piece of a framed stream; a frame's payload may come in several pieces.

    CliError for a stream that is not framed, and for frames by which the daemon reports an error.
    """
    buffer = bytearray()
    stream, missing = 0, 0
    problem = bytearray()
    for block in blocks:
        buffer += block
        while buffer:
            if not missing:
                if len(buffer) < HEADER.size:
                    break
                stream, missing = HEADER.unpack_from(buffer)
                if stream > 3 or buffer[1:4] != b"\0\0\0":
                    raise CliError(f"Unrecognized input header: {buffer[0]}")
                del buffer[: HEADER.size]
                continue
            piece = bytes(buffer[:missing])
            del buffer[:missing]
            missing -= len(piece)
            if stream != 3:
                yield stream, piece
                continue
            problem += piece
            if not missing:
                raise CliError(f"error from daemon in stream: {problem.decode('utf-8', 'replace').strip()}")
    if missing or buffer:
        raise CliError("unexpected EOF in the middle of the container's output")


def received(connection: Connection) -> Iterator[bytes]:
    """What comes from the connection until its end. A reset is an end: the daemon had nothing more to say."""
    while True:
        try:
            data = connection.receive()
        except ConnectionResetError:
            return
        if not data:
            return
        yield data


def copy_output(blocks: Iterable[bytes], framed: bool, wants: tuple[bool, bool] = (True, True)) -> None:
    """Output to our stdout and stderr, each if wanted, until it ends."""
    if not framed:
        for block in blocks:
            write_all(1, block)
        return
    for stream, piece in frames(blocks):
        if wants[stream == 2]:
            write_all(2 if stream == 2 else 1, piece)


class Exchange:
    """Our stdin, stdout and stderr connected to a container's.

    `run` returns when the output has ended; True then means that the user typed the detach keys.
    """

    def __init__(self, connection: Connection, tty: bool, stdin: bool, keys: bytes = b"") -> None:
        self.connection = connection
        self.tty = tty
        self.stdin = stdin
        self.filter = DetachFilter(keys if os.isatty(0) else b"")
        self.detached = False

    def run(self, wants: tuple[bool, bool] = (True, True), on_start: Callable[[], None] | None = None) -> bool:
        if self.stdin:
            import threading

            # A thread that may stand in read(2) for ever, when the container ends first: it must not keep us alive.
            threading.Thread(target=self._send_stdin, name="stdin", daemon=True).start()
        if on_start is not None:
            on_start()
        if any(wants):
            copy_output(received(self.connection), not self.tty, wants)
        else:
            for _ in received(self.connection):
                pass  # attached to stdin alone: only the end is of interest
        return self.detached

    def _send_stdin(self) -> None:
        wire = self.connection.wire
        try:
            while data := os.read(0, BLOCK):
                data, detach = self.filter.feed(data)
                if data:
                    wire.sendall(data)
                if detach:
                    self.detached = True
                    wire.shutdown(socket.SHUT_RDWR)  # wakes the reader
                    return
            wire.shutdown(socket.SHUT_WR)  # the container's stdin ends; its output goes on
        except OSError:
            return  # the container (or our stdin) has gone: the end of the output tells the rest
