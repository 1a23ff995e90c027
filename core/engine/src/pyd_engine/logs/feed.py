"""The delivery of one container's output: from its spool, where it stands, through a log driver."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from dataclasses import replace

from pyd_contracts.errors import PydError
from pyd_contracts.log import LogDriver
from pyd_contracts.values import LogRecord
from pyd_engine.logs.cursor import Cursor, behind, lost
from pyd_engine.logs.lines import Lines
from pyd_engine.logs.orders import Order
from pyd_shim.segments import Policy, Position, segments, trim
from pyd_shim.spool import OVERHEAD, SpoolReader

__all__ = ["Feed"]

_BATCH = 1 << 18
"""Bytes that are written to a driver at once."""
_QUANTUM = 8
"""Batches until others have their turn."""
_REST = 3
"""A container that writes much runs on the same processors: so many times as long as it took nothing is done for it then …"""
_HURRY = 64 << 20
"""… unless so many bytes wait, or it has ended."""
_BUSY = 0.05
"""Seconds until a sink that took only a part gets the rest."""
_PATIENCE = 30.0
"""The longest pause between two attempts; seconds. The first is a tenth of one, and each is twice the one before."""


class Feed:
    """Delivers as far as the sink takes it. One thread at a time calls `step` and `close`; `order` may be set by any.

    The spool is reached through a descriptor: its directory may be moved meanwhile.
    """

    def __init__(self, order: Order, driver: LogDriver, log: logging.Logger) -> None:
        """Raises OSError when the spool is not there, ValueError when its cursor is broken."""
        self.order = order
        self.directory = os.open(order.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._cursor = Cursor.read(self.directory)
        except BaseException:
            os.close(self.directory)
            raise
        self._driver = driver
        self._log = log
        self._lines = Lines(self._cursor.held)
        self._reader: SpoolReader | None = None
        self._batch: list[LogRecord] = []
        self._reached = self._cursor
        self._open = False
        self._failures = 0
        self.done = False
        """Everything is delivered and let go of; there is no more to do."""

    def __str__(self) -> str:
        source = self.order.source
        return f"log driver {self.order.driver} of container {source.name} ({source.container[:12]})"

    @property
    def failing(self) -> bool:
        """The sink did not take the last batch."""
        return self._failures > 0

    def step(self) -> float | None:
        """Deliver; seconds until it is to be called again, None: when more was written, or another order came."""
        began = time.monotonic()
        try:
            for _ in range(_QUANTUM):
                ended = self.order.ended  # asked before reading: what is written until the end is seen below
                if not self._batch and not self._read(ended):
                    return self._idle(ended)
                if not self._write():
                    return _BUSY
            hurry = self.order.ended or behind(self.directory, self._cursor) > _HURRY
            return 0.0 if hurry else _REST * (time.monotonic() - began)
        except PydError as error:
            return self._pause(str(error))
        except (OSError, ValueError) as error:
            self._back()
            return self._pause(f"its spool: {error}")

    def close(self) -> None:
        """Let go of driver, spool and files."""
        with contextlib.suppress(PydError):
            self._driver.log_end(container=self.order.source.container)
        self._open = False
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self.directory >= 0:
            os.close(self.directory)
            self.directory = -1

    # --- reading -------------------------------------------------------------------------------------------------

    def _read(self, ended: bool) -> bool:
        """Take the next batch out of the spool; whether there was anything."""
        if self.order.most:
            self._drop()
        size, state = 0, self._reached
        while size < _BATCH:
            at, last = self._segment(state)
            if at is None:
                break
            if at != state.at:
                if at.run != state.run:
                    self._batch += self._lines.end()
                state = replace(state, run=at.run, segment=at.segment, offset=0)
                self._forget_reader()
            if self._reader is None:
                try:
                    self._reader = self._reading(at, state.offset)
                except FileNotFoundError:  # retention was faster
                    state = replace(state, segment=at.segment + 1, offset=0)
                    continue
            before = self._reader.offset
            for frame in self._reader.frames():
                self._batch += self._lines.feed(frame)
                if (size := size + len(frame.data) + OVERHEAD) >= _BATCH:
                    break
            state = replace(state, offset=self._reader.offset)
            if size < _BATCH and last and state.offset == before:
                break
            if size < _BATCH and not last:
                self._forget_reader()
                state = replace(state, segment=at.segment + 1, offset=0)
        if ended and size < _BATCH:
            self._batch += self._lines.end()
        if state == self._reached and not self._batch:
            return False
        self._reached = state
        if not self._batch:
            self._arrive()
        return True

    def _segment(self, state: Cursor) -> tuple[Position | None, bool]:
        """The segment to read: the one where we are, or the next that is there. Whether it is the last one: nobody writes to
        one that has a successor."""
        every = [each for each in segments(self.directory) if each >= state.at]
        return (every[0] if every else None), len(every) < 2

    def _reading(self, at: Position, offset: int) -> SpoolReader:
        return SpoolReader(f"/proc/self/fd/{self.directory}/{at.name}", offset)

    def _back(self) -> None:
        """Forget what was read and not delivered: it is read again."""
        self._forget_reader()
        self._batch = []
        self._reached = self._cursor
        self._lines = Lines(self._cursor.held)

    def _forget_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _drop(self) -> None:
        """Leave out the oldest output that is beyond what may wait."""
        excess = behind(self.directory, self._reached) - self.order.most
        dropped = 0
        if excess > 0:
            self._batch += self._lines.end()
        while dropped < excess:
            at, last = self._segment(self._reached)
            if at is None:
                break
            if at != self._reached.at or self._reader is None:
                self._forget_reader()
                offset = self._reached.offset if at == self._reached.at else 0
                self._reached = replace(self._reached, run=at.run, segment=at.segment, offset=offset)
                self._reader = self._reading(at, offset)
            for frame in self._reader.frames():
                dropped += len(frame.data) + OVERHEAD
                if dropped >= excess:
                    break
            self._reached = replace(self._reached, offset=self._reader.offset)
            if dropped < excess:
                if last:
                    break
                self._forget_reader()
                self._reached = replace(self._reached, segment=at.segment + 1, offset=0)
        if dropped:
            if not self._reached.dropped:
                self._log.warning("%s is slower than the container: what does not fit its buffer is dropped", self)
            self._reached = replace(self._reached, dropped=self._reached.dropped + dropped)

    # --- writing -------------------------------------------------------------------------------------------------

    def _write(self) -> bool:
        """Bring the batch to the driver; whether it took all of it."""
        if not self._batch:
            return True
        self._begin()
        taken = self._driver.log_write(container=self.order.source.container, records=self._batch)
        del self._batch[:taken]
        if taken:
            self._works()
        if self._batch:
            return False
        self._arrive()
        return True

    def _arrive(self) -> None:
        """All that was read is with the sink."""
        turned = self._reached.at != self._cursor.at
        self._cursor = self._reached = replace(self._reached, held=self._lines.state())
        self._cursor.write(self.directory)
        if turned:
            self._tidy()

    def _tidy(self) -> None:
        """What was kept for us alone may go; what went without us is told."""
        with contextlib.suppress(FileNotFoundError):  # the shim was faster
            trim(self.directory, Policy.read(self.directory))
        now = lost(self.directory)
        if now > self._cursor.told:
            self._log.warning(
                "%s: %d bytes of output were never delivered: they fell out of what is kept for it ([logging] hold)",
                self, now - self._cursor.told,
            )  # fmt: skip
            self._cursor = self._reached = replace(self._reached, told=now)
            self._cursor.write(self.directory)

    def _idle(self, ended: bool) -> float | None:
        if ended:
            self._tidy()
            self.close()
            self.done = True
        elif not self._open:
            self._begin()
            self._works()
        return None

    def _begin(self) -> None:
        if not self._open:
            self._driver.log_open(source=self.order.source)
            self._open = True

    def _works(self) -> None:
        if self._failures:
            self._log.info("%s delivers again", self)
            self._failures = 0
        if self._reached.error:
            self._reached = replace(self._reached, error="")
            if not self._batch:
                self._arrive()

    def _pause(self, why: str) -> float:
        """Say once that it does not work; how long to wait."""
        if not self._failures:
            self._log.warning("%s: %s; output is kept, and delivered later", self, why)
        self._failures += 1
        if self._failures > 1 and self._cursor.error != why and self.directory >= 0:
            self._cursor = replace(self._cursor, error=why)
            self._reached = replace(self._reached, error=why)
            with contextlib.suppress(OSError):
                self._cursor.write(self.directory)
        if self._open:  # begun anew next time: connections may be broken
            with contextlib.suppress(PydError):
                self._driver.log_end(container=self.order.source.container)
            self._open = False
        return float(min(_PATIENCE, 0.1 * 2 ** min(self._failures - 1, 10)))
