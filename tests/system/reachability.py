"""Who reaches whom: servers and questions in many network namespaces at once, with real sockets.

Servers say their name: so it is seen who answers, and not only that somebody does. All questions of one place are asked at
the same time; the answers that are expected are waited for, and what else comes within a moment is found out too.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["PORT", "Question", "Servers", "ask", "ask_all", "in_namespace"]

T = TypeVar("T")
PORT = 8099
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_PATIENCE = 20.0
"""Seconds that an expected answer may take on a busy machine."""
_GRACE = 0.7
"""Seconds in which what must not come would have come."""
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50


def in_namespace(namespace: int, work: Callable[[], T]) -> T:
    """Run *work* on a thread that enters the network namespace and ends there."""

    def run() -> T:
        if _libc.setns(namespace, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


@dataclass(frozen=True, slots=True)
class Question:
    """*kind*: tcp, udp or icmp. *who*: the server that is to answer."""

    kind: str
    address: str
    port: int
    who: str

    @property
    def family(self) -> socket.AddressFamily:
        """Of the address."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


class Servers:
    """One thread that serves TCP and UDP at `PORT` in any number of namespaces."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._cleanup = ExitStack()
        self._wake, self._waker = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="servers")
        self._thread.start()

    def add(self, name: str, namespace: int, *, datagrams: bool = True) -> None:
        """Serve in a namespace, by TCP and, unless another has the port, by UDP."""
        kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM) if datagrams else (socket.SOCK_STREAM,)
        for each in in_namespace(namespace, lambda: _listening(kinds)):
            self._cleanup.callback(each.close)
            self._selector.register(each, selectors.EVENT_READ, name.encode())

    def close(self) -> None:
        """End."""
        os.close(self._waker)
        self._thread.join()
        self._cleanup.close()
        self._selector.close()
        os.close(self._wake)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._wake:
                    return
                server = key.fileobj
                assert isinstance(server, socket.socket)
                with suppress(OSError):
                    if server.type == socket.SOCK_STREAM:
                        connection, _ = server.accept()
                        with connection:
                            connection.send(key.data)
                    else:
                        _, ancillary, _, sender = server.recvmsg(100, 100)
                        server.sendmsg([key.data], [_answering(*each) for each in ancillary], 0, sender)


def _listening(kinds: Sequence[socket.SocketKind]) -> list[socket.socket]:
    made = []
    for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in kinds:
            server = socket.socket(family, kind | socket.SOCK_NONBLOCK)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                server.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            else:
                server.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((anywhere, PORT))
            if kind == socket.SOCK_STREAM:
                server.listen(256)
            made.append(server)
    return made


def _answering(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """Leave from the address that was asked (ip(7), ipv6(7))."""
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
        _, local, _ = struct.unpack("I4s4s", data)
        return level, kind, struct.pack("I4s4s", 0, local, b"\0" * 4)
    return level, kind, data[:16] + struct.pack("I", 0)


def ask_all(
    places: Mapping[str, int], asked: Mapping[str, Sequence[Question]], expected: Mapping[str, set[Question]]
) -> dict[str, set[Question]]:
    """By place: the questions that were answered. *places*: namespaces by name."""
    with ThreadPoolExecutor(len(places)) as threads:
        jobs = {
            name: threads.submit(in_namespace, fd, lambda name=name: ask(asked[name], expected[name]))
            for name, fd in places.items()
        }
    return {name: job.result() for name, job in jobs.items()}


def ask(questions: Sequence[Question], expected: set[Question]) -> set[Question]:
    """The questions that were answered by whom they are meant for, asked from where the calling thread is."""
    found: set[Question] = set()
    with selectors.DefaultSelector() as selector, ExitStack() as cleanup:
        echoes: dict[str, Question] = {}
        raw: dict[socket.AddressFamily, socket.socket] = {}
        for question in questions:
            with suppress(OSError):  # no route, refused at once: not answered
                if question.kind == "icmp":
                    echoes[question.address] = question
                    if question.family not in raw:
                        raw[question.family] = cleanup.enter_context(_raw(question.family))
                        selector.register(raw[question.family], selectors.EVENT_READ)
                    _ping(raw[question.family], question.address)
                else:
                    selector.register(cleanup.enter_context(_asking(question)), selectors.EVENT_READ, question)
        again, end, last = time.monotonic() + 1, time.monotonic() + _PATIENCE, time.monotonic() + _GRACE
        while (now := time.monotonic()) < end and (now < last or expected - found):
            if expected - found:
                last = now + _GRACE
            if now > again:  # datagrams may be lost
                again = now + 1
                for question in expected - found:
                    with suppress(OSError):
                        if question.kind == "icmp":
                            _ping(raw[question.family], question.address)
            for key, _ in selector.select(0.05):
                _hear(key, echoes, found, selector)
    return found


@contextmanager
def _raw(family: socket.AddressFamily) -> Iterator[socket.socket]:
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    with socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol) as raw:
        yield raw


def _ping(raw: socket.socket, address: str) -> None:
    if raw.family == socket.AF_INET:
        body = struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0800 - 7, 7, 0)
    else:
        body = struct.pack("!BBHHH", 128, 0, 0, 7, 0)  # the kernel adds the checksum
    raw.sendto(body, (address, 0))


@contextmanager
def _asking(question: Question) -> Iterator[socket.socket]:
    kind = socket.SOCK_STREAM if question.kind == "tcp" else socket.SOCK_DGRAM
    with socket.socket(question.family, kind | socket.SOCK_NONBLOCK) as asking:
        with suppress(BlockingIOError):
            asking.connect((question.address, question.port))
        if question.kind == "udp":
            asking.send(b"who")
        yield asking


def _hear(
    key: selectors.SelectorKey, echoes: Mapping[str, Question], found: set[Question], selector: selectors.BaseSelector
) -> None:
    heard = key.fileobj
    assert isinstance(heard, socket.socket)
    try:
        data, sender = heard.recvfrom(200)
    except BlockingIOError:
        return
    except OSError:
        data, sender = b"", None
    if key.data is not None:
        if data == key.data.who.encode():
            found.add(key.data)
        selector.unregister(heard)
        return
    reply = data[20] == 0 if heard.family == socket.AF_INET and len(data) > 20 else data[:1] == b"\x81"
    if reply and sender is not None and sender[0] in echoes:
        found.add(echoes[sender[0]])
