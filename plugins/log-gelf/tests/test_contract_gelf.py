"""The kit, run against the gelf driver, with servers that put chunks together and hold fields to GELF 1.1."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance import LogContract
from pyd_conformance.log import Message
from pyd_conformance.log_servers import DatagramServer, StreamServer
from pyd_log_gelf.driver import GelfDriver
from pyd_log_gelf.messages import CHUNK

FIELD = re.compile(r"_[\w.\-]+")


def read(data: bytes) -> tuple[str, Message]:
    """A message, held to the specification (docs.graylog.org, GELF Payload Specification)."""
    document: dict[str, Any] = json.loads(data)
    assert document["version"] == "1.1"
    assert isinstance(document["host"], str)
    assert document["short_message"]
    assert isinstance(document["timestamp"], float)
    plain = {"version", "host", "short_message", "timestamp", "level"}
    assert all(FIELD.fullmatch(key) and key != "_id" for key in document.keys() - plain)
    stream = {6: 1, 3: 2}[document["level"]]
    when = round(document["timestamp"] * 10**6) * 1000
    return document["_container_id"], Message(document["short_message"].encode(), stream, when)


class GelfUdp(DatagramServer):
    """Unpacks, after putting together."""

    def __init__(self, **options: str) -> None:
        self._chunks: dict[bytes, dict[int, bytes]] = {}
        self.chunked = 0
        super().__init__(self._read)
        self.options: Mapping[str, str] = {"gelf-address": f"udp://127.0.0.1:{self.port}", **options}

    def _read(self, data: bytes, _fds: list[int]) -> list[tuple[str, Message]]:
        assert len(data) <= CHUNK
        if data[:2] == b"\x1e\x0f":
            identity, number, count = data[2:10], data[10], data[11]
            assert number < count <= 128
            parts = self._chunks.setdefault(identity, {})
            parts[number] = data[12:]
            if len(parts) < count:
                return []
            self.chunked += 1
            data = b"".join(parts[each] for each in range(count))
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        elif data[:1] == b"\x78":
            data = zlib.decompress(data)
        return [read(data)]


class _Gelf(LogContract):
    bad_options = (
        {"gelf-address": ""}, {"gelf-address": "here"}, {"gelf-address": "unix:///x"}, {"gelf-address": "udp://host"},
        {"gelf-address": "tcp://h:1", "gelf-compression-type": "none"}, {"gelf-compression-type": "best"},
        {"gelf-address": "udp://h:1", "gelf-compression-level": "10"},
        {"gelf-address": "udp://h:1", "gelf-tcp-max-reconnect": "1"}, {"tag": "{{.Nothing}}"},
    )  # fmt: skip
    precision = 1000
    empty_lines = False

    def make(self, root: Path, run: Path) -> GelfDriver:
        return GelfDriver(patience=0.5)

    def replaced(self, line: bytes) -> bytes:
        return line.decode("utf-8", "replace").encode()


class TestGelfTcp(_Gelf):
    subject = "gelf tcp"

    @pytest.fixture
    def sink(self) -> Iterator[StreamServer]:
        def parse(data: bytes) -> tuple[list[tuple[str, Message]], int, bytes]:
            end = data.rfind(b"\0") + 1
            return [read(each) for each in data[:end].split(b"\0")[:-1]], end, b""

        class Server(StreamServer):
            @property
            def options(self) -> Mapping[str, str]:
                return {"gelf-address": f"tcp://127.0.0.1:{self.port}"}

        server = Server(parse)
        yield server
        server.close()


class _Udp(_Gelf):
    loses = True
    packing: Mapping[str, str] = {}

    @pytest.fixture
    def sink(self) -> Iterator[GelfUdp]:
        server = GelfUdp(**{f"gelf-compression-{key}": value for key, value in self.packing.items()})
        yield server
        server.close()


class TestGelfGzip(_Udp):
    subject = "gelf gzip"


class TestGelfZlib(_Udp):
    subject = "gelf zlib"
    packing = {"type": "zlib", "level": "-1"}  # noqa: RUF012 - never changed


class TestGelfPlain(_Udp):
    subject = "gelf none"
    packing = {"type": "none"}  # noqa: RUF012 - never changed
