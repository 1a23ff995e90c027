"""Plugins that listen to events: one worker thread, one event after the other, every plugin on its own.

The hooks are on one shared manager (they are 1:N), but are called one by one: `pluggy` ends a 1:N call at the first
error, and an error in one plugin must keep no other from being called (EVT-2).
"""

from __future__ import annotations

import collections
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

import pluggy

from pyd_contracts.events import EngineEvents
from pyd_contracts.markers import PROJECT
from pyd_contracts.values import Event
from pyd_engine.composition.relay import hooks_of, implementations, parameters_of

__all__ = ["EVENT_HOOKS", "Listeners", "listener_faults"]

EVENT_HOOKS = hooks_of(EngineEvents)
_BOUND = 10_000
_DRAIN = 5.0


def listener_faults(plugin: object) -> list[str]:
    """What is wrong with a plugin's event hooks."""
    faults = []
    for hook, function in implementations(plugin).items():
        if hook not in EVENT_HOOKS:
            continue
        options = getattr(function, f"{PROJECT}_impl")
        if options.get("wrapper") or options.get("hookwrapper"):
            faults.append(f"{hook}: event hooks are listened to, not wrapped")
        elif inspect.iscoroutinefunction(function):
            faults.append(f"{hook}: is async; hooks are synchronous")
        elif unknown := [name for name in parameters_of(function) if name not in EVENT_HOOKS[hook]]:
            faults.append(f"{hook}: unknown parameters {', '.join(unknown)}")
    return faults


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        return super().parse_hookimpl_opts(plugin, name) if name in EVENT_HOOKS else None


class Listeners:
    """The plugins that listen.

    Publishing never waits for them: beyond 10,000 events the oldest unheard are dropped, and the log says how many.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._manager = _Manager(PROJECT)
        self._manager.add_hookspecs(EngineEvents)
        self._waiting: collections.deque[Event] = collections.deque()
        self._changed = threading.Condition()
        self._dropped = 0
        self._closing = False
        self._thread: threading.Thread | None = None

    def add(self, plugin: object, name: str) -> None:
        """Let *plugin* hear all events from now on."""
        self._manager.register(plugin, name=name)

    def publish(self, event: Event) -> None:
        """Hand an event to the worker thread; from any thread."""
        if not self._manager.hook.event_published.get_hookimpls():
            return
        with self._changed:
            if self._closing:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pyd-events", daemon=True)
                self._thread.start()
            if len(self._waiting) >= _BOUND:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(event)
            self._changed.notify()

    def close(self, seconds: float = _DRAIN) -> None:
        """Deliver what waits, for at most so many seconds, then close every plugin, the last one loaded first."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                self._log.warning("a plugin still works on an event after %.0f s; it is left behind", seconds)
        self._each("plugin_close", {})

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._closing:
                        return
                    self._changed.wait()
                event = self._waiting.popleft()
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._log.error("plugins were too slow: %d events were not delivered to them", dropped)
            self._each("event_published", {"event": event})

    def _each(self, hook: str, arguments: dict[str, object]) -> None:
        caller = getattr(self._manager.hook, hook)
        for implementation in reversed(caller.get_hookimpls()):  # as pluggy does: the last one registered first
            function: Callable[..., object] = implementation.function
            try:
                function(*(arguments[name] for name in implementation.argnames))
            except (Exception, SystemExit):  # noqa: BLE001 - foreign code; logged with its traceback
                self._log.exception("plugin %r: %s", implementation.plugin_name, hook)
