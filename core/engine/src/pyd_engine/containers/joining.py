"""Namespaces that a container shares with another one: the ``container:ID`` modes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pyd_contracts.errors import Conflict, InvalidArgument
from pyd_engine.containers.container import Container
from pyd_engine.containers.store import ContainerStore

__all__ = ["companion", "joined", "remapped", "with_users", "without_users"]


def joined(store: ContainerStore, container: Container) -> dict[str, Path]:
    """Namespace files of the containers that ``container:ID`` modes name."""
    host = container.host_config
    modes = {"network": host.network_mode, "ipc": host.ipc_mode, "pid": host.pid_mode}
    found = {}
    for kind, mode in modes.items():
        if mode.startswith("container:"):
            other = store.get(mode.partition(":")[2])
            if not other.state.phase.alive:
                what = kind if kind == "network" else kind.upper()
                raise Conflict(f"cannot join {what} of a non running container: {other.id}")
            if kind == "ipc" and other.host_config.ipc_mode in ("none", "private"):
                raise InvalidArgument(
                    f"can't join IPC of container {other.id}: non-shareable IPC (hint: use IpcMode:shareable for the "
                    "donor container)"
                )
            found[kind] = Path(f"/proc/{other.state.pid}/ns/{'net' if kind == 'network' else kind}")
            if remapped(other.state.pid):  # its namespaces belong to it: who joins one must be in it
                found["user"] = Path(f"/proc/{other.state.pid}/ns/user")
    return found


def without_users(joined: Mapping[str, Path]) -> Mapping[str, Path]:
    """For a container with the host's ids, which may join any namespace as the host's root may: not the user namespace that
    it belongs to."""
    return {kind: path for kind, path in joined.items() if kind != "user"}


def with_users(joined: Mapping[str, Path]) -> Mapping[str, Path]:
    """For a container with a user namespace: those it joins must belong to one, which it joins, too. Raises InvalidArgument."""
    if joined and "user" not in joined:
        kinds = ", ".join(sorted(joined))
        raise InvalidArgument(
            f"cannot join the {kinds} namespace of a container without user namespace: run this one with --userns=host, too"
        )
    return joined


def remapped(pid: int) -> bool:
    """Whether a process has a user namespace of its own."""
    try:
        return os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
    except OSError:
        return False  # it has ended


def companion(store: ContainerStore, container: Container) -> Container | None:
    """The container whose network this one shares; None when it shares none."""
    kind, colon, ref = container.host_config.network_mode.partition(":")
    return store.get(ref) if colon and kind == "container" else None
