"""Settings that every isolation backend on shims has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyd_contracts import Setting
from pyd_contracts.errors import InvalidArgument

__all__ = ["REALTIME", "realtime"]

REALTIME = (
    Setting(
        "cpu-rt-runtime", int, 0,
        "microseconds of real-time a period that the groups above containers get (cgroup v1); containers' --cpu-rt-runtime "
        "comes out of it; 0: none is given",
    ),
    Setting("cpu-rt-period", int, 0, "that period, in microseconds; 0: the kernel's, a second"),
)  # fmt: skip


def realtime(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Both, as `ShimBackend` takes them. Raises InvalidArgument."""
    runtime, period = (int(settings.get(name) or 0) for name in ("cpu-rt-runtime", "cpu-rt-period"))
    if runtime < 0 or period < 0 or runtime > (period or 1_000_000):
        raise InvalidArgument(
            f"cpu-rt-runtime = {runtime}: must be between 0 and cpu-rt-period ({period or 1_000_000})"
        )
    return runtime, period
