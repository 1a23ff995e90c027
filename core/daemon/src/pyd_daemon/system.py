"""What the daemon says about itself and its host: the bodies of ``/info``, ``/version`` and ``/system/df``.

The shapes are those of Docker's SystemInfo, SystemVersion and SystemDataUsageResponse; every key that dockerd sends and
the docker command line prints is there. Two keys are pyd's own: ``Drivers``, the composition report, and ``Config``,
every setting with its value and origin.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pyd_daemon.backends import Builds, Containers, Images, Json
from pyd_daemon.config import Configuration
from pyd_daemon.host import Host
from pyd_daemon.volumes import VolumesFace
from pyd_engine.composition import Composition
from pyd_engine.containers.cdi import DIRECTORIES as CDI_DIRECTORIES
from pyd_engine.containers.runtimes import RuntimeTable
from pyd_engine.events.bus import EventBus
from pyd_engine.upkeep import Upkeep

__all__ = ["API_VERSION", "MIN_API_VERSION", "VERSION", "SystemService"]

VERSION = importlib.metadata.version("pyd-daemon")
API_VERSION = "1.56"
MIN_API_VERSION = "1.24"
_HUB = "https://index.docker.io/v1/"
_NO_COMMIT = {"ID": "", "Expected": ""}


class SystemService:
    """Satisfies `backends.System`."""

    def __init__(
        self,
        configuration: Configuration,
        composition: Composition,
        events: EventBus,
        containers: Containers,
        images: Images,
        volumes: VolumesFace,
        upkeep: Upkeep,
        builds: Builds,
        *,
        engine_id: str,
        runtimes: RuntimeTable,
        host: Host | None = None,
    ) -> None:
        self._configuration = configuration
        self._composition = composition
        self._events = events
        self._containers = containers
        self._runtimes = runtimes
        self._images = images
        self._volumes = volumes
        self._upkeep = upkeep
        self._builds = builds
        self._id = engine_id
        self._host = host or Host()

    async def version(self) -> Json:
        """``GET /version``; one component for the engine and one for each driver in use."""
        host = self._host
        details = {
            "ApiVersion": API_VERSION,
            "MinAPIVersion": MIN_API_VERSION,
            "GitCommit": "",
            "GoVersion": host.python,  # the key is the API's; what it is for is to tell what runs the daemon
            "Os": "linux",
            "Arch": host.architecture,
            "KernelVersion": host.kernel,
            "BuildTime": "",
        }
        engine = {"Name": "Engine", "Version": VERSION, "Details": {**details, "Experimental": "false"}}
        drivers = [
            {
                "Name": entry.distribution,
                "Version": entry.version,
                "Details": {"Kind": entry.kind, "Driver": entry.name, "Default": str(entry.default).lower()},
            }
            for entry in self._composition.report
            if entry.state == "ready"
        ]
        return {"Platform": {"Name": f"pyd {VERSION}"}, "Components": [engine, *drivers], "Version": VERSION, **details}

    async def info(self) -> Json:
        """``GET /info``."""
        summaries = await self._containers.list(all=True, limit=0, size=False, filters={})
        images = await self._images.list(all=True, filters={}, shared_size=False)
        states = Counter(str(each.get("State", "")) for each in summaries)
        running, paused = states["running"] + states["restarting"], states["paused"]
        return {
            "ID": self._id,
            "Containers": len(summaries),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": len(summaries) - running - paused,
            "Images": len(images),
            **self._drivers(),
            **self._resources(),
            **self._process(),
            **self._platform(),
            **self._registry(),
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "Error": "",
                "RemoteManagers": None,
            },
            "SecurityOptions": self._security(),
            "Warnings": self._warnings(),
            "Drivers": [
                {
                    key.title(): list(value) if isinstance(value, tuple) else value
                    for key, value in asdict(entry).items()
                }
                for entry in self._composition.report
            ],
            "Config": self._configuration.effective(),
        }

    async def disk_usage(self, kinds: frozenset[str]) -> Json:
        """``GET /system/df``: what images, containers, volumes and build caches hold.

        Keys of kinds that were not asked for are left out. LayersSize counts shared layers once. StorageDrivers is pyd's own:
        what each driver holds of images and containers.
        """
        found: Json = {}
        if "image" in kinds:
            images = await self._images.list(all=True, filters={}, shared_size=True)
            found |= {"LayersSize": self._images.layers_size(), "Images": images}
        if "container" in kinds:
            found["Containers"] = await self._containers.list(all=True, limit=0, size=True, filters={})
        if "volume" in kinds:
            found["Volumes"] = await self._volumes.usage()
        if "build-cache" in kinds:
            found |= {"BuildCache": self._builds.usage(), "BuilderSize": 0}
        if {"image", "container"} <= kinds:
            found["StorageDrivers"] = [
                {"Driver": each.driver, "Layers": each.layers, "Containers": each.containers, "Size": each.bytes}
                for each in await self._upkeep.usage()
            ]
        return found

    async def check(self, *, repair: bool) -> Json:
        """``POST /pyd/check``, pyd's own: counts, and findings with what was done about them."""
        report = await self._upkeep.check(repair=repair)
        findings = [
            {"What": each.what, "About": each.about, "Text": each.text, "Done": each.done} for each in report.findings
        ]
        return {
            "Clean": not findings,
            "Blobs": report.blobs,
            "Bytes": report.bytes,
            "Images": report.images,
            "Containers": report.containers,
            "Snapshots": report.snapshots,
            "Findings": findings,
        }

    # --- the parts of info -----------------------------------------------------------------------------------------

    def _drivers(self) -> Json:
        storage = self._configuration.default_storage
        relay = self._composition.storage.get(storage)
        status = [["Backing Filesystem", self._host.file_system(self._configuration.data_root)]]
        if relay is not None and relay.capabilities:
            status.append(["Capabilities", " ".join(sorted(relay.capabilities))])
        status.append(["Available Drivers", " ".join(sorted(self._composition.storage))])
        return {
            "Driver": storage,
            "DriverStatus": status,
            "Plugins": {
                "Volume": list(self._volumes.drivers()),
                "Network": sorted("null" if name == "none" else name for name in self._composition.network),
                "Authorization": None,
                "Log": sorted(name for name in self._composition.logging if name != "none"),
            },
            "LoggingDriver": self._configuration.default_logging,
            "Runtimes": self._runtimes.described(),
            "DefaultRuntime": self._runtimes.default,
            "Isolation": "",
            "InitBinary": "",
            "ContainerdCommit": _NO_COMMIT,
            "RuncCommit": _NO_COMMIT,
            "InitCommit": _NO_COMMIT,
        }

    def _resources(self) -> Json:
        have = self._host.cgroups
        return {
            "MemoryLimit": have.memory,
            "SwapLimit": have.swap,
            "CpuCfsPeriod": have.cpu_quota,
            "CpuCfsQuota": have.cpu_quota,
            "CPUShares": have.cpu_shares,
            "CPUSet": have.cpuset,
            "PidsLimit": have.pids,
            "OomKillDisable": have.oom_disable,
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": str(have.version),
            "NCPU": self._host.processors,
            "MemTotal": self._host.memory_bytes,
            "GenericResources": None,
        }

    def _process(self) -> Json:
        now = time.time_ns()
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        return {
            "Debug": self._configuration.log_level == "debug",
            "NFd": self._host.descriptors,
            "NGoroutines": len(asyncio.all_tasks()) + threading.active_count(),
            "NEventsListener": self._events.listening,
            "SystemTime": f"{whole}.{now % 10**9:09d}Z",
            "DockerRootDir": str(self._configuration.data_root),
            "Labels": list(self._configuration.labels),
            "ExperimentalBuild": False,
            "ServerVersion": VERSION,
            "LiveRestoreEnabled": True,
            "ProductLicense": "",
        }

    def _platform(self) -> Json:
        host = self._host
        return {
            "KernelVersion": host.kernel,
            "OperatingSystem": host.release.get("PRETTY_NAME", "Linux"),
            "OSVersion": host.release.get("VERSION_ID", ""),
            "OSType": "linux",
            "Architecture": host.machine,
            "Name": host.name,
            "IPv4Forwarding": host.ipv4_forwarding,
            "HttpProxy": _proxy(os.environ, "HTTP_PROXY"),
            "HttpsProxy": _proxy(os.environ, "HTTPS_PROXY"),
            "NoProxy": _proxy(os.environ, "NO_PROXY"),
            "DefaultAddressPools": [
                {"Base": str(pool.base), "Size": pool.size} for pool in self._configuration.address_pools
            ],
            "CDISpecDirs": [str(each) for each in CDI_DIRECTORIES],
        }

    def _registry(self) -> Json:
        insecure = self._configuration.insecure_registries
        mirrors = list(self._configuration.mirrors)
        ranges = [each for each in insecure if re.fullmatch(r"[0-9a-fA-F.:]+/[0-9]{1,3}", each)]
        indexes = {
            name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
            for name in insecure
            if name not in ranges
        }
        hub = {"Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True}
        return {
            "IndexServerAddress": _HUB,
            "RegistryConfig": {
                "InsecureRegistryCIDRs": ranges,
                "IndexConfigs": {"docker.io": hub, **indexes},
                "Mirrors": mirrors,
            },
        }

    def _security(self) -> list[str]:
        options = []
        if self._host.seccomp:
            options.append("name=seccomp,profile=builtin")
        if self._host.cgroup_namespaces and self._host.cgroups.version == 2:
            options.append("name=cgroupns")
        if self._configuration.userns_remap:
            options.append("name=userns")
        return options

    def _warnings(self) -> list[str]:
        warnings = self._host.warnings()
        for text in self._configuration.values["hosts"].raw:
            if text.startswith("tcp://"):
                warnings.append(
                    f"WARNING: API is accessible on {text} without TLS: every user of this host can be root"
                )
        for entry in self._composition.report:
            if entry.state == "failed":
                warnings.append(f"WARNING: {entry.kind} driver {entry.name} failed: {entry.reason}")
        return warnings


def _proxy(environ: Mapping[str, str], name: str) -> str:
    """A proxy's address without the password it may hold."""
    value: Any = environ.get(name) or environ.get(name.lower()) or ""
    return re.sub(r"//[^@/]*@", "//xxxxx:xxxxx@", str(value))
