"""The kit, run against the journald driver, with a socket that reads as strictly as a journal does."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import pytest

from pyd_conformance import LogContract
from pyd_conformance.log import Message
from pyd_conformance.log_servers import DatagramServer
from pyd_log_journald.driver import JournaldDriver

F_GET_SEALS = 1034


def parsed(data: bytes) -> dict[str, bytes]:
    """The fields of an entry; each name once, as the protocol's page says they are written."""
    found: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        end = data.index(b"\n", position)
        name, equals, value = data[position:end].partition(b"=")
        position = end + 1
        if not equals:
            (length,) = struct.unpack_from("<Q", data, position)
            value = data[position + 8 : position + 8 + length]
            position += 8 + length + 1
            assert data[position - 1 : position] == b"\n"
        key = name.decode("ascii")
        assert key == key.upper()
        assert key[0].isalpha()
        assert key.replace("_", "").isalnum()
        assert key not in found, key
        found[key] = value
    return found


class Journal(DatagramServer):
    """A journal: `entries` are all it got."""

    options: Mapping[str, str] = {}

    def __init__(self, path: Path) -> None:
        self.entries: list[dict[str, bytes]] = []
        self.sealed = 0
        super().__init__(self._entry, str(path))

    def _entry(self, data: bytes, fds: list[int]) -> list[tuple[str, Message]]:
        if fds:
            assert not data
            assert fcntl.fcntl(fds[0], F_GET_SEALS) == 0xF  # journald takes no memfd that may still change
            self.sealed += 1
            data = os.pread(fds[0], 1 << 24, 0)
        fields = parsed(data)
        self.entries.append(fields)
        whole, _, fraction = fields["SYSLOG_TIMESTAMP"].decode().removesuffix("Z").partition(".")
        when = int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(fraction)
        stream = {b"6": 1, b"3": 2}[fields["PRIORITY"]]
        return [(fields["CONTAINER_ID_FULL"].decode(), Message(fields["MESSAGE"], stream, when))]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "socket")
    yield journal
    journal.close()


class TestJournald(LogContract):
    subject = "journald"
    bad_options = ({"tag": "{{.Nothing}}"}, {"env-regex": "["})

    @pytest.fixture
    def sink(self, journal: Journal, tmp_path: Path) -> Journal:
        self.path = str(tmp_path / "socket")
        return journal

    def make(self, root: Path, run: Path) -> JournaldDriver:
        return JournaldDriver(self.path, patience=0.5)
