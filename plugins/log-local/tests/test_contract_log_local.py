"""The kit, run against the local driver."""

from __future__ import annotations

from pathlib import Path

from pyd_conformance import LogContract
from pyd_log_local.driver import LocalDriver


class TestLocalDriver(LogContract):
    subject = "local"
    bad_options = ({"max-size": "x"}, {"max-file": "0"}, {"max-file": "0", "compress": "false"}, {"compress": "x"})
    capabilities = frozenset({"spool"})

    def make(self, root: Path, run: Path) -> LocalDriver:
        return LocalDriver()
