"""The isolation backend: containers as processes in namespaces, each owned by a shim forked from a warm zygote."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Execution, Sandbox
from pyd_isolation_namespaces import plan
from pyd_isolation_namespaces.seccomp import ProfileError, compile_filter
from pyd_shim import idmaps
from pyd_shim.backend import ShimBackend

__all__ = ["NamespacesBackend"]

_LAUNCHER = "pyd_isolation_namespaces.launcher"
_RECENT = 64


class NamespacesBackend(ShimBackend):
    """IsolationBackend on Linux namespaces. ``users`` is among its capabilities where this host can make user namespaces."""

    def __init__(
        self, run: Path, log: logging.Logger, *, cgroup_parent: str = "/pyd", realtime: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(run, log, cgroup_parent=cgroup_parent, launcher=_LAUNCHER, realtime=realtime)
        self._no_users = idmaps.unavailable()
        self.capabilities = ShimBackend.capabilities | {"propagation"} | (set() if self._no_users else {"users"})
        self._filters: dict[bytes, bytes] = {}
        self._recent: dict[int, tuple[Mapping[str, Any], bytes]] = {}

    def describe(self, container: str, sandbox: Sandbox) -> dict[str, Any]:
        """The plan of a container."""
        return plan.build(
            container, sandbox, self._layout, self._own_capabilities, self._compile,
            f"{self._cgroup_parent}/{container}", no_users=self._no_users,
        )  # fmt: skip

    def describe_exec(self, container: str, execution: Execution) -> dict[str, Any]:
        """The plan of a further process."""
        return plan.build_exec(container, execution, self._own_capabilities, self._compile)

    def _compile(self, profile: Mapping[str, Any]) -> bytes:
        """BPF of a profile. Profiles come again and again: known by identity at once, by content after hashing."""
        with self._lock:
            known = self._recent.get(id(profile))
        if known is not None and known[0] is profile:
            return known[1]
        key = hashlib.sha256(json.dumps(profile, sort_keys=True).encode()).digest()
        if key not in self._filters:
            try:
                self._filters[key] = compile_filter(profile, os.uname().machine)
            except ProfileError as error:
                raise InvalidArgument(str(error)) from error
        with self._lock:
            if len(self._recent) >= _RECENT:
                self._recent.clear()
            self._recent[id(profile)] = (profile, self._filters[key])  # held, so that its id stays its own
        return self._filters[key]
