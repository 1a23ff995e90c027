"""What is said between the daemon and the process that delivers: one JSON object a line.

To it::

    {"op": "follow", "order": …}         deliver from now on, or deliver otherwise
    {"op": "forget", "container": id}    stop; answered with {"forgotten": id} when no file is open any more

From it::

    {"done": id, "turn": n}              that order said that the container has ended, and all of it is with the sink
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyd_contracts.values import LogSource

__all__ = ["Order", "read", "written"]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be delivered.

    directory  the spool
    most       beyond so many bytes the oldest that were not delivered are left out (``mode=non-blocking``); 0: none is
    ended      no run writes any more: deliver what there is, then let go
    discard    remove the directory afterwards: the container is gone
    turn       which order of the container this is
    """

    driver: str
    source: LogSource
    directory: str
    most: int = 0
    ended: bool = False
    discard: bool = False
    turn: int = 0


def written(order: Order) -> dict[str, Any]:
    """An order for JSON."""
    document = asdict(order)
    document["source"]["place"] = os.fspath(order.source.place)
    return document


def read(document: dict[str, Any]) -> Order:
    """What `written` wrote."""
    source = dict(document["source"])
    for key in ("command", "env"):
        source[key] = tuple(source[key])
    source["place"] = Path(source["place"])
    return Order(**{**document, "source": LogSource(**source)})
