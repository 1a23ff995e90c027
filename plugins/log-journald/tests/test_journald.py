"""What is special to journald: its fields, long messages, a real journal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyd_contracts.context import DriverContext
from pyd_contracts.errors import Declined
from pyd_contracts.values import LogRecord, LogSource, Piece
from pyd_log_journald.driver import JournaldDriver
from pyd_log_journald.kernel import fields
from pyd_log_journald.plugin import create

ID = "ab" * 32
WHEN = 1_793_000_000_123_456_789
PROGRAM = "/usr/lib/systemd/systemd-journald"


def source(place: Path, **options: str) -> LogSource:
    named = {key.replace("_", "-"): value for key, value in options.items()}
    labels = {"com.example/team": "blue", "9lives": "cat"}
    return LogSource(ID, "web", "busybox:1", f"sha256:{'1' * 64}", 0, ("sh",), place, ("A=1\n2",), labels, named, "pyd")


def context(tmp_path: Path, path: Path) -> DriverContext:
    import logging

    return DriverContext("journald", tmp_path, tmp_path, {"socket": str(path)}, logging.getLogger("test"))


def test_declines_without_a_journal(tmp_path: Path) -> None:
    with pytest.raises(Declined, match="journald is not enabled on this host"):
        create(context(tmp_path, tmp_path / "socket"))
    (tmp_path / "socket").write_text("no socket")
    with pytest.raises(Declined):
        create(context(tmp_path, tmp_path / "socket"))


def test_values_with_line_ends_have_their_length() -> None:
    assert fields({"A": b"1", "B": b"2\n3"}) == b"A=1\nB\n\x03\0\0\0\0\0\0\x002\n3\n"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A real journald with a place of its own: its socket, and the directory of its files."""
    if not os.access(PROGRAM, os.X_OK) or shutil.which("journalctl") is None or os.geteuid() != 0:
        pytest.skip("no systemd-journald here, or not root")
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    for name in ("run", "log"):
        (tmp_path / name).mkdir()
    script = (
        f"mount --bind {tmp_path}/run /run && mkdir -p /run/systemd/journal /run/log/journal && "
        f"mount --bind {tmp_path}/log /run/log/journal && exec {PROGRAM}"
    )
    process = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stderr=subprocess.DEVNULL)
    path = tmp_path / "run/systemd/journal/socket"
    deadline = time.monotonic() + 20
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            pytest.skip("systemd-journald does not run here by itself")
        time.sleep(0.01)
    yield path, tmp_path / "log"
    process.terminate()
    process.wait()


@pytest.mark.root
def test_a_real_journal_has_it(journal: tuple[Path, Path], tmp_path: Path) -> None:
    path, directory = journal
    driver = create(context(tmp_path, path))
    driver.log_open(source(tmp_path, labels="com.example/team,9lives", env="A", tag="{{.Name}}"))
    long = b"x" * 400_000  # no datagram of this kernel holds it
    piece = Piece("f" * 64, 2, last=False)
    records = [LogRecord(WHEN, 1, b"hello\n"), LogRecord(WHEN, 2, b"broken\n"), LogRecord(WHEN, 1, long, piece)]
    assert driver.log_write(ID, records) == 3
    driver.log_close()

    def entries() -> list[dict[str, str]]:
        done = subprocess.run(
            ["journalctl", "-D", directory, "-o", "json", "--all", f"CONTAINER_ID_FULL={ID}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [json.loads(line) for line in done.stdout.splitlines()]

    deadline = time.monotonic() + 30
    while len(found := entries()) < 3:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    first, second, third = found
    assert (first["MESSAGE"], first["PRIORITY"], first["SYSLOG_IDENTIFIER"]) == ("hello", "6", "web")
    assert (first["CONTAINER_NAME"], first["CONTAINER_TAG"], first["IMAGE_NAME"]) == ("web", "web", "busybox:1")
    assert (first["COM_EXAMPLE_TEAM"], first["LIVES"], first["A"]) == ("blue", "cat", "1\n2")
    assert (second["MESSAGE"], second["PRIORITY"]) == ("broken", "3")
    assert third["MESSAGE"] == long.decode()
    assert third["CONTAINER_PARTIAL_MESSAGE"] == "true"
    assert (third["CONTAINER_PARTIAL_ID"], third["CONTAINER_PARTIAL_ORDINAL"]) == ("f" * 64, "2")


def test_long_messages_go_as_sealed_memory(tmp_path: Path) -> None:
    import fcntl
    import socket

    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        driver = JournaldDriver(path)
        driver.log_open(source(tmp_path))
        assert driver.log_write(ID, [LogRecord(WHEN, 1, b"y" * 1_000_000 + b"\n")]) == 1
        driver.log_close()
        data, fds, _, _ = socket.recv_fds(journal, 1 << 20, 1)
        assert data == b""
        assert fcntl.fcntl(fds[0], 1034) == 0xF
        assert os.pread(fds[0], 1 << 24, 0).endswith(b"MESSAGE=" + b"y" * 1_000_000 + b"\n")
        os.close(fds[0])
