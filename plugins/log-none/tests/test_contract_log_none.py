"""The kit, run against the none driver."""

from __future__ import annotations

from pathlib import Path

from pyd_conformance import LogContract
from pyd_log_none.driver import NoneDriver


class TestNoneDriver(LogContract):
    subject = "none"
    capabilities = frozenset({"nothing"})

    def make(self, root: Path, run: Path) -> NoneDriver:
        return NoneDriver()
