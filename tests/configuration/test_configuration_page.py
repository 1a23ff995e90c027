"""The operator's page is what the daemon and the drivers say, and its examples are taken."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import page

EXAMPLES = re.findall(r"```toml\n(.*?)```", page.render(), re.DOTALL)


def test_the_page_is_up_to_date() -> None:
    assert page.DOCUMENT.read_text() == page.render(), "write it again: python tests/configuration/page.py"


def test_every_driver_of_the_repository_is_on_it() -> None:
    tables = {table for table, _ in page.drivers()}
    assert {"storage.overlay", "network.macvlan", "isolation.oci", "logging.journald", "plugins.trace"} <= tables


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_are_taken(example: str, tmp_path: Path) -> None:
    file = tmp_path / "pyd.toml"
    file.write_text(example)
    command = [Path(sys.executable).with_name("pydd"), "--validate", "--config", file]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "userns-remap" in example and found.returncode:  # this host has no user dockremap: not the example's fault
        assert "dockremap" in found.stderr
    else:
        assert (found.returncode, found.stderr) == (0, "")
