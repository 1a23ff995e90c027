"""What tests may ask of a machine by marker: each is looked for once, and a test without it is skipped and says why.

``--pyd-require=root,docker`` turns such skips into failures (the conformance kit's plugin does both).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from pyd_conformance.pytest_plugin import REQUIREMENTS

settings.register_profile("pyd", deadline=None)  # how long an example takes is the machine's affair, not a test's
settings.load_profile("pyd")


def _programs(*names: str) -> str | None:
    absent = [name for name in names if shutil.which(name) is None]
    return f"not installed here: {', '.join(absent)} (scripts/provision)" if absent else None


REQUIREMENTS.update(
    docker=lambda: _programs("docker"),
    dockerd=lambda: _programs("dockerd", "docker", "ip", "iptables"),
    registry=lambda: _programs("docker-registry", "skopeo"),
    vm=lambda: None if "PYD_VM" in os.environ else "runs inside the throw-away virtual machine: make test-vm",
)


def pytest_runtest_logstart(nodeid: str) -> None:
    """In a virtual machine, tell outside what runs: if it never ends, it cannot be asked (tests/vm/machine.py)."""
    if doing := os.environ.get("PYD_VM_DOING"):
        Path(doing).write_text(nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What failed once and passed when it was tried again (scripts/test): a pass, and a defect."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"RERUN {report.nodeid}", sep="_")
        terminalreporter.write_line(report.longreprtext)
