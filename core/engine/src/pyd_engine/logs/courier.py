"""The daemon's side of log delivery: what is to be delivered, and a process that does it, started again when it dies.

A process of its own, because turning output into messages takes processor time that would be missing where requests are
answered, and because a driver may hang or crash. It begins with the first container that has something to deliver, ends with
the daemon, and leaves its position on disk: the next one goes on there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyd_contracts.errors import from_oserror
from pyd_engine.logs.cursor import Cursor, behind
from pyd_engine.logs.orders import Order, read, written
from pyd_shim.segments import DELIVERY

__all__ = ["Courier", "undelivered"]

_ORDER = f"{DELIVERY}/order.json"
_PAUSE = 1.0
"""Seconds before a process that ended is started again."""
_FORGET_SECONDS = 15.0
_END_SECONDS = 5.0


def undelivered(spool: str) -> bool:
    """Whether there is output that is not with its sink. Raises FileNotFoundError when there is no spool."""
    directory = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return behind(directory, Cursor.read(directory)) > 0
    except ValueError:
        return True  # who goes on with it says what is broken
    finally:
        os.close(directory)


class Courier:
    """Orders by container. Methods may be called from any thread; only `forget` waits for the other process.

    *command* starts the process, which gets its orders on standard input, *hello* first. *waiting* is a directory for the
    spools of containers that are gone; together they hold at most *hold* bytes.
    """

    def __init__(
        self, command: Sequence[str], hello: Mapping[str, Any], waiting: Path, hold: int, log: logging.Logger
    ) -> None:
        self._command = command
        self._hello = hello
        self._waiting = waiting
        self._hold = hold
        self._log = log
        self._lock = threading.Condition(threading.RLock())
        self._orders: dict[str, Order] = {}
        self._forgetting: set[str] = set()
        self._turn = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._closed = threading.Event()

    # --- orders --------------------------------------------------------------------------------------------------

    def follow(self, order: Order) -> None:
        """Deliver a container's output from now on; a second order changes the first."""
        with self._lock:
            if self._closed.is_set():
                return
            self._turn += 1
            order = self._orders[order.source.container] = replace(order, turn=self._turn)
            if self._process is None:
                self._start()
            else:
                self._tell({"op": "follow", "order": written(order)})

    def end(self, container: str) -> None:
        """It writes no more; one that is not followed is fine."""
        with self._lock:
            order = self._orders.get(container)
            if order is not None and not order.ended:
                self.follow(replace(order, ended=True))

    def forget(self, container: str) -> None:
        """Stop; returns when nobody has a file of it open."""
        with self._lock:
            if self._orders.pop(container, None) is None or self._process is None:
                return
            self._forgetting.add(container)
            self._tell({"op": "forget", "container": container})
            done = self._lock.wait_for(lambda: container not in self._forgetting, _FORGET_SECONDS)
            self._forgetting.discard(container)
        if not done:
            self._log.warning("stop the delivery of container %s: no answer", container[:12])

    def leave(self, order: Order) -> None:
        """The container goes, and its directories with it: what was not delivered is kept elsewhere until it is."""
        container, spool = order.source.container, order.directory
        try:
            if container not in self._orders and not undelivered(spool):
                return
            self._waiting.mkdir(mode=0o700, exist_ok=True)
            order = replace(order, directory=str(self._waiting / container), ended=True, discard=True)
            with open(f"{spool}/{_ORDER}", "w", encoding="utf-8") as file:
                json.dump(written(order), file)
            os.rename(spool, order.directory)
        except FileNotFoundError:
            return  # nothing was ever delivered from it
        except OSError as error:
            raise from_oserror(error, f"keep the undelivered output of container {order.source.name}") from error
        self.follow(order)
        self._bound()

    def resume(self) -> None:
        """Go on with what containers left that are gone."""
        with contextlib.suppress(FileNotFoundError):
            for entry in list(os.scandir(self._waiting)):
                try:
                    with open(f"{entry.path}/{_ORDER}", encoding="utf-8") as file:
                        self.follow(read(json.load(file)))
                except (OSError, ValueError, TypeError, KeyError) as error:
                    self._log.error("undelivered output in %s: %s; removing it", entry.path, error)
                    shutil.rmtree(entry.path, ignore_errors=True)
        self._bound()

    def close(self) -> None:
        """End the process; what it has not delivered, the next one does. Twice is once."""
        self._closed.set()
        with self._lock:
            process, self._process = self._process, None
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)
                self._socket = None
        if process is not None:
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _bound(self) -> None:
        """Not more than *hold* bytes wait of containers that are gone: the oldest go."""
        try:
            kept = sorted(os.scandir(self._waiting), key=lambda each: each.stat().st_mtime)
        except FileNotFoundError:
            return
        sizes = [sum(each.stat().st_size for each in os.scandir(entry.path) if each.is_file()) for entry in kept]
        total = sum(sizes)
        for entry, size in zip(kept, sizes, strict=True):
            if total <= self._hold:
                return
            self._log.warning(
                "output of container %s, which is gone, was not delivered and takes too much space ([logging] hold): %d "
                "bytes are dropped", entry.name[:12], size,
            )  # fmt: skip
            self.forget(entry.name)
            shutil.rmtree(entry.path, ignore_errors=True)
            total -= size

    # --- the process -----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """A process that knows all orders; a thread that hears it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._process = subprocess.Popen(
                self._command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, cwd="/", start_new_session=True,
                env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
            )  # fmt: skip
        self._socket = ours
        self._tell(self._hello)
        for order in self._orders.values():
            self._tell({"op": "follow", "order": written(order)})
        threading.Thread(target=self._listen, args=(self._process, ours), name="pyd-logs", daemon=True).start()

    def _listen(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
            for line in lines:
                self._heard(json.loads(line))
        code = process.wait()
        with self._lock:
            self._forgetting.clear()
            self._lock.notify_all()
        if self._closed.is_set():
            return
        self._log.error("the process that delivers logs ended with status %d; starting it again", code)
        if self._closed.wait(_PAUSE):
            return
        with self._lock:
            if self._process is process:
                self._start()

    def _heard(self, answer: Mapping[str, Any]) -> None:
        with self._lock:
            if "forgotten" in answer:
                self._forgetting.discard(answer["forgotten"])
                self._lock.notify_all()
            elif (order := self._orders.get(answer["done"])) is not None and order.turn == answer["turn"]:
                del self._orders[answer["done"]]

    def _tell(self, words: Mapping[str, Any]) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendall(json.dumps(words).encode() + b"\n")
        except OSError as error:
            self._log.warning("tell the process that delivers logs: %s", os.strerror(error.errno or 0))
