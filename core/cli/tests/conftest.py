"""Fixtures of the command line's tests: a fake daemon, and running `pyd` as the process it is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def beside(name: str) -> Any:
    """A module of this folder, which is no package and not on the path."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


cli_fakes = beside("cli_fakes")
beside("build_recorder")

Daemon = Callable[[dict[str, Any]], Any]
Pyd = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fake_daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Call it with the answers; it returns the daemon, which is stopped at the end."""
    started: list[Any] = []

    def start(replies: dict[str, Any]) -> Any:
        daemon = cli_fakes.FakeDaemon(str(tmp_path / f"d{len(started)}.sock"), replies)
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        daemon.close()


@pytest.fixture
def pyd(tmp_path: Path) -> Pyd:
    """`pyd` as a process, with an empty home and UTC: `pyd("ps", "-a", host=daemon.host)`."""

    def run(*argv: str, host: str = "unix:///nonexistent/pyd.sock", stdin: str = "", **variables: str) -> Any:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(tmp_path),
            "TZ": "UTC",
            "PYD_HOST": host,
            "PYTHONPATH": str(HERE.parent / "src"),
            **variables,
        }
        program = "import sys; from pyd_cli.main import main; sys.argv[0] = 'pyd'; main()"
        command = [sys.executable, "-c", program, *argv]
        return subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, timeout=60)

    return run
