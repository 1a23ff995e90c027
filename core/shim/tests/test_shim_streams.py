"""Wires and clients on socket pairs and pipes, without a process."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyd_shim.spool import SpoolReader, SpoolWriter
from pyd_shim.streams import BUFFER_LIMIT, Client, Loop, Wires

STEPS = 20_000


class Rig:
    """A process's ends in our hands, the wires between, and clients."""

    def __init__(self, *, terminal: bool = False, stdin_once: bool = False, spool: SpoolWriter | None = None) -> None:
        self.loop = Loop()
        self.changes = 0
        self.sockets: list[socket.socket] = []
        if terminal:
            master, slave = os.openpty()
            self.fds = {slave}
            sources, sink, self.stdin, self.stdout, self.stderr = {1: master}, master, slave, slave, slave
        else:
            self.stdin, sink = os.pipe()
            out, self.stdout = os.pipe()
            err, self.stderr = os.pipe()
            sources = {1: out, 2: err}
            self.fds = {self.stdin, self.stdout, self.stderr}
        for fd in self.fds:
            os.set_blocking(fd, False)
        self.wires = Wires(
            self.loop, sources, sink, terminal=terminal, stdin_once=stdin_once, spool=spool, on_change=self._changed
        )

    def _changed(self) -> None:
        self.changes += 1

    def client(self, **how: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.sockets.append(ours)
        defaults: dict[str, Any] = {
            "stdin": True, "streams": frozenset({1, 2}), "framed": False, "detach_keys": b"", "early": b"",
        }  # fmt: skip
        self.wires.add(Client(self.wires, theirs, **{**defaults, **how}))
        return ours

    def turn(self, true: Callable[[], object] | None = None) -> None:
        """Run the loop until a fact, or until nothing happens any more."""
        for _ in range(STEPS):
            self.loop.run_once(0.02 if true else 0.002)
            if true() if true else not self.loop._epoll.poll(0, 1):
                return
        raise AssertionError("the wires never come to rest")

    def take(self, client: socket.socket, size: int = 1 << 20) -> bytes:
        self.turn()
        try:
            return client.recv(size)
        except BlockingIOError:
            return b""

    def typed(self) -> bytes:
        """What reached the process's standard input."""
        self.turn()
        try:
            return os.read(self.stdin, 1 << 20)
        except BlockingIOError:
            return b"(nothing)"

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = set()
        self.wires.finish()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxI", stream, len(data)) + data


def test_output_is_framed_by_stream(rig: Rig) -> None:
    client = rig.client(framed=True)
    os.write(rig.stdout, b"out")
    rig.turn()
    os.write(rig.stderr, b"err")

    rig.turn()
    assert rig.take(client) == frame(1, b"out") + frame(2, b"err")


def test_a_client_gets_the_streams_it_asked_for(rig: Rig) -> None:
    client = rig.client(streams=frozenset({2}))
    os.write(rig.stdout, b"out")
    os.write(rig.stderr, b"err")

    assert rig.take(client) == b"err"


def test_input_and_early_input(rig: Rig) -> None:
    client = rig.client(early=b"early ")
    client.send(b"late")

    rig.turn()
    assert rig.typed() == b"early late"


def test_a_client_without_input_has_none(rig: Rig) -> None:
    client = rig.client(stdin=False, early=b"early")
    client.send(b"typed")

    assert rig.typed() == b"(nothing)"


def test_a_slow_reader_stops_the_process_and_loses_nothing(rig: Rig) -> None:
    slow, quick = rig.client(), rig.client()
    sent = got = 0
    # The process writes until nothing more goes: socket buffer, the client's queue and the pipe are full.
    for _ in range(STEPS):
        try:
            sent += os.write(rig.stdout, bytes([sent % 251]) * 4096)
        except BlockingIOError:
            before = sent
            for _ in range(30):
                rig.loop.run_once(0.001)
                try:
                    got += len(quick.recv(1 << 20))
                except BlockingIOError:
                    pass
            try:
                sent += os.write(rig.stdout, bytes([sent % 251]) * 4096)
            except BlockingIOError:
                if sent == before:
                    break
    assert BUFFER_LIMIT <= sent < 4 * BUFFER_LIMIT, "the process has to wait, and not for ever more memory"

    read = bytearray()

    def all_read() -> bool:
        nonlocal got
        for client, take in ((slow, True), (quick, False)):
            try:
                data = client.recv(1 << 20)
            except BlockingIOError:
                continue
            if take:
                read.extend(data)
            else:
                got += len(data)
        return len(read) == sent and got == sent

    rig.turn(all_read)
    position = 0
    while position < sent:  # each write is 4096 bytes (or what fitted) of one value: order and completeness
        assert read[position] == position % 251
        end = position
        while end < sent and read[end] == read[position] and end - position < 4096:
            end += 1
        position = end


def test_input_waits_for_a_process_that_does_not_read(rig: Rig) -> None:
    client = rig.client()
    sent = 0
    for _ in range(STEPS):
        try:
            sent += client.send(b"i" * 65536)
        except BlockingIOError:
            before = sent
            for _ in range(10):
                rig.loop.run_once(0.001)
            try:
                sent += client.send(b"i" * 65536)
            except BlockingIOError:
                if sent == before:
                    break
    assert sent < 4 << 20
    got = 0

    def all_typed() -> bool:
        nonlocal got
        try:
            got += len(os.read(rig.stdin, 1 << 20))
        except BlockingIOError:
            pass
        return got == sent

    rig.turn(all_typed)


def test_half_close_ends_input_once_all_was_read_and_output_goes_on() -> None:
    rig = Rig(stdin_once=True)
    client = rig.client()
    client.send(b"last words")
    client.shutdown(socket.SHUT_WR)

    assert rig.typed() == b"last words"
    assert rig.typed() == b""
    os.write(rig.stdout, b"answer")
    assert rig.take(client) == b"answer"
    rig.close()


def test_input_stays_open_when_it_is_not_wired_once(rig: Rig) -> None:
    first = rig.client()
    first.send(b"one")
    assert rig.typed() == b"one"
    first.close()
    second = rig.client()
    second.send(b"two")

    assert rig.typed() == b"two"


def test_a_vanished_client_ends_input_that_is_wired_once() -> None:
    rig = Rig(stdin_once=True)
    client = rig.client()
    client.close()

    assert rig.typed() == b""
    rig.close()


@pytest.mark.parametrize(
    ("pieces", "typed", "left"),
    [
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"a", b"\x10", b"\x11"], b"a", True),
        ([b"\x10x"], b"\x10x", False),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x10", b"\x10", b"y"], b"\x10\x10y", False),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_detach_keys(rig: Rig, pieces: list[bytes], typed: bytes, left: bool) -> None:
    client = rig.client(detach_keys=b"\x10\x11")
    for piece in pieces:
        client.send(piece)
        rig.turn()

    assert rig.typed() == typed
    if left:
        assert client.recv(10) == b""
    else:
        with pytest.raises(BlockingIOError):
            client.recv(10)


def test_detach_leaves_the_others(rig: Rig) -> None:
    leaver, stays = rig.client(detach_keys=b"\x10\x11"), rig.client()
    leaver.send(b"\x10\x11")
    rig.turn()
    os.write(rig.stdout, b"still here")

    assert rig.take(stays) == b"still here"


def test_a_vanished_client_does_not_stop_the_process(rig: Rig) -> None:
    gone, stays = rig.client(), rig.client()
    gone.close()
    os.write(rig.stdout, b"on and on")

    assert rig.take(stays) == b"on and on"
    assert len(rig.wires.clients) == 1


def test_the_end_closes_streams_after_the_last_byte(rig: Rig) -> None:
    client = rig.client(framed=True)
    os.write(rig.stdout, b"x" * 60_000)
    for fd in rig.fds:
        os.close(fd)
    rig.fds = set()
    rig.turn(lambda: rig.wires.drained)
    rig.wires.finish()

    data = b""
    while piece := client.recv(1 << 20):
        data += piece
    assert data == frame(1, b"x" * 60_000)
    assert rig.changes > 0


def test_the_end_waits_for_a_slow_client(rig: Rig) -> None:
    client = rig.client()
    written = 0
    while written < 600_000:
        try:
            written += os.write(rig.stdout, b"y" * 10_000)
        except BlockingIOError:
            rig.loop.run_once(0.01)
    rig.wires.drain()
    rig.wires.finish()
    assert rig.wires.clients, "there is more than a socket holds"
    got = 0

    def all_there() -> bool:
        nonlocal got
        try:
            got += len(client.recv(1 << 20))
        except BlockingIOError:
            pass
        return got == written

    rig.turn(all_there)
    rig.turn(lambda: not rig.wires.clients)
    assert client.recv(1) == b""


def test_drain_ends_while_somebody_writes_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.read
    reads = 0

    def read(fd: int, size: int) -> bytes:
        nonlocal reads
        reads += 1
        assert reads < 100_000, "drain has no end"
        if fd == rig.wires.sources[1]:
            return b"z" * size
        return real(fd, size)

    monkeypatch.setattr(os, "read", read)
    rig.wires.drain()

    assert rig.wires.open == {1, 2}


def test_a_terminal_echoes_and_has_a_size() -> None:
    rig = Rig(terminal=True)
    client = rig.client()
    client.send(b"word\n")

    rig.turn(lambda: select.select([rig.stdin], [], [], 0)[0])
    assert os.read(rig.stdin, 100) == b"word\n"
    assert rig.take(client) == b"word\r\n"
    assert rig.wires.resize(12, 34)
    assert os.get_terminal_size(rig.stdin) == (34, 12)
    rig.close()
    assert not rig.wires.resize(1, 1)


def test_pipes_have_no_size(rig: Rig) -> None:
    assert not rig.wires.resize(24, 80)


def test_everything_is_spooled_whoever_listens(tmp_path: Path) -> None:
    writer = SpoolWriter(str(tmp_path / "spool"))
    rig = Rig(spool=writer)
    os.write(rig.stdout, b"to nobody")
    os.write(rig.stderr, b"an error")
    rig.turn()
    rig.close()
    writer.close()

    reader = SpoolReader(str(tmp_path / "spool"))
    assert {(each.stream, each.data) for each in reader.frames()} == {(1, b"to nobody"), (2, b"an error")}
    reader.close()
