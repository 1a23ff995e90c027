"""The harness itself, from outside: statuses, streams, time limits. `make test-vm` fetches the kernel it needs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import kernels
from machine import TIMED_OUT, Machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("PYD_VM" in os.environ, reason="no virtual machine inside a virtual machine"),
    pytest.mark.skipif(
        kernels.present("uml") is None, reason=f"no kernel in {kernels.cache()} (tests/vm/vm.py fetch brings one)"
    ),
]


def test_streams_apart_and_the_commands_own_status() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    before = set(Path(tempfile.gettempdir()).glob("pyd-vm.*"))
    status = Machine(timeout=120).run(["/bin/sh", "-c", "echo to out; echo to err >&2; exit 7"], out, err)
    assert (status, out.getvalue(), err.getvalue()) == (7, b"to out\n", b"to err\n")
    assert set(Path(tempfile.gettempdir()).glob("pyd-vm.*")) <= before


def test_a_command_that_does_not_end_is_ended() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    assert Machine(timeout=6).run(["/bin/sleep", "600"], out, err) == TIMED_OUT
    assert err.getvalue() == b"vm: timed out after 6 s\n"


def test_what_did_not_end_is_named() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    command = ["/bin/sh", "-c", 'echo "a test" > "$PYD_VM_DOING"; sleep 600']
    assert Machine(timeout=15).run(command, out, err) == TIMED_OUT
    assert err.getvalue() == b"vm: timed out after 15 s, in a test\n"


def test_the_guest_cannot_write_to_the_host(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    out, err = io.BytesIO(), io.BytesIO()
    status = Machine(timeout=120).run(["/bin/sh", "-c", f"touch {mark} && ls {mark}"], out, err)
    assert (status, out.getvalue()) == (0, f"{mark}\n".encode()), err.getvalue()
    assert not mark.exists()


def test_a_killed_harness_leaves_no_machine_and_no_file(tmp_path: Path) -> None:
    vm = str(Path(__file__).with_name("vm.py"))
    command = [sys.executable, vm, "run", "--", "/bin/sleep", "600"]
    harness = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.DEVNULL)
    try:
        until(lambda: list(tmp_path.glob("pyd-vm.*/shared/begun")) != [])
        assert processes_that_name(tmp_path) != []
    finally:
        harness.kill()
        harness.wait()
    until(lambda: processes_that_name(tmp_path) == [] and os.listdir(tmp_path) == [])


def until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not fact():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def processes_that_name(path: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(path) in (process / "cmdline").read_bytes():
                found.append(process.name)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return found
