"""The fake under the log contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pyd_conformance import LogContract
from pyd_conformance.fakes import FakeLogs, FakeSink
from pyd_conformance.log import Message


class _InMemory:
    """A list as the suite wants sinks."""

    options: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.sink = FakeSink()

    def received(self, container: str) -> list[Message]:
        return [Message(line, stream, when) for stream, when, line in self.sink.arrived.get(container, [])]

    def down(self) -> None:
        self.sink.up = False

    def up(self) -> None:
        self.sink.up = True

    def hang(self) -> None:
        self.sink.most = 1


class TestFakeLogs(LogContract):
    bad_options = ({"shape": "round"},)

    @pytest.fixture
    def sink(self) -> _InMemory:
        self.memory = _InMemory()
        return self.memory

    def make(self, root: Path, run: Path) -> FakeLogs:
        return FakeLogs(self.memory.sink)
