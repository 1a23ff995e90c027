"""The process that delivers what containers write to log drivers: ``python -m pyd_daemon.delivery``, run by the daemon.

Standard input is a unix socket (`pyd_engine.logs.orders`). The first line says who we are: roots, the daemon's instance, the
selection of log drivers, how to log. Ends with the daemon: output written from then on waits in the spools. A lock keeps two
of these, of a daemon that was killed and of the next one, from delivering at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyd_daemon import logs
from pyd_daemon.config import Configuration
from pyd_engine.composition import LOGGING, Choice, Selection, compose
from pyd_engine.logs import orders
from pyd_engine.logs.deliveries import Deliveries

__all__ = ["COMMAND", "hello", "main"]

COMMAND = (sys.executable, "-I", "-B", "-m", "pyd_daemon.delivery")
_NICE = 10
"""Behind what containers and the daemon do: output waits in the spool, and requests do not. A tenth of the others' share."""


def hello(configuration: Configuration, instance: str) -> dict[str, Any]:
    """The first line."""
    return {
        "data": os.fspath(configuration.data_root),
        "run": os.fspath(configuration.run_root),
        "instance": instance,
        "level": configuration.log_level,
        "format": configuration.log_format,
        "choice": asdict(configuration.selection().logging),
    }


class _Answers:
    """Lines to the daemon, whole, from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def say(self, **words: Any) -> None:
        with self._lock, contextlib.suppress(OSError):  # the daemon is gone: so are we, soon
            self._connection.sendall(json.dumps(words).encode() + b"\n")


def main() -> None:
    """Deliver until the daemon ends."""
    connection = socket.socket(fileno=0)
    lines = connection.makefile("rb")
    first = lines.readline()
    if not first:
        return
    words = json.loads(first)
    log = logs.set_up(words["level"], words["format"])
    _stand_back()
    lock = os.open(f"{words['run']}/logging.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    drivers = log.getChild("delivery.drivers")
    drivers.setLevel(logging.WARNING)  # which ones decline, the daemon has said
    composition = compose(
        Selection(logging=_choice(words["choice"])), Path(words["data"]), Path(words["run"]), words["instance"],
        drivers, slots=(LOGGING,),
    )  # fmt: skip
    answers = _Answers(connection)
    deliveries = Deliveries(
        {name: relay.call for name, relay in composition.logging.items()},
        log.getChild("delivery"),
        lambda container, turn: answers.say(done=container, turn=turn),
    )
    for line in lines:
        _do(json.loads(line), deliveries, answers)
    deliveries.close()
    composition.close()
    logging.shutdown()
    os._exit(0)  # a driver that hangs in a thread holds nobody up


def _stand_back() -> None:
    """Be nice; where sessions are scheduled as groups (sched(7), autogroup) the session is what must be nice."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as file:
        file.write(str(_NICE))


def _choice(given: Mapping[str, Any]) -> Choice:
    listed = given["listed"]
    return Choice(
        default=given["default"], listed=None if listed is None else tuple(listed), disabled=tuple(given["disabled"]),
        tables=given["tables"],
    )  # fmt: skip


def _do(order: Mapping[str, Any], deliveries: Deliveries, answers: _Answers) -> None:
    if order["op"] == "follow":
        deliveries.follow(orders.read(order["order"]))
    else:
        threading.Thread(target=_forget, args=(order["container"], deliveries, answers)).start()


def _forget(container: str, deliveries: Deliveries, answers: _Answers) -> None:
    deliveries.forget(container)
    answers.say(forgotten=container)


if __name__ == "__main__":
    main()
