"""Framed output, detach keys, and the terminal."""

from __future__ import annotations

import os
import struct
import termios

import pytest

from pyd_cli.errors import CliError
from pyd_cli.hijack import frames
from pyd_cli.terminal import DetachFilter, RawMode, parse_keys


def frame(stream: int, payload: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(payload)) + payload


STREAM = frame(1, b"out") + frame(2, b"err") + frame(1, b"") + frame(1, b"x" * 100)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 9, 1000])
def test_frames_however_they_arrive(size: int) -> None:
    blocks = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    collected = {1: b"", 2: b""}
    for stream, piece in frames(blocks):
        collected[stream] += piece
    assert collected == {1: b"out" + b"x" * 100, 2: b"err"}


def test_an_error_frame_is_raised() -> None:
    with pytest.raises(CliError, match="error from daemon in stream: log driver gone"):
        list(frames([frame(1, b"a") + frame(3, b"log driver gone\n")]))


@pytest.mark.parametrize("data", [b"\x09hello there", b"GET / HTTP/1.1", b"\x01\x00\x01\x00\x00\x00\x00\x01x"])
def test_what_is_not_framed_is_refused(data: bytes) -> None:
    with pytest.raises(CliError, match="Unrecognized input header"):
        list(frames([data]))


def test_a_cut_frame_is_an_error() -> None:
    with pytest.raises(CliError, match="unexpected EOF"):
        list(frames([frame(1, b"hello")[:-1]]))


@pytest.mark.parametrize(
    ("text", "keys"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("ctrl-@,a", b"\x00a"), ("CTRL-A,ctrl-[", b"\x01\x1b"), ("x", b"x")],
)
def test_keys(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["foo", "ctrl-", "ctrl-1", "ctrl-p,,"])
def test_keys_that_are_none(text: str) -> None:
    with pytest.raises(CliError, match="invalid detach keys"):
        parse_keys(text)


@pytest.mark.parametrize(
    ("keys", "typed", "sent", "detached"),
    [
        (b"\x10\x11", [b"ab"], b"ab", False),
        (b"\x10\x11", [b"ab\x10"], b"ab", False),
        (b"\x10\x11", [b"a\x10", b"b"], b"a\x10b", False),
        (b"\x10\x11", [b"a\x10", b"\x11rest"], b"a", True),
        (b"\x10\x11", [b"\x10\x10\x11"], b"\x10", True),
        (b"aab", [b"aaab"], b"a", True),
        (b"aab", [b"aac"], b"aac", False),
        (b"", [b"\x10\x11"], b"\x10\x11", False),
    ],
)
def test_detach_filter(keys: bytes, typed: list[bytes], sent: bytes, detached: bool) -> None:
    filtered = DetachFilter(keys)
    out, done = b"", False
    for data in typed:
        passed, done = filtered.feed(data)
        out += passed
        if done:
            break
    assert (out, done) == (sent, detached)


def test_the_terminal_gets_its_mode_back_even_after_an_error() -> None:
    leader, follower = os.openpty()
    try:
        before = termios.tcgetattr(follower)
        within: list[int] = []

        def fail() -> None:
            with RawMode(follower):
                within.append(termios.tcgetattr(follower)[3])
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert not within[0] & (termios.ECHO | termios.ICANON | termios.ISIG)
        assert termios.tcgetattr(follower) == before
    finally:
        os.close(leader)
        os.close(follower)


def test_without_a_terminal_raw_mode_is_nothing() -> None:
    read, write = os.pipe()
    with RawMode(read) as mode:
        mode.restore()
    os.close(read)
    os.close(write)
