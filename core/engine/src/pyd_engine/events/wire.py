"""The shape of an event in the Docker Engine API (``EventMessage``)."""

from __future__ import annotations

from typing import Any

from pyd_contracts.values import Event

__all__ = ["as_json"]


def as_json(event: Event) -> dict[str, Any]:
    """The event as ``/events`` sends it.

    ``status``, ``id`` and ``from`` are from before API 1.22; old clients still read them, and dockerd sends them for
    containers and images only.

    >>> as_json(Event("volume", "create", "v", {"driver": "local"}, 1_500_000_000_000_000_001))["time"]
    1500000000
    """
    message: dict[str, Any] = {}
    if event.type in {"container", "image"}:
        message |= {"status": event.action, "id": event.actor}
        if event.type == "container" and "image" in event.attributes:
            message["from"] = event.attributes["image"]
    return message | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor, "Attributes": dict(event.attributes)},
        "scope": "local",
        "time": event.time_ns // 1_000_000_000,
        "timeNano": event.time_ns,
    }
