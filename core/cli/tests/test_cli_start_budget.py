"""What `pyd version` may import. Times differ from machine to machine; modules do not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli_fakes import json_answer

SOURCE = Path(__file__).parent.parent / "src"

# Each costs milliseconds, and none is needed to ask one question over a unix socket.
FORBIDDEN = {
    "argparse", "ast", "asyncio", "calendar", "concurrent", "dataclasses", "dis", "email", "getpass", "hashlib", "http",
    "http.client", "importlib.metadata", "importlib.resources", "ipaddress", "linecache", "logging", "multiprocessing",
    "pathlib", "pickle", "pluggy", "rich", "shlex", "shutil", "ssl", "stevedore", "subprocess", "tarfile", "tempfile",
    "termios", "textwrap", "tokenize", "traceback", "unittest", "urllib", "urllib.parse", "zipfile",
}  # fmt: skip
COUNT = (
    "import sys; from pyd_cli.main import run; code = run(sys.argv[1:]); print(' '.join(sys.modules), file=sys.stderr)"
)


def imported(*argv: str, host: str) -> set[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYD_HOST": host}
    command = [sys.executable, "-S", "-E", "-c", f"import sys; sys.path[:0] = {search_path()!r}; {COUNT}", *argv]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def search_path() -> list[str]:
    """The command line's sources and click's place: without site, whose .pth files import what they like."""
    import click

    return [str(SOURCE), str(Path(click.__file__).parent.parent)]


def deferred(names: set[str]) -> set[str]:
    """`inspect` stands in sys.modules without having been loaded: its own imports tell."""
    return names & {"ast", "dis", "tokenize", "linecache"}


def test_version_imports_little(fake_daemon: Callable[[dict[str, Any]], Any]) -> None:
    daemon = fake_daemon({"GET /version": json_answer({"ApiVersion": "1.41"})})
    names = imported("version", host=daemon.host)
    assert not names & FORBIDDEN
    assert not deferred(names)
    commands = {name for name in names if name.startswith("pyd_cli.commands.")}
    assert commands == {"pyd_cli.commands.version"}
    ours = {name for name in names if name.startswith("pyd_")}
    assert {name.partition(".")[0] for name in ours} == {"pyd_cli"}
    assert not ours & {"pyd_cli.template_exec", "pyd_cli.run_flags", "pyd_cli.hijack", "pyd_cli.helptext"}


def test_ps_needs_no_template_engine(fake_daemon: Callable[[dict[str, Any]], Any]) -> None:
    daemon = fake_daemon({"GET /containers/json": json_answer([])})
    names = imported("ps", host=daemon.host)
    assert not names & FORBIDDEN
    assert "pyd_cli.templates" not in names


def test_nothing_imports_the_engine_or_the_contracts() -> None:
    texts = [path.read_text() for path in SOURCE.rglob("*.py")]
    assert len(texts) > 50
    for name in ("pyd_contracts", "pyd_engine", "pyd_daemon"):
        assert not [text for text in texts if f"import {name}" in text or f"from {name}" in text]
