"""Messages: one object and its descriptors a packet, whole or an error."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from pyd_shim import message


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    message.make_roomy(one)
    with one, two:
        yield one, two


def test_a_message_comes_as_it_was(pair: tuple[socket.socket, socket.socket]) -> None:
    sent = {"text": "ü\0\ud800\n", "number": 2**53, "list": [1, None, True], "empty": {}}
    message.send(pair[0], sent)
    message.send(pair[0], {"second": 2})

    assert message.receive(pair[1]) == (sent, [])
    assert message.receive(pair[1]) == ({"second": 2}, [])


def test_descriptors_travel_and_are_closed_on_exec(pair: tuple[socket.socket, socket.socket]) -> None:
    readable, writable = os.pipe()
    os.set_inheritable(writable, True)
    message.send(pair[0], {}, (readable, writable))
    os.close(readable)
    os.close(writable)

    _, fds = message.receive(pair[1])

    assert len(fds) == 2
    assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in fds)
    os.write(fds[1], b"through")
    assert os.read(fds[0], 100) == b"through"
    for fd in fds:
        os.close(fd)


def test_the_end_is_none(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()

    assert message.receive(pair[1]) == (None, [])


def test_a_large_message_fits(pair: tuple[socket.socket, socket.socket]) -> None:
    text = "x" * (message.MAX_MESSAGE - 100)
    message.send(pair[0], {"text": text})

    answer, _ = message.receive(pair[1])

    assert answer == {"text": text}


def test_what_does_not_fit_the_socket_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(OSError, match="[Mm]essage too long") as caught:
        message.send(pair[0], {"text": "x" * (8 * message.MAX_MESSAGE)})

    assert caught.value.errno == errno.EMSGSIZE


def test_what_does_not_fit_the_receiver_is_an_error_and_not_half_a_message(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].send(b'{"text":"' + b"x" * message.MAX_MESSAGE + b'"}')

    with pytest.raises(OSError, match="[Mm]essage too long") as caught:
        message.receive(pair[1])

    assert caught.value.errno == errno.EMSGSIZE


def test_a_writer_to_nobody_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()

    with pytest.raises(BrokenPipeError):
        message.send(pair[0], {})
