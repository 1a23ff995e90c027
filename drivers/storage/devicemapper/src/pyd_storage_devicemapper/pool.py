"""A thin pool, and what keeps it and the catalog in step.

Every change of the pool is a transaction: its number is raised first, then a thin device is made or deleted, then the
catalog is written, then the catalog's own number is raised. While nothing happens both numbers are equal. After a crash
the pool's is ahead, and so it is when the catalog's file system lost its last seconds with the power:

* a device made meanwhile has the number of a transaction that the catalog does not have, and no record: it is deleted;
* a device deleted meanwhile may have a record: each is looked for, and the record of one that is gone is dropped.

A pool that is behind its catalog is another pool, or an old copy: nothing is done to it.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable

from pyd_contracts.errors import Declined, ResourceExhausted, Unavailable
from pyd_snapshots.errors import translated

from .catalog import Catalog
from .mapper import Mapper
from .sizes import SECTOR, said
from .thin import METADATA_BLOCK, PoolStatus, PoolTable, pool_status, thin_table

__all__ = ["Pool"]

_DEVICES = 1 << 24  # MAX_DEV_ID, drivers/md/dm-thin-metadata.h


class Pool:
    """The pool *name* of a device-mapper, which is there.

    min_free  per cent of data and of metadata below which no snapshot is made
    grow      looks whether the pool's devices have become larger, and says whether they had
    help      what an operator can do to get more room
    """

    def __init__(
        self,
        mapper: Mapper,
        name: str,
        catalog: Catalog,
        log: logging.Logger,
        *,
        min_free: int,
        grow: Callable[[], bool],
        help_: str,
    ) -> None:
        self._mapper = mapper
        self.name = name
        self._catalog = catalog
        self._log = log
        self._min_free = min_free
        self._grow = grow
        self._help = help_
        self._lock = threading.Lock()
        self._orphans: set[int] = set()
        (target,) = mapper.table(name)
        self.table = PoolTable.of(target)
        state = mapper.state(name)
        assert state is not None, f"{name} had a table and is gone"
        self.number = state.number
        self._transaction = self.status().transaction

    def status(self) -> PoolStatus:
        """What the pool says now."""
        (target,) = self._mapper.status(self.name)
        return pool_status(target)

    # --- changes -----------------------------------------------------------------------------------------------

    def create(self, origin: int | None, record: Callable[[int], None]) -> int:
        """Make a thin device, empty or a snapshot of *origin*, which nobody writes to; *record* writes it down.

        OSError, the kernel's or that of *record*; nothing is left then.
        """
        with self._lock:
            device = self._begin()
            try:
                how = f"create_thin {device}" if origin is None else f"create_snap {device} {origin}"
                self._mapper.message(self.name, how)
                record(device)
            except BaseException:
                self._undo(device)
                raise
            self._end()
        return device

    def delete(self, device: int) -> bool:
        """Delete a thin device; one that is not there is fine. False: it is active, and stays."""
        with self._lock:
            self._begin()
            try:
                self._mapper.message(self.name, f"delete {device}")
            except OSError as error:
                if error.errno == errno.EBUSY:
                    return False
                if error.errno != errno.ENODATA:
                    raise
            self._catalog.deleted(device)
            self._end()
        return True

    def _begin(self) -> int:
        """Raise the pool's number to one that no known device has."""
        number = self._transaction + 1
        while not number % _DEVICES or self._catalog.uses(number % _DEVICES):
            number += 1
        self._mapper.message(self.name, f"set_transaction_id {self._transaction} {number}")
        self._transaction = number
        return number % _DEVICES

    def _end(self) -> None:
        """Let the catalog's number follow, unless something without a record is left: the next open finds it then."""
        for device in list(self._orphans):
            self._undo(device)
        if not self._orphans:
            try:
                self._catalog.mark(self._transaction)
            except OSError as error:  # the next change repeats it, or the next open compares once more
                self._log.warning("transaction %d of %s is not marked: %s", self._transaction, self.name, error)

    def _undo(self, device: int) -> None:
        self._orphans.add(device)
        try:
            self._mapper.message(self.name, f"delete {device}")
        except OSError as error:
            if error.errno != errno.ENODATA:
                self._log.warning("thin device %s of %s stays for now: %s", device, self.name, error)
                return
        self._orphans.discard(device)

    # --- agreement ---------------------------------------------------------------------------------------------

    def agree(self) -> None:
        """Bring pool and catalog in line; to be called once, before anything else. Declined: they do not belong together."""
        known = self._catalog.transaction
        ours = self._transaction
        if known is None:
            status = self.status()
            if ours or status.data_used:
                raise Declined(
                    f"the thin pool {self.name} is in use: {status.data_used} blocks, transaction {ours}. "
                    "A pool is for one driver alone; give it a new one"
                )
            self._catalog.mark(0)
            return
        if ours < known:
            raise Declined(
                f"the thin pool {self.name} is at transaction {ours}, and what is known of it at {known}: this is another "
                "pool, or an old copy of it. Put the right one in its place, or move the driver's directory away to begin anew"
            )
        if ours == known:
            return
        self._log.warning("pool %s is at transaction %d, its catalog at %d: comparing", self.name, ours, known)
        devices = self._catalog.devices()
        with translated(f"compare the thin pool {self.name} with its catalog"):
            for number in range(max(known + 1, ours - _DEVICES + 1), ours + 1):
                if (device := number % _DEVICES) and device not in devices:
                    self._drop(device)
            for device, name in devices.items():
                if not self._has(device):
                    self._log.warning("%s was removed, its record is dropped (thin device %d)", name, device)
                    self._catalog.lost(device)
            self._catalog.mark(ours)

    def _drop(self, device: int) -> None:
        try:
            self._mapper.message(self.name, f"delete {device}")
        except OSError as error:
            if error.errno == errno.EBUSY:  # it was in the bin and somebody has it open still
                return
            if error.errno != errno.ENODATA:
                raise
        else:
            self._log.info("thin device %d of %s deleted, left by an interrupted run", device, self.name)
        self._catalog.deleted(device)

    def _has(self, device: int) -> bool:
        """Whether the pool has a thin device: only then a table can be loaded for it."""
        name = f"{self.name}.look-{device}"
        if self._mapper.state(name) is None:
            try:
                self._mapper.create(name, thin_table(self.device, device, 8), read_only=True)
            except OSError as error:
                if error.errno == errno.ENODATA:
                    return False
                if error.errno == errno.EBUSY:  # it is active
                    return True
                raise
        self._mapper.leave(name)
        return True

    @property
    def device(self) -> str:
        """The pool as tables name it."""
        return f"{os.major(self.number)}:{os.minor(self.number)}"

    # --- room --------------------------------------------------------------------------------------------------

    def check_room(self, doing: str) -> None:
        """Raise ResourceExhausted where too little is free for another snapshot, Unavailable where the pool is broken."""
        with translated(f"{doing}: ask {self.name} for room"):
            status = self.status()
            why = self._lack(status)
            if why and self._grow():
                status = self.status()
                why = self._lack(status)
        if status.mode in ("failed", "ro") or status.needs_check:
            raise Unavailable(
                f"{doing}: the thin pool {self.name} is {self._state(status)}; check its metadata with thin_check(8), "
                "repair it with thin_repair(8), and start pydd again"
            )
        if why:
            raise ResourceExhausted(f"{doing}: {why}. {self._help}")

    @staticmethod
    def _state(status: PoolStatus) -> str:
        return {"failed": "broken", "ro": "read-only"}.get(status.mode, "marked for a check")

    def _lack(self, status: PoolStatus) -> str | None:
        if status.mode in ("failed", "ro"):
            return None
        parts = (
            ("data", status.data_used, status.data_total, self.table.block * SECTOR),
            ("metadata", status.metadata_used, status.metadata_total, METADATA_BLOCK),
        )
        for what, used, total, unit in parts:
            free = max(total - used, 0)
            if free * 100 < total * self._min_free or not free:
                return (
                    f"{said(free * unit)} of {said(total * unit)} are free for {what} in the thin pool {self.name}, "
                    f"less than min-free-space = {self._min_free} per cent"
                )
        if status.mode == "out_of_data_space":
            return f"the thin pool {self.name} is full"
        return None
