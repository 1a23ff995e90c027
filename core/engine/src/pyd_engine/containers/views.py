"""One container as the Docker Engine API shows it: ContainerInspectResponse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyd_engine.containers import ports
from pyd_engine.containers.connector import Connector
from pyd_engine.containers.container import Container, Health, Phase
from pyd_engine.containers.links import Links
from pyd_engine.containers.records import shown
from pyd_engine.containers.runner import Runner
from pyd_engine.logs.reader import rfc3339nano

__all__ = ["Views"]

_NEVER = "0001-01-01T00:00:00Z"


class Views:
    """Builds what inspect answers."""

    def __init__(self, runner: Runner, networks: Connector, links: Links) -> None:
        self._links = links
        self._runner = runner
        self._networks = networks

    def inspect(self, container: Container, execs: list[str], sizes: tuple[int, int] | None) -> dict[str, Any]:
        """*sizes* are the bytes of the writable layer and of all layers, where they were asked for."""
        directory = self._runner.directory(container.id)
        document = {
            "Id": container.id,
            "Created": rfc3339nano(container.created_ns),
            "Path": container.path,
            "Args": list(container.args),
            "State": self._state(container),
            "Image": container.image,
            "ResolvConfPath": str(directory / "resolv.conf"),
            "HostnamePath": str(directory / "hostname"),
            "HostsPath": str(directory / "hosts"),
            "LogPath": self._runner.delivery.path(container),
            "Name": f"/{container.name}",
            "RestartCount": container.restart_count,
            "Driver": container.storage,
            "Platform": container.platform,
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": execs or None,
            "HostConfig": shown(container.host_config) | {"Links": self._links.shown(container)},
            "GraphDriver": {"Name": container.storage, "Data": {}},
            "Mounts": self._runner.mounts.points(container),
            "Config": self._config(container),
            "NetworkSettings": self._network_settings(container),
        }
        if (delivery := self._runner.delivery.state(container)) is not None:
            document["LogDelivery"] = delivery
        if sizes is not None:
            document["SizeRw"], document["SizeRootFs"] = sizes
        return document

    @staticmethod
    def _state(container: Container) -> dict[str, Any]:
        state = container.state
        phase = container.shown_phase
        restarting = phase == Phase.RESTARTING.value
        health = {} if container.health is None else {"Health": _health(container.health)}
        return {
            **health,
            "Status": phase,
            "Running": state.phase.alive or restarting,
            "Paused": state.phase is Phase.PAUSED,
            "Restarting": restarting,
            "OOMKilled": state.oom_killed,
            "Dead": state.phase is Phase.DEAD,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": rfc3339nano(state.started_ns) if state.started_ns else _NEVER,
            "FinishedAt": rfc3339nano(state.finished_ns) if state.finished_ns else _NEVER,
        }

    @staticmethod
    def _config(container: Container) -> dict[str, Any]:
        config = shown(container.config)
        config["Hostname"] = config.get("Hostname") or container.short
        config["Image"] = container.image_ref
        return config

    def _network_settings(self, container: Container) -> dict[str, Any]:
        networks = self._networks.shown(container)
        default: Mapping[str, Any] = networks.get("bridge") or {}
        return {
            "Bridge": "",
            "SandboxID": container.id if container.state.phase.alive else "",
            "SandboxKey": f"/proc/{container.state.pid}/ns/net" if container.state.phase.alive else "",
            "Ports": ports.bound(container, self._networks.published(container))
            if container.state.phase.alive and self._networks.publishes(container)
            else {},
            "HairpinMode": False,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": None,
            "SecondaryIPv6Addresses": None,
            "EndpointID": default.get("EndpointID", ""),
            "Gateway": default.get("Gateway", ""),
            "GlobalIPv6Address": default.get("GlobalIPv6Address", ""),
            "GlobalIPv6PrefixLen": default.get("GlobalIPv6PrefixLen", 0),
            "IPAddress": default.get("IPAddress", ""),
            "IPPrefixLen": default.get("IPPrefixLen", 0),
            "IPv6Gateway": default.get("IPv6Gateway", ""),
            "MacAddress": default.get("MacAddress", ""),
            "Networks": networks,
        }


def _health(health: Health) -> dict[str, Any]:
    log = [
        {
            "Start": rfc3339nano(each.start_ns), "End": rfc3339nano(each.end_ns), "ExitCode": each.exit_code,
            "Output": each.output,
        }
        for each in health.log
    ]  # fmt: skip
    return {"Status": health.status, "FailingStreak": health.failing_streak, "Log": log}
