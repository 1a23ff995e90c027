"""What the daemon says about itself: every key that clients read, counts, drivers, settings, disk usage."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any, cast

import pytest

from pyd_daemon.backends import Backends
from pyd_daemon.config import Configuration, load
from pyd_daemon.system import API_VERSION, VERSION, SystemService
from pyd_engine.composition import Composition, DriverReport
from pyd_engine.containers.runtimes import RuntimeTable
from pyd_engine.events import EventBus
from pyd_engine.upkeep import DriverUsage

# Every key that dockerd 20.10 answers with on a host like this one, but for what later versions removed
# (KernelMemory, KernelMemoryTCP, BridgeNf*), and what the later command line reads on top.
_INFO_KEYS = """
    ID Containers ContainersRunning ContainersPaused ContainersStopped Images Driver DriverStatus Plugins MemoryLimit
    SwapLimit CpuCfsPeriod CpuCfsQuota CPUShares CPUSet PidsLimit IPv4Forwarding Debug NFd OomKillDisable NGoroutines
    SystemTime LoggingDriver CgroupDriver CgroupVersion NEventsListener KernelVersion OperatingSystem OSVersion OSType
    Architecture IndexServerAddress RegistryConfig NCPU MemTotal GenericResources DockerRootDir HttpProxy HttpsProxy
    NoProxy Name Labels ExperimentalBuild ServerVersion Runtimes DefaultRuntime Swarm LiveRestoreEnabled Isolation
    InitBinary ContainerdCommit RuncCommit InitCommit SecurityOptions Warnings ProductLicense DefaultAddressPools
    Drivers Config
""".split()


class Listing:
    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = list(objects)

    async def list(self, **_: object) -> list[dict[str, Any]]:
        return self.objects

    def layers_size(self) -> int:
        return 130

    async def usage(self) -> list[dict[str, Any]]:
        return self.objects

    def drivers(self) -> list[str]:
        return []


class Cached:
    """What builds remember."""

    def usage(self) -> list[dict[str, Any]]:
        return [{"ID": "k", "Size": 0, "InUse": True, "Shared": True}]


class Held:
    """What storage drivers hold."""

    async def usage(self) -> list[DriverUsage]:
        return [DriverUsage("overlay", 3, 1, 4096)]


def service(tmp_path: Path, containers: Listing | None = None, images: Listing | None = None) -> SystemService:
    file = tmp_path / "pyd.toml"
    file.write_text(
        f'data-root = "{tmp_path}"\nlabels = ["rack=7"]\n'
        '[registry]\ninsecure = ["10.0.0.0/8", "r.example:5000"]\nmirrors = ["https://m.example"]\n'
    )
    configuration: Configuration = load(file, environ={})
    composition = Composition(logging.getLogger("pyd.test"))
    composition.report = (
        DriverReport("storage", "overlay", "pyd-storage-overlay", "1.2", "ready", "", ("layer-targets",), True),
        DriverReport("storage", "btrfs", "pyd-storage-btrfs", "0.1", "declined", "not on btrfs"),
        DriverReport("plugins", "bad", "pyd-bad", "3", "failed", "boom"),
    )
    return SystemService(
        configuration,
        composition,
        EventBus(None),
        cast("Any", containers or Listing()),
        cast("Any", images or Listing()),
        cast("Any", Listing()),
        cast("Any", Held()),
        cast("Any", Cached()),
        engine_id=str(uuid.UUID(int=1)),
        runtimes=RuntimeTable({"namespaces": cast("Any", object())}, "namespaces"),
    )


def test_info_has_every_key_that_clients_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@proxy.example:3128")
    containers = Listing(*({"State": state} for state in ("running", "running", "paused", "exited", "created")))
    info = asyncio.run(service(tmp_path, containers, Listing({}, {})).info())
    assert set(_INFO_KEYS) <= set(info)
    assert json.loads(json.dumps(info)) == info
    counts = {key: info[key] for key in _INFO_KEYS if key.startswith(("Containers", "Images"))}
    assert counts == {
        "Containers": 5,
        "ContainersRunning": 2,
        "ContainersPaused": 1,
        "ContainersStopped": 2,
        "Images": 2,
    }
    assert info["Labels"] == ["rack=7"]
    assert info["HttpProxy"] == "http://xxxxx:xxxxx@proxy.example:3128"
    registry = info["RegistryConfig"]
    assert registry["InsecureRegistryCIDRs"] == ["10.0.0.0/8"]
    assert registry["IndexConfigs"]["r.example:5000"]["Secure"] is False
    assert registry["IndexConfigs"]["docker.io"]["Mirrors"] == ["https://m.example"]


def test_info_shows_the_composition_report_and_the_settings(tmp_path: Path) -> None:
    info = asyncio.run(service(tmp_path).info())
    declined = info["Drivers"][1]
    assert (declined["Name"], declined["State"], declined["Reason"]) == ("btrfs", "declined", "not on btrfs")
    assert {"Key": "labels", "Value": '["rack=7"]', "Origin": f"file {tmp_path}/pyd.toml"} in info["Config"]
    assert any("plugins driver bad failed: boom" in warning for warning in info["Warnings"])


def test_version_names_the_engine_and_the_drivers_in_use(tmp_path: Path) -> None:
    version = asyncio.run(service(tmp_path).version())
    assert (version["Version"], version["ApiVersion"], version["MinAPIVersion"]) == (VERSION, API_VERSION, "1.24")
    names = [(each["Name"], each["Version"]) for each in version["Components"]]
    assert names == [("Engine", VERSION), ("pyd-storage-overlay", "1.2")]


def test_disk_usage_counts_shared_layers_once_and_leaves_out_what_was_not_asked_for(tmp_path: Path) -> None:
    images = Listing({"Size": 100, "SharedSize": 60}, {"Size": 90, "SharedSize": 60})
    system = service(tmp_path, Listing({"Id": "c"}), images)
    whole = asyncio.run(system.disk_usage(frozenset({"container", "image", "volume", "build-cache"})))
    assert whole["LayersSize"] == 130
    assert (whole["Containers"], whole["Volumes"], whole["BuildCache"]) == ([{"Id": "c"}], [], Cached().usage())
    assert whole["StorageDrivers"] == [{"Driver": "overlay", "Layers": 3, "Containers": 1, "Size": 4096}]
    assert set(asyncio.run(system.disk_usage(frozenset({"volume"})))) == {"Volumes"}


@pytest.mark.docker
def test_the_docker_command_line_prints_info_and_version(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker command line")
    from aiohttp import web

    from pyd_daemon.app import Api, make_runner

    async def ask() -> tuple[str, str]:
        backends = Backends(
            system=service(tmp_path),
            **dict.fromkeys(("events", "containers", "images", "networks", "volumes", "builds")),
        )
        runner = await make_runner(Api(backends, VERSION))
        await web.UnixSite(runner, str(tmp_path / "s")).start()
        try:
            return tuple([await asyncio.to_thread(_run, docker, tmp_path / "s", word) for word in ("info", "version")])
        finally:
            await runner.cleanup()

    info, version = asyncio.run(ask())
    for line in ("Server Version: " + VERSION, "Storage Driver: overlay", "Cgroup Driver: cgroupfs", "rack=7"):
        assert line in info
    assert "pyd-storage-overlay" in version


def _run(docker: str, path: Path, word: str) -> str:
    command = [docker, "-H", f"unix://{path}", word]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env={"HOME": str(path.parent)})
    assert done.returncode == 0, done.stderr
    return done.stdout
