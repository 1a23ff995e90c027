"""Which events a client asked for: the filters of ``/events``, as moby's daemon/events/filter.go reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyd_contracts.values import Event

__all__ = ["EventFilter"]

# Kinds of objects that may be named by a filter of the same name, by id, by the start of an id, or by name.
_NAMED = ("container", "daemon", "network", "node", "plugin", "secret", "service", "config", "volume")
# Actions that carry more after a colon ("exec_create: sh"): asked for by the word before it (moby #25798).
_LONG = frozenset({"health_status", "exec_create", "exec_start"})


class EventFilter:
    """A set of filters: all of them must fit, and of the values of one any one (of labels: every one).

    >>> event = Event("container", "start", "abc", {"image": "alpine:3", "name": "web", "tier": "1"}, 1)
    >>> EventFilter({"image": ["alpine"], "event": ["start", "die"]}).fits(event)
    True
    >>> EventFilter({"label": ["tier=2"]}).fits(event)
    False
    """

    def __init__(self, filters: Mapping[str, Sequence[str]] | None = None) -> None:
        self._filters = {name: tuple(values) for name, values in (filters or {}).items() if values}

    def fits(self, event: Event) -> bool:
        """Whether the client is to see this event."""
        if not self._filters:
            return True
        return (
            self._action(event)
            and self._exact("type", event.type)
            and self._exact("scope", "local")
            and self._image(event)
            and self._labels(event)
            and all(self._named(kind, event) for kind in _NAMED if kind in self._filters)
        )

    def _exact(self, name: str, *sources: str) -> bool:
        wanted = self._filters.get(name)
        return wanted is None or any(source in wanted for source in sources)

    def _fuzzy(self, name: str, *sources: str) -> bool:
        wanted = self._filters.get(name)
        return wanted is None or any(source.startswith(value) for source in sources for value in wanted)

    def _action(self, event: Event) -> bool:
        wanted = self._filters.get("event", ())
        if not wanted:
            return True
        if _LONG.intersection(wanted):
            return any(event.action.startswith(value) for value in wanted)
        return event.action in wanted

    def _named(self, kind: str, event: Event) -> bool:
        # Not only of events of this kind: a container's id is in the attributes of network events, but not as their
        # actor, and dockerd does not look there either.
        name = event.attributes.get("name")
        return self._fuzzy(kind, event.actor) if name is None else self._fuzzy(kind, event.actor, name)

    def _image(self, event: Event) -> bool:
        if "image" not in self._filters:
            return True
        name = event.attributes.get("name" if event.type == "image" else "image", "")
        return self._exact("image", event.actor, name, _untagged(event.actor), _untagged(name))

    def _labels(self, event: Event) -> bool:
        for wanted in self._filters.get("label", ()):
            key, has_value, value = wanted.partition("=")
            if key not in event.attributes or (has_value and event.attributes[key] != value):
                return False
        return True


def _untagged(reference: str) -> str:
    """A reference without tag and digest: ``host:5000/a:1`` is ``host:5000/a``."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]
