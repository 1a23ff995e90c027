"""The kit, run against the json-file driver: its sink is the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest

from pyd_conformance import LogContract
from pyd_conformance.log import Message
from pyd_log_json_file.driver import JsonFileDriver


def nanoseconds(stamp: str) -> int:
    """Of ``2026-01-02T03:04:05.000000006Z``."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


class _Disk:
    """The files below a directory; a full one has files that cannot be written."""

    options: Mapping[str, str] = {}

    def __init__(self, top: Path) -> None:
        self._top = top

    def received(self, container: str) -> list[Message]:
        found = []
        for path in self._top.glob(f"stage/containers/{container}/{container}-json.log"):
            *lines, _unfinished = path.read_text("utf-8").split("\n")  # only there: a line may hold U+0085 or U+2028
            for line in lines:
                each = json.loads(line)
                text = each["log"].removesuffix("\n").encode()
                found.append(Message(text, {"stdout": 1, "stderr": 2}[each["stream"]], nanoseconds(each["time"])))
        return found

    def down(self) -> None:
        """A disk does not go away."""

    def up(self) -> None:
        """A disk does not go away."""

    def hang(self) -> None:
        """A disk does not go away."""


class TestJsonFile(LogContract):
    subject = "json-file"
    capabilities = frozenset({"files"})
    loses = True  # a disk is not down
    bad_options = (
        {"max-size": "much"}, {"max-file": "0"}, {"max-file": "x"}, {"compress": "maybe"}, {"compress": "true"},
        {"max-size": "1m", "max-file": "1", "compress": "true"}, {"labels-regex": "("}, {"tag": "{{.Nothing}}"},
    )  # fmt: skip

    @pytest.fixture
    def sink(self, tmp_path: Path) -> _Disk:
        return _Disk(tmp_path)

    def make(self, root: Path, run: Path) -> JsonFileDriver:
        return JsonFileDriver()

    def replaced(self, line: bytes) -> bytes:
        return line.decode("utf-8", "replace").encode()
