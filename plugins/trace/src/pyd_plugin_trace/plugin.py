"""The entry point `trace` in the group `pyd.plugin.v1`."""

from __future__ import annotations

from pyd_contracts import DriverContext
from pyd_plugin_trace.tracer import tracer

__all__ = ["create"]


def create(context: DriverContext) -> object:
    """The tracer, writing to the plugin's own logger; it takes no settings."""
    return tracer(context.log)
