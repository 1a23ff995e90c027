"""The entry point: reads settings, finds runtimes, makes the backend."""

from __future__ import annotations

import shutil

from pyd_contracts import DriverContext, Setting, settings
from pyd_isolation_oci import runtimes
from pyd_isolation_oci.driver import OciBackend
from pyd_shim.settings import REALTIME, realtime

__all__ = ["create"]


@settings(
    Setting(
        "runtimes", dict, {},
        'runtimes by name, each a table: path = "/usr/bin/crun", options = ["--systemd-cgroup"]; none: runc and crun, where '
        "they are installed",
    ),
    Setting("default", str, "", "the runtime of containers that name none; empty: the first"),
    Setting(
        "cgroup-parent", str, "", "the cgroup below which containers' groups are made; empty: /pyd, or /pyd-<instance>"
    ),
    *REALTIME,
)  # fmt: skip
def create(context: DriverContext) -> OciBackend:
    """Make the backend. Raises Declined where no runtime is installed, or control groups cannot be had."""
    found = runtimes.find(context.settings.get("runtimes") or {})
    for name in runtimes.KNOWN:
        if not context.settings.get("runtimes") and (why := runtimes.obstacle(name)) and shutil.which(name):
            context.log.warning("runtime %s is left out: %s", name, why)
    parent = "/pyd" if context.instance == "00000000" else f"/pyd-{context.instance}"
    return OciBackend(
        context.run, context.log, found, default=context.settings.get("default") or "",
        cgroup_parent=context.settings.get("cgroup-parent") or parent, realtime=realtime(context.settings),
    )  # fmt: skip
