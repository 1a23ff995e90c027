"""Which thin devices are active: there while mounts of them may be made, gone when nobody has them mounted.

A device is made when its mounts are asked for. Once it is seen to be mounted it is marked (DM_DEFERRED_REMOVE), and the
kernel removes it with the last unmount, whoever does that and whether or not there is a daemon then. What was asked for
and not mounted is removed by `release`, with its entry, by close, and by the next open.
"""

from __future__ import annotations

import errno
import logging
import threading
import time

from pyd_contracts.errors import Conflict

from .catalog import Entry
from .mapper import Mapper
from .pool import Pool
from .thin import mapped_sectors, thin_table

__all__ = ["Devices"]

_PATIENCE = 5.0  # seconds: an unmount is done when the last process that saw it has ended, not when its parent knows


class Devices:
    """The thin devices of a pool. Several views may share their parent's device, so each has holders: the keys of entries."""

    def __init__(self, mapper: Mapper, prefix: str, pool: Pool, log: logging.Logger) -> None:
        self._mapper = mapper
        self._prefix = prefix
        self._pool = pool
        self._log = log
        self._lock = threading.Lock()
        self._holders: dict[int, set[str]] = {}
        # Devices to be seen mounted: the file system, and how often each was open when it was asked for.
        self._waiting: dict[int, tuple[str, int]] = {}
        for name in mapper.devices():
            number = name.removeprefix(prefix)
            if (name != number and number.isdecimal()) or name.startswith(f"{pool.name}."):
                self._leave(name)
        mapper.tidy(prefix)

    def name(self, device: int) -> str:
        """The name of a thin device's device."""
        return f"{self._prefix}{device}"

    def activate(self, entry: Entry, *, read_only: bool) -> str:
        """The path of the node of an entry's device; made when it is not there. OSError."""
        device, holder = entry.device, entry.snapshot.name
        name = self.name(device)
        with self._lock:
            self._look_after()
            state = self._mapper.state(name)
            if state is not None and state.leaving:
                try:
                    self._mapper.stay(name)
                except OSError as error:
                    if error.errno != errno.ENXIO:
                        raise
                    state = None
            if state is None:
                self._mapper.create(name, thin_table(self._pool.device, device, entry.sectors), read_only=read_only)
            try:
                path = self._mapper.node(name)
            except BaseException:
                if not self._holders.get(device):
                    self._mapper.leave(name)
                raise
            self._waiting[device] = (entry.filesystem, 0 if state is None else state.users)
            self._holders.setdefault(device, set()).add(holder)
        return path

    def release(self, device: int, holder: str) -> bool:
        """*holder* has no more need of it. False: it is still there, for others or until it is unmounted."""
        with self._lock:
            self._look_after()
            others = self._holders.get(device, set())
            others.discard(holder)
            if others:
                return False
            self._holders.pop(device, None)
            self._waiting.pop(device, None)
            return self._leave(self.name(device))

    def idle(self, device: int, holder: str, doing: str) -> None:
        """Remove it, waiting a little for the end of an unmount. Conflict: it stays mounted."""
        end = time.monotonic() + _PATIENCE
        while not self.release(device, holder):
            state = self._mapper.state(self.name(device))
            if state is None:
                return
            if time.monotonic() > end:
                raise Conflict(f"{doing}: {self.name(device)} is open {state.users} times; unmount it first")
            time.sleep(0.005)

    def mapped(self, device: int, sectors: int) -> int | None:
        """Sectors that the pool holds for it. None when the pool cannot tell. OSError."""
        name = self.name(device)
        with self._lock:
            if (state := self._mapper.state(name)) is None or state.leaving:
                try:
                    self._mapper.create(name, thin_table(self._pool.device, device, sectors), read_only=True)
                except OSError as error:
                    if error.errno != errno.EBUSY:  # it is leaving and not gone
                        raise
                else:
                    state = None
            try:
                (target,) = self._mapper.status(name)
            finally:
                if state is None:
                    self._mapper.leave(name)
        return mapped_sectors(target)

    def close(self) -> None:
        """All of them, now or with their last unmount."""
        with self._lock:
            for device in list(self._holders):
                self._leave(self.name(device))
            self._holders.clear()
            self._waiting.clear()
            self._mapper.tidy(self._prefix)

    # --- inside ------------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Mark what was mounted since it was asked for."""
        for device, (kind, users) in list(self._waiting.items()):
            state = self._mapper.state(self.name(device))
            if state is None:
                self._drop(device)
            elif state.users <= users:
                self._waiting[device] = (kind, state.users)
            elif len(self._holders.get(device, ())) < 2 and self._mapper.mounted(state.number, kind):
                self._leave(self.name(device))
                del self._waiting[device]

    def _drop(self, device: int) -> None:
        self._forget(self.name(device))
        self._waiting.pop(device, None)
        self._holders.pop(device, None)

    def _leave(self, name: str) -> bool:
        """Whether it is gone."""
        gone = self._mapper.leave(name)
        if gone:
            self._forget(name)
        return gone

    def _forget(self, name: str) -> None:
        try:
            self._mapper.forget(name)
        except OSError as error:  # harmless; close and the next open tidy up
            self._log.warning("the node of %s stays for now: %s", name, error)
