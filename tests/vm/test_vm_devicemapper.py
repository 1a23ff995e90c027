"""A daemon whose root file systems are thin devices, as an operator starts it: pull to removal, kill and restart."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import busybox_image
from engine_under_test import Daemon, instance_of
from test_vm_containers import unframed

pytestmark = [pytest.mark.vm, pytest.mark.root]

IMAGE = "busybox:latest"
LOOP = """
[storage]
default = "devicemapper"
[storage.devicemapper]
loop = true
data-size = "1G"
metadata-size = "8M"
base-size = "512M"
"""
DEVICES = Path("/dev/mapper")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    archive = busybox_image.write_to(tmp_path_factory.mktemp("image"), IMAGE)
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="pyd-vm.")), LOOP).start()
    with_api(daemon, "POST", "/images/load?quiet=1", archive.read_bytes(), {"Content-Type": "application/x-tar"})
    yield daemon
    daemon.close()
    assert os.listdir(DEVICES) == ["control"]


def with_api(daemon: Daemon, *request: Any) -> bytes:
    api = daemon.api()
    try:
        return api.call(*request)
    finally:
        api.close()


def create(daemon: Daemon, *command: str, **host_config: Any) -> str:
    api = daemon.api()
    try:
        body = {"Image": IMAGE, "Cmd": command, "HostConfig": {"NetworkMode": "none", **host_config}}
        return str(api.json("POST", "/containers/create", body)["Id"])
    finally:
        api.close()


def finish(daemon: Daemon, container: str) -> tuple[int, str]:
    """Start it and wait for its end: (exit code, output)."""
    api = daemon.api()
    try:
        api.call("POST", f"/containers/{container}/start")
        code = api.json("POST", f"/containers/{container}/wait")["StatusCode"]
        return code, unframed(api.call("GET", f"/containers/{container}/logs?stdout=1&stderr=1"))
    finally:
        api.close()


def thin_devices(daemon: Daemon) -> list[str]:
    """Names of active ones."""
    prefix = f"pyd-{instance_of(daemon.data)}-"
    return [name for name in os.listdir(DEVICES) if name.removeprefix(prefix).isdecimal()]


def test_a_container_runs_on_a_thin_device(daemon: Daemon) -> None:
    container = create(daemon, "sh", "-c", "grep ' / ' /proc/mounts; echo kept > /kept; cat /kept")
    code, output = finish(daemon, container)

    assert code == 0
    assert output.startswith("/dev/mapper/pyd-")
    assert output.split()[2] == "ext4"
    assert output.endswith("kept\n")
    assert finish(daemon, container)[0] == 0, "it starts again"
    with_api(daemon, "DELETE", f"/containers/{container}")


def test_the_daemon_says_what_it_stores_with(daemon: Daemon) -> None:
    api = daemon.api()
    try:
        assert api.json("GET", "/info")["Driver"] == "devicemapper"
    finally:
        api.close()


def test_a_size_bounds_a_container(daemon: Daemon) -> None:
    container = create(
        daemon, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=80; rm /big; df -m / | tail -1; echo done",
        StorageOpt={"size": str(32 << 20)},
    )  # fmt: skip
    _, output = finish(daemon, container)
    assert "No space left on device" in output
    assert output.endswith("done\n")
    with_api(daemon, "DELETE", f"/containers/{container}")


def test_an_image_is_made_of_a_container_and_run(daemon: Daemon) -> None:
    container = create(daemon, "sh", "-c", "echo mine > /mine")
    assert finish(daemon, container)[0] == 0
    with_api(daemon, "POST", f"/commit?container={container}&repo=mine&tag=1")
    api = daemon.api()
    try:
        changes = {each["Path"] for each in api.json("GET", f"/containers/{container}/changes")}
        assert changes == {"/mine"}
        body = {"Image": "mine:1", "Cmd": ["cat", "/mine"], "HostConfig": {"NetworkMode": "none"}}
        second = api.json("POST", "/containers/create", body)["Id"]
    finally:
        api.close()
    assert finish(daemon, second) == (0, "mine\n")
    for each in (second, container):
        with_api(daemon, "DELETE", f"/containers/{each}")
    with_api(daemon, "DELETE", "/images/mine:1")


def test_a_killed_daemon_finds_its_containers_and_devices(daemon: Daemon) -> None:
    running = create(daemon, "sleep", "1000")
    with_api(daemon, "POST", f"/containers/{running}/start")
    stopped = create(daemon, "cat", "/etc/hostname")
    daemon.kill()
    daemon.start()

    assert len(thin_devices(daemon)) == 1, "that of the running one"
    assert finish(daemon, stopped)[0] == 0
    with_api(daemon, "DELETE", f"/containers/{running}?force=1")
    with_api(daemon, "DELETE", f"/containers/{stopped}")
    assert thin_devices(daemon) == []
