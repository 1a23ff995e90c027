"""The kit, run against the fluentd driver, with a server that knows all of MessagePack and confirms what it read."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance import LogContract
from pyd_conformance.log import Message
from pyd_conformance.log_servers import StreamServer
from pyd_contracts.values import LogRecord, LogSource, Piece
from pyd_log_fluentd.driver import FluentdDriver
from pyd_log_fluentd.msgpack import array, event_time, integer, mapping, read_map, text


class Short(Exception):
    """There is more to come."""


def take(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if at + length > len(data):
        raise Short
    return data[at : at + length], at + length


def unpack(data: bytes, at: int) -> tuple[Any, int]:
    """One value (github.com/msgpack/msgpack, spec.md) and where the next one begins."""
    head, at = take(data, at, 1)
    kind = head[0]
    sizes = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
    if kind < 0x80:
        return kind, at
    if kind == 0xD7:
        body, at = take(data, at, 9)
        assert body[0] == 0, "EventTime is type 0"
        seconds, fraction = struct.unpack(">II", body[1:])
        return seconds * 10**9 + fraction, at
    if kind in sizes:
        number, at = take(data, at, sizes[kind])
        length = int.from_bytes(number, "big")
    else:
        length = kind & (0x1F if kind & 0xE0 == 0xA0 else 0x0F)
    if 0xCC <= kind <= 0xCF:
        return length, at
    if kind & 0xE0 == 0xA0 or 0xD9 <= kind <= 0xDB:
        body, at = take(data, at, length)
        return body.decode("utf-8"), at
    values = []
    for _ in range(length * (2 if kind & 0xF0 == 0x80 or kind in (0xDE, 0xDF) else 1)):
        value, at = unpack(data, at)
        values.append(value)
    if kind & 0xF0 == 0x90 or kind in (0xDC, 0xDD):
        return values, at
    assert kind & 0xF0 == 0x80 or kind in (0xDE, 0xDF), hex(kind)
    return dict(zip(values[::2], values[1::2], strict=True)), at


class Fluentd(StreamServer):
    """The forward protocol's server. *exact*: times have nanoseconds."""

    def __init__(self, exact: bool, path: Path | None = None, **options: str) -> None:
        self._exact = exact
        self.events: list[tuple[str, dict[str, str]]] = []
        super().__init__(self._read, str(path or ""))
        where = f"unix://{path}" if path else f"127.0.0.1:{self.port}"
        self.options: Mapping[str, str] = {
            "fluentd-address": where, "fluentd-sub-second-precision": str(exact).lower(), **options
        }  # fmt: skip

    def _read(self, data: bytes) -> tuple[list[tuple[str, Message]], int, bytes]:
        found, at, answer = [], 0, b""
        while at < len(data):
            try:
                (tag, entries, options), at = unpack(data, at)
            except Short:
                break
            assert options["size"] == len(entries)
            for when, record in entries:
                self.events.append((tag, record))
                stream = {"stdout": 1, "stderr": 2}[record["source"]]
                message = Message(record["log"].encode(), stream, when if self._exact else when * 10**9)
                found.append((record["container_id"], message))
            if "chunk" in options:
                answer += mapping(1) + text(b"ack") + text(options["chunk"].encode())
        return found, at, answer


class _Fluentd(LogContract):
    bad_options = (
        {"fluentd-address": "udp://a:1"}, {"fluentd-address": "tcp://a:x"}, {"fluentd-address": "unix://"},
        {"fluentd-address": "tcp://a/b"}, {"fluentd-async": "maybe"}, {"fluentd-retry-wait": "soon"},
        {"fluentd-buffer-limit": "much"}, {"fluentd-max-retries": "x"}, {"tag": "{{.Nothing}}"},
        {"fluentd-async": "true", "fluentd-async-connect": "true"},
    )  # fmt: skip

    def make(self, root: Path, run: Path) -> FluentdDriver:
        return FluentdDriver(patience=0.5)

    def replaced(self, line: bytes) -> bytes:
        return line.decode("utf-8", "replace").encode()


class TestFluentdTcp(_Fluentd):
    subject = "fluentd tcp"
    precision = 10**9

    @pytest.fixture
    def sink(self) -> Iterator[Fluentd]:
        server = Fluentd(exact=False)
        yield server
        server.close()


class TestFluentdConfirmed(_Fluentd):
    subject = "fluentd confirmed"

    @pytest.fixture
    def sink(self) -> Iterator[Fluentd]:
        server = Fluentd(exact=True, **{"fluentd-request-ack": "true"})
        yield server
        server.close()


class TestFluentdUnix(_Fluentd):
    subject = "fluentd unix"

    @pytest.fixture
    def sink(self, tmp_path: Path) -> Iterator[Fluentd]:
        server = Fluentd(True, tmp_path / "socket")
        yield server
        server.close()


def test_events_are_dockers(tmp_path: Path) -> None:
    server = Fluentd(exact=True, **{"fluentd-request-ack": "true"})
    options = {**server.options, "tag": "docker.{{.Name}}", "labels": "team"}
    source = LogSource(
        "ab" * 32, "web", "busybox", f"sha256:{'1' * 64}", 0, ("sh",), tmp_path, (), {"team": "blue"}, options
    )
    driver = FluentdDriver()
    driver.log_open(source)
    driver.log_write("ab" * 32, [LogRecord(1, 2, b"part", Piece("e" * 64, 1, last=False))])
    driver.log_close()
    server.close()
    assert server.events == [
        ("docker.web", {
            "container_id": "ab" * 32, "container_name": "/web", "team": "blue", "source": "stderr", "log": "part",
            "partial_message": "true", "partial_id": "e" * 64, "partial_ordinal": "1", "partial_last": "false",
        })
    ]  # fmt: skip


@pytest.mark.parametrize("length", [0, 15, 16, 31, 32, 255, 256, 65535, 65536])
def test_lengths(length: int) -> None:
    assert unpack(text(b"x" * length), 0) == ("x" * length, len(text(b"x" * length)))
    assert unpack(integer(length), 0)[0] == length
    assert len(unpack(array(length) + integer(1) * length, 0)[0]) == length
    if length < 65536:
        pairs = b"".join(text(b"%d" % number) + integer(1) for number in range(length))
        assert len(unpack(mapping(length) + pairs, 0)[0]) == length


def test_times_and_answers() -> None:
    assert unpack(event_time(1_793_000_000_123_456_789), 0)[0] == 1_793_000_000_123_456_789
    answer = mapping(1) + text(b"ack") + text(b"x" * 40)
    assert read_map(answer) == {"ack": "x" * 40}
    assert all(read_map(answer[:length]) is None for length in range(len(answer)))
    with pytest.raises(ValueError, match="no map"):
        read_map(b"HTTP/1.1 400 Bad Request")
