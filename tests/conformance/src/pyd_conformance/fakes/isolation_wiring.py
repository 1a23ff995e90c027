"""The thread on which the streams of all fake containers of a process live."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from pyd_shim.streams import Loop

__all__ = ["wires"]

T = TypeVar("T")


class _Wiring:
    """The thread on which all wires of this process live; others hand it work."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._work: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.loop.watch(self._wake, select.EPOLLIN, self._on_work)
        threading.Thread(target=self._run, name="fake-isolation", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.loop.run_once(None)

    def _on_work(self, _mask: int) -> None:
        os.read(self._wake, 4096)
        with self._lock:
            work, self._work = self._work, []
        for each in work:
            each()

    def call(self, work: Callable[[], T]) -> T:
        """Do *work* there and wait for its answer."""
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(work())
            except BaseException as error:
                answer.set_exception(error)

        with self._lock:
            self._work.append(run)
        os.write(self._waker, b"x")
        return answer.result(60)


_wiring: list[_Wiring] = []
_wiring_lock = threading.Lock()


def wires() -> _Wiring:
    with _wiring_lock:
        if not _wiring:
            _wiring.append(_Wiring())
        return _wiring[0]
