"""The isolation backend: containers that an installed OCI runtime builds, each owned by a shim forked from a warm zygote.

The runtime builds the container, lets it start, runs further processes in it, and takes down what it built. What holds streams,
exit status and signals is the shim, as with every backend on shims; freezing, limits and figures go through the control groups.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyd_contracts import hookimpl
from pyd_contracts.errors import DriverFault, InvalidArgument
from pyd_contracts.values import Execution, Sandbox
from pyd_isolation_oci import document
from pyd_isolation_oci.commands import FILES, delete_arguments, prefix
from pyd_isolation_oci.runtimes import Runtime
from pyd_shim import documents, idmaps
from pyd_shim.backend import ShimBackend
from pyd_shim.mappings import owner
from pyd_shim.plans import stdio

__all__ = ["OciBackend"]

_LAUNCHER = "pyd_isolation_oci.launcher"
_DELETE_SECONDS = 30.0


class OciBackend(ShimBackend):
    """IsolationBackend on OCI runtimes. *runtimes* has them by name; *default* is the one of containers that name none,
    empty: the first. ``users`` is among its capabilities where this host can make user namespaces."""

    capabilities = frozenset({*ShimBackend.capabilities, "runtimes"})

    def __init__(
        self, run: Path, log: logging.Logger, runtimes: Mapping[str, Runtime], *, default: str = "",
        cgroup_parent: str = "/pyd", realtime: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        if default and default not in runtimes:
            raise InvalidArgument(f"[isolation.oci] default: no runtime {default!r}; there are: {', '.join(runtimes)}")
        first = default or next(iter(runtimes))
        self._runtimes = {first: runtimes[first], **runtimes}
        self._states = run / "runtimes"
        self._states.mkdir(mode=0o700, exist_ok=True)
        super().__init__(run, log, cgroup_parent=cgroup_parent, launcher=_LAUNCHER, realtime=realtime)
        if not idmaps.unavailable():
            self.capabilities = frozenset({*self.capabilities, "users"})

    @hookimpl
    def isolation_runtimes(self) -> Mapping[str, str]:
        """Names and programs, the default first."""
        return {name: runtime.path for name, runtime in self._runtimes.items()}

    def describe(self, container: str, sandbox: Sandbox) -> dict[str, Any]:
        """The plan of a container: the checked document, and how to call the runtime."""
        runtime = self._runtimes.get(sandbox.runtime) if sandbox.runtime else next(iter(self._runtimes.values()))
        if runtime is None:
            raise InvalidArgument(f"unknown or invalid runtime name: {sandbox.runtime}")
        linux = sandbox.spec.get("linux")
        wanted = linux.get("cgroupsPath") if isinstance(linux, Mapping) else ""
        cgroups_path, group = document.groups_path(
            str(wanted or f"{self._cgroup_parent}/{container}"), container, systemd=runtime.systemd
        )
        spec = document.build(sandbox, self._own_capabilities, cgroups_path)
        call = prefix(runtime.path, str(self._states / runtime.name), str(sandbox.bundle), runtime.options)
        network = next(
            (each.get("path", "") for each in spec["linux"]["namespaces"] if each["type"] == "network"), None
        )
        maps = document.ids(spec["linux"], spec["linux"]["namespaces"])
        users, groups = maps.get("uidMappings", []), maps.get("gidMappings", [])
        root = owner(users, groups) if maps else None
        return {
            "id": container,
            "call": call,
            "network": network,
            "remapped": bool(maps),
            "own_pids": {"type": "pid"} in spec["linux"]["namespaces"],
            "root": spec["root"]["path"],
            "cgroup": {"layout": self._layout, "path": group},
            "program": spec["process"]["args"][0],
            "stdio": stdio(sandbox.stdio),
            "record": {"call": call, "owner": root},
            "build": {
                "kind": "create",
                "id": container,
                "call": call,
                "bundle": str(sandbox.bundle),
                "network": network,
                "rootfs": documents.rootfs(sandbox.rootfs),
                # systemd makes the groups then, and knows which limits the host has.
                "cgroup": None if runtime.systemd else {"layout": self._layout, "path": group},
                "document": spec,
                "users": users,
                "groups": groups,
                "owner": root,
            },
        }

    def describe_exec(self, container: str, execution: Execution) -> dict[str, Any]:
        """The plan of a further process; the container's filter is the runtime's to set."""
        record = self._record(container)
        build = {
            "kind": "exec",
            "id": container,
            "call": record["call"],
            "bundle": record["bundle"],
            "process": document.process(execution.process, self._own_capabilities),
            "owner": record.get("owner"),
        }
        return {"stdio": stdio(execution.stdio), "build": build}

    def remove_rest(self, container: str, record: Mapping[str, Any]) -> None:
        """Have the runtime forget a container whose shim was killed before it could tell it to."""
        call = record["call"]
        if os.path.exists(f"{call[call.index('--root') + 1]}/{container}"):
            try:
                done = subprocess.run(
                    delete_arguments(call, container), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                    timeout=_DELETE_SECONDS,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired) as error:
                raise DriverFault(f"delete container {container[:12]} with {call[0]}: {error}") from error
            if done.returncode:
                raise DriverFault(f"delete container {container[:12]} with {call[0]}: {done.stderr.strip()}")
        for name in FILES:
            Path(f"{record['bundle']}/{name}").unlink(missing_ok=True)
