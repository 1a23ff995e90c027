"""What happened: kept, and told to whoever listens."""

from __future__ import annotations

from pyd_engine.events.bus import EventBus, Subscription
from pyd_engine.events.filters import EventFilter
from pyd_engine.events.wire import as_json

__all__ = ["EventBus", "EventFilter", "Subscription", "as_json"]
