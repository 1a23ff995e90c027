"""The whole daemon with everything that is installed, in a network namespace of its own; and image streams."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pyd_contracts.errors import NotFound
from pyd_daemon.images import Room, streamed


@pytest.mark.root
def test_it_starts_with_all_drivers_tells_about_them_and_leaves_nothing_behind(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare(1)")
    path = tmp_path / "run" / "pyd.sock"
    command = ["unshare", "--net", sys.executable, "-m", "pyd_daemon.main", "--config", "/dev/null"]
    command += ["--data-root", str(tmp_path / "root"), "--run-root", str(tmp_path / "run"), "-H", f"unix://{path}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            info = _get(daemon, path, "/info")
            networks = _get(daemon, path, "/networks")
            usage = _get(daemon, path, "/v1.44/system/df")
        finally:
            daemon.send_signal(signal.SIGTERM)
            _, log = daemon.communicate(timeout=30)
    assert daemon.returncode == 0, log
    ready = {(each["Kind"], each["Name"]) for each in info["Drivers"] if each["State"] == "ready"}
    assert {("storage", "vfs"), ("network", "bridge"), ("network", "host"), ("isolation", "namespaces")} <= ready
    assert [each["Name"] for each in info["Drivers"] if each["Default"]] == [
        "overlay", "default", "namespaces", "local", "json-file",
    ]  # fmt: skip
    assert {each["Name"] for each in networks} == {"bridge", "host", "none"}
    empty = {"LayersSize": 0, "Images": [], "Containers": [], "Volumes": [], "BuildCache": []}
    assert {key: usage[key] for key in empty} == empty
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o710
    assert not path.exists()
    assert "error" not in log, log


def _get(daemon: subprocess.Popen[str], path: Path, target: str) -> Any:
    deadline = time.monotonic() + 30
    while True:
        assert daemon.poll() is None, daemon.communicate()
        client = http.client.HTTPConnection("localhost")
        client.sock = socket.socket(socket.AF_UNIX)
        client.sock.settimeout(30)
        try:
            client.sock.connect(str(path))
            client.request("GET", target)
            answer = client.getresponse()
            assert answer.status == 200, answer.read()
            return json.load(answer)
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        finally:
            client.close()


def test_records_come_as_they_are_reported_and_the_error_at_the_end() -> None:
    async def work(progress: Any) -> None:
        progress({"status": "a"})
        await asyncio.sleep(0)
        progress({"status": "b"})
        raise NotFound("gone")

    async def scenario() -> None:
        records = streamed(work)
        assert [(await anext(records))["status"] for _ in range(2)] == ["a", "b"]
        with pytest.raises(NotFound, match="gone"):
            await anext(records)

    asyncio.run(scenario())


def test_work_is_cancelled_when_nobody_listens_any_more() -> None:
    ended = []

    async def work(progress: Any) -> None:
        progress({"status": "a"})
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    async def scenario() -> None:
        records = streamed(work)
        assert (await anext(records))["status"] == "a"
        await records.aclose()

    asyncio.run(scenario())
    assert ended == ["cancelled"]


def test_who_reports_may_wait_for_who_reads() -> None:
    room, most = Room(), 0

    async def work(progress: Any) -> None:
        nonlocal most
        for number in range(2000):
            progress({"number": number})
            await room.wait()
            most = max(most, room.records.qsize())

    async def scenario() -> list[int]:
        return [record["number"] async for record in streamed(work, room)]

    assert asyncio.run(scenario()) == list(range(2000))
    assert most < 500
