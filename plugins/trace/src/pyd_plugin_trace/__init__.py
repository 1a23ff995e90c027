"""Plugin: logs every driver call with its time."""

from __future__ import annotations

from pyd_plugin_trace.tracer import tracer

__all__ = ["tracer"]
