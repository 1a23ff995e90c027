"""Containers on pure cgroup v2: the daemon as an operator starts it, limits that hold, devices that are refused."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import busybox_image
from engine_under_test import Daemon

pytestmark = [pytest.mark.vm, pytest.mark.root]

IMAGE = "busybox:latest"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    archive = busybox_image.write_to(tmp_path_factory.mktemp("image"), IMAGE)
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="pyd-vm."))).start()
    api = daemon.api()
    api.call("POST", "/images/load?quiet=1", archive.read_bytes(), {"Content-Type": "application/x-tar"})
    api.close()
    yield daemon
    daemon.close()


def run(daemon: Daemon, *command: str, **host_config: Any) -> tuple[int, str, dict[str, Any]]:
    """Run a container to its end: (exit code, output, state)."""
    api = daemon.api()
    try:
        body = {"Image": IMAGE, "Cmd": command, "HostConfig": {"NetworkMode": "none", **host_config}}
        container = api.json("POST", "/containers/create", body)["Id"]
        api.call("POST", f"/containers/{container}/start")
        code = api.json("POST", f"/containers/{container}/wait")["StatusCode"]
        raw = api.call("GET", f"/containers/{container}/logs?stdout=1&stderr=1")
        state = api.json("GET", f"/containers/{container}/json")["State"]
        api.call("DELETE", f"/containers/{container}")
    finally:
        api.close()
    return code, unframed(raw), state


def unframed(raw: bytes) -> str:
    """The bytes of a framed stream as text."""
    out, position = b"", 0
    while position < len(raw):
        length = int.from_bytes(raw[position + 4 : position + 8], "big")
        out += raw[position + 8 : position + 8 + length]
        position += 8 + length
    return out.decode()


def test_limits_are_those_asked_for(daemon: Daemon) -> None:
    files = "memory.max pids.max cpu.max"
    code, output, _ = run(
        daemon, "sh", "-c", f"cd /sys/fs/cgroup && cat {files} && cat /proc/self/cgroup",
        Memory=64 << 20, PidsLimit=20, NanoCpus=500_000_000,
    )  # fmt: skip
    assert code == 0
    assert output.split("\n")[:4] == [str(64 << 20), "20", "50000 100000", "0::/"]


def test_more_processes_than_allowed_are_refused(daemon: Daemon) -> None:
    code, output, _ = run(daemon, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo all", PidsLimit=5)
    assert code != 0
    assert "all" not in output


def test_out_of_memory_is_reported(daemon: Daemon) -> None:
    code, _, state = run(daemon, "sh", "-c", "head -c 100m /dev/zero | tail", Memory=16 << 20, MemorySwap=16 << 20)
    assert code == 137
    assert state["OOMKilled"]


def test_devices_not_given_are_refused(daemon: Daemon) -> None:
    script = "head -c 3 /dev/zero | wc -c; mknod /tmp/disk b 98 0; cat /tmp/disk; mknod /tmp/null c 1 3 && echo made"
    _, output, _ = run(daemon, "sh", "-c", script)
    assert output.startswith("3\n")
    # As under Docker any node can be made, and only those given can be opened.
    assert "cat: can't open '/tmp/disk': Operation not permitted" in output
    assert "made" in output


def test_a_paused_container_makes_no_progress_and_can_be_killed(daemon: Daemon) -> None:
    api = daemon.api()
    try:
        body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
        container = api.json("POST", "/containers/create", body)["Id"]
        api.call("POST", f"/containers/{container}/start")
        api.call("POST", f"/containers/{container}/pause")
        group = next(Path("/sys/fs/cgroup").glob(f"pyd*/{container}"))
        assert "frozen 1" in (group / "cgroup.events").read_text()
        api.call("DELETE", f"/containers/{container}?force=1")
        assert not group.exists()
    finally:
        api.close()


def test_limits_of_a_running_container_change_and_are_told(daemon: Daemon) -> None:
    api = daemon.api()
    try:
        body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none", "Memory": 64 << 20}}
        container = api.json("POST", "/containers/create", body)["Id"]
        api.call("POST", f"/containers/{container}/start")
        change = {"Memory": 48 << 20, "MemorySwap": 96 << 20, "PidsLimit": 9, "NanoCpus": 250_000_000}
        assert not api.json("POST", f"/containers/{container}/update", change)["Warnings"]
        group = next(Path("/sys/fs/cgroup").glob(f"pyd*/{container}"))
        names = ("memory.max", "memory.swap.max", "pids.max", "cpu.max")
        assert [(group / name).read_text().strip() for name in names] == [
            str(48 << 20), str(48 << 20), "9", "25000 100000",
        ]  # fmt: skip
        told = api.json("GET", f"/containers/{container}/stats?stream=0")
        assert told["memory_stats"]["limit"] == 48 << 20
        assert 0 < told["memory_stats"]["usage"] < 48 << 20
        assert told["pids_stats"] == {"current": 1, "limit": 9}
        assert told["cpu_stats"]["cpu_usage"]["total_usage"] > 0
        assert "inactive_file" in told["memory_stats"]["stats"]
        api.call("DELETE", f"/containers/{container}?force=1")
    finally:
        api.close()


def test_nothing_stays_when_the_daemon_goes(daemon: Daemon) -> None:
    daemon.stop()
    assert [name for name in os.listdir("/sys/fs/cgroup") if name.startswith("pyd")] == []
    daemon.start()
