"""Hooks for plugins that listen, `pyd.plugin.v1`. All are 1:N: every plugin that implements one is called.

A plugin may also implement hooks of the driver contracts with ``@hookimpl(wrapper=True)``: those are put around every
driver of that kind (tracing, audit, fault injection, quotas).
"""

from __future__ import annotations

from typing import Protocol

from pyd_contracts.markers import hookspec
from pyd_contracts.values import Event

__all__ = ["GROUP", "EngineEvents"]

GROUP = "pyd.plugin.v1"


class EngineEvents(Protocol):
    """What the engine tells plugins. A plugin's error is logged under its name and never reaches the caller.

    EVT-1  Hooks are called in a worker thread, one event after the other, in the order in which things happened.
    EVT-2  An error in one plugin keeps no other plugin from being called.
    """

    @hookspec
    def event_published(self, event: Event) -> None:
        """Called once for each event that ``/events`` shows.

        EVT-10  The event is what a client of the API sees.
        """

    @hookspec
    def plugin_close(self) -> None:
        """Called once when the daemon stops, in reverse order of loading.

        EVT-15  Called also when another plugin's close failed.
        """
