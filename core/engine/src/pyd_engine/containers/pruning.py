"""Which stopped containers ``docker container prune`` removes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.container import Container, Phase

__all__ = ["prunable"]

_PART = r"([0-9]+(?:\.[0-9]*)?)(ns|us|ms|s|m|h)"
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def prunable(containers: Iterable[Container], filters: Mapping[str, Sequence[str]]) -> list[Container]:
    """Created and exited containers that all filters agree on. Raises InvalidArgument for a bad ``until``."""
    if len(filters.get("until", ())) > 1:
        raise InvalidArgument("more than one until filter specified")
    until = min((_moment(value) for value in filters.get("until", ())), default=None)
    return [
        each
        for each in containers
        if each.state.phase in (Phase.CREATED, Phase.EXITED, Phase.DEAD)
        and (until is None or each.created_ns < until * 1e9)
        and all(_has(each, value) for value in filters.get("label", ()))
        and not any(_has(each, value) for value in filters.get("label!", ()))
    ]


def _has(container: Container, label: str) -> bool:
    key, equals, value = label.partition("=")
    labels = container.config.labels or {}
    return key in labels and (not equals or labels[key] == value)


def _moment(text: str) -> float:
    """Seconds since the epoch: a timestamp, a Go duration before now, or an RFC 3339 date."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if re.fullmatch(rf"({_PART})+", text):
        return time.time() - sum(float(n) * _UNITS[u] for n, u in re.findall(_PART, text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text[:80]}"') from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
