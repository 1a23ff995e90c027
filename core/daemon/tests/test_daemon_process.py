"""The daemon as a process: starting, refusing to start in one line, reloading, stopping; over a small engine."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

# The whole daemon but for the services: their place is taken by one that answers /version and holds what it is told to.
_PROGRAM = """
import asyncio, os, sys, time
from pathlib import Path
import pyd_daemon.assembly as assembly
from pyd_daemon.backends import Backends
from pyd_engine.events.bus import EventBus

class System:
    async def version(self):
        return {"Version": "small"}

class Small:
    def __init__(self, configuration, instance, log):
        time.sleep(float(os.environ.get("BUILDING", "0")))
        self.trace = configuration.data_root / "trace"
        self.say("built " + instance)
        self.events = EventBus(None)
        self.backends = Backends(System(), self.events, None, None, None, None, None)
    def say(self, word):
        with open(self.trace, "a") as file:
            file.write(word + "\\n")
    async def start_up(self):
        self.say("up")
    def end_streams(self):
        self.events.close()
    async def shut_down(self):
        self.say("down")
        await asyncio.sleep(float(os.environ.get("LEAVING", "0")))

assembly.assemble = Small
from pyd_daemon.main import main
sys.exit(main())
"""


class Client(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


class Daemon:
    """One daemon of ours in a temporary directory."""

    def __init__(self, tmp_path: Path) -> None:
        self.root, self.run = tmp_path / "root", tmp_path / "run"
        self.socket = self.run / "pyd.sock"
        self.program = tmp_path / "program.py"
        self.program.write_text(_PROGRAM)
        self.config = tmp_path / "pyd.toml"
        self.config.write_text("shutdown-timeout = 5\n")
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *flags: str, ready: bool = True, **environ: str) -> subprocess.Popen[str]:
        words = [sys.executable, str(self.program), "--config", str(self.config), "--data-root", str(self.root)]
        words += ["--run-root", str(self.run), "-H", f"unix://{self.socket}", *flags]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ})
        self.processes.append(process)
        if ready:
            self.wait_for("ready after")
        return process

    def wait_for(self, words: str, seconds: float = 20) -> str:
        """Read the log up to a line with *words*."""
        stderr = self.processes[-1].stderr
        assert stderr is not None
        seen = ""
        watchdog = time.monotonic() + seconds
        while time.monotonic() < watchdog:
            line = stderr.readline()
            seen += line
            if words in line:
                return line
            if not line:
                break
        raise AssertionError(f"{words!r} not in the log:\n{seen}")

    def get(self, path: str) -> tuple[int, bytes]:
        client = Client(self.socket)
        with contextlib.closing(client):
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read()

    def trace(self) -> list[str]:
        return (self.root / "trace").read_text().split("\n")[:-1]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


def test_it_starts_serves_and_stops_cleanly(daemon: Daemon) -> None:
    process = daemon.start()
    assert daemon.get("/v1.44/version") == (200, b'{"Version":"small"}') or daemon.get("/version")[0] == 200
    assert daemon.root.stat().st_mode & 0o777 == 0o710
    assert daemon.run.stat().st_mode & 0o777 == 0o711
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=10)
    assert process.returncode == 0, log
    assert "stopping (SIGTERM); containers run on" in log
    assert not daemon.socket.exists()
    assert [word.split()[0] for word in daemon.trace()] == ["built", "up", "down"]


def test_streams_are_ended_and_do_not_hold_up_stopping(daemon: Daemon) -> None:
    process = daemon.start()
    client = Client(daemon.socket)
    client.request("GET", "/events")
    answer = client.getresponse()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert answer.read() == b""
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert time.monotonic() - began < 3
    client.close()


def test_a_second_daemon_on_the_same_data_root_is_refused_in_one_line(daemon: Daemon, tmp_path: Path) -> None:
    first = daemon.start()
    second = daemon.start("--run-root", str(tmp_path / "run2"), ready=False)
    _, log = second.communicate(timeout=20)
    assert second.returncode == 2
    assert log == (
        f"pydd: the data root {daemon.root} is in use by the daemon with pid {first.pid}; stop it, or choose another "
        "data root\n"
    )
    assert daemon.get("/version")[0] == 200


def test_after_a_kill_the_next_one_starts_over_what_was_left(daemon: Daemon) -> None:
    process = daemon.start()
    process.kill()
    process.communicate(timeout=10)
    assert daemon.socket.exists()
    daemon.start()
    assert daemon.get("/version")[0] == 200


def test_a_stop_while_starting_takes_down_what_was_built(daemon: Daemon) -> None:
    process = daemon.start(ready=False, BUILDING="1.5")
    deadline = time.monotonic() + 20
    while not daemon.socket.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    assert [word.split()[0] for word in daemon.trace()] == ["built", "down"]
    assert "ready" not in log


def test_a_second_signal_ends_it_at_once(daemon: Daemon) -> None:
    process = daemon.start(LEAVING="60")
    process.send_signal(signal.SIGTERM)
    daemon.wait_for("stopping (SIGTERM)")
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=5)
    assert process.returncode == 1
    assert "SIGTERM again: stopping at once" in log


def test_what_does_not_stop_is_left_behind_after_the_timeout(daemon: Daemon) -> None:
    daemon.config.write_text("shutdown-timeout = 1\n")
    process = daemon.start(LEAVING="60")
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "not stopped after 3 s: leaving at once" in log


def test_a_hangup_takes_over_the_log_level_and_names_what_needs_a_restart(daemon: Daemon) -> None:
    process = daemon.start()
    daemon.config.write_text('log-level = "debug"\nlabels = ["a=b"]\n[storage.overlay]\nx = 1\n')
    process.send_signal(signal.SIGHUP)
    line = daemon.wait_for("reloaded")
    assert "log level debug; these need a restart: labels, shutdown-timeout, settings of drivers" in line
    daemon.config.write_text("nope = 1\n")
    process.send_signal(signal.SIGHUP)
    assert "is not taken over" in daemon.wait_for("reload")
    assert daemon.get("/version")[0] == 200


def test_the_service_manager_hears_when_it_is_ready_and_when_it_stops(daemon: Daemon, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        process = daemon.start("--log-format", "json", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(200).startswith(b"READY=1\n")
        process.send_signal(signal.SIGTERM)
        assert manager.recv(200) == b"STOPPING=1"
        _, log = process.communicate(timeout=10)
        assert [json.loads(line)["message"] for line in log.splitlines()][-1] == "stopped"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--storage-driver"], "pydd: argument --storage-driver: expected one argument; see pydd --help"),
        (["--log-level", "loud"], "pydd: log-level (flag --log-level) must be one of"),
        (["--group", "no-such"], 'pydd: group = "no-such": there is no such group'),
        (["--config", "/no/such"], "pydd: the configuration file /no/such is not there"),
        (["--data-root", "/proc/1/x"], "pydd: make the data root /proc/1/x: "),
        (["--data-root", "/etc/passwd"], "pydd: the data root /etc/passwd is not a directory"),
        (["-H", "tcp://127.0.0.1:1"], "pydd: hosts (flag --host): "),
    ],
)
def test_errors_at_start_are_one_line_and_status_2(daemon: Daemon, flags: list[str], line: str) -> None:
    process = daemon.start(*flags, ready=False)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 2
    assert log.startswith(line)
    assert log.count("\n") == 1


def test_a_full_data_root_is_named(tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=710", "tmpfs", str(mounted)], check=True)
    try:
        with open(mounted / "filler", "wb") as filler, contextlib.suppress(OSError):
            filler.write(b"x" * (3 << 20))
        done = subprocess.run(
            [sys.executable, "-m", "pyd_daemon.main", "--data-root", str(mounted), "--run-root", str(tmp_path / "run"),
             "-H", f"unix://{tmp_path}/run/s"],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(mounted) in done.stderr
    assert "no space left" in done.stderr or "has no space left" in done.stderr


def _validate(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pyd_daemon.main", "--validate", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_validate_prints_every_fault_on_its_own_line(tmp_path: Path) -> None:
    file = tmp_path / "pyd.toml"
    file.write_text("nope = 1\nhosts = 2\n")
    done = _validate("--config", str(file))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 2)
    file.write_text('[storage]\ndefault = "ovrlay"\n[network]\ndrivers = ["brige"]\n[isolation]\ndefault = "x"\n')
    done = _validate("--config", str(file))
    first, second, third = done.stderr.splitlines()
    assert first.startswith(
        f'pydd: [storage] default = "ovrlay" in {file}: no such storage driver is installed; did you mean "overlay"?'
    )
    assert second.startswith(f'pydd: [network] drivers = ["brige"] in {file}: no network driver "brige" is installed;')
    assert third.startswith(f'pydd: [isolation] default = "x" in {file}: no such isolation driver is installed;')


def test_version_answers() -> None:
    command = [sys.executable, "-m", "pyd_daemon.main", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pydd ")
