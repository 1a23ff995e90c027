"""The entry point: reads settings, makes the backend."""

from __future__ import annotations

from pyd_contracts import DriverContext, Setting, settings
from pyd_isolation_namespaces.driver import NamespacesBackend
from pyd_shim.settings import REALTIME, realtime

__all__ = ["create"]


@settings(
    Setting(
        "cgroup-parent", str, "", "the cgroup below which containers' groups are made; empty: /pyd, or /pyd-<instance>"
    ),
    *REALTIME,
)
def create(context: DriverContext) -> NamespacesBackend:
    """Make the backend. Raises Declined where namespaces or control groups cannot be had."""
    default = "/pyd" if context.instance == "00000000" else f"/pyd-{context.instance}"
    return NamespacesBackend(
        context.run, context.log, cgroup_parent=context.settings.get("cgroup-parent") or default,
        realtime=realtime(context.settings),
    )  # fmt: skip
