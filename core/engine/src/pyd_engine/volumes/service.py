"""The volumes service: names, drivers, users.

Everything blocks (drivers look at disks and networks) and is called in worker threads. A lock per name keeps a container
that takes a volume and a client that removes it apart; the record is on disk before the driver acts, so that what a crash
cut off is finished by `reconcile`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from pyd_contracts.errors import Conflict, FailedPrecondition, NotFound, PydError, Unsupported
from pyd_contracts.volume import VolumeDriver
from pyd_engine.identities import new_id
from pyd_engine.store.database import Database
from pyd_engine.volumes.store import ANONYMOUS, VolumeRecord, VolumeStore

__all__ = ["Emit", "Volumes"]

log = logging.getLogger(__name__)
_STRIPES = 64
Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""Publishes an event: type, action, id, attributes."""


class Volumes:
    """All operations on volumes. *drivers* are the hooks of ready drivers, *default* names the one of who names none."""

    def __init__(self, database: Database, drivers: Mapping[str, VolumeDriver], default: str, emit: Emit) -> None:
        self._store = VolumeStore(database)
        self._drivers = drivers
        self._default = default
        self._emit = emit
        self._holders: dict[str, set[str]] = defaultdict(set)
        self._mounted: set[tuple[str, str]] = set()
        self._paths: dict[str, Path] = {}
        self._locks = [threading.RLock() for _ in range(_STRIPES)]

    # --- looking -------------------------------------------------------------------------------------------------

    @property
    def drivers(self) -> list[str]:
        """Names of the drivers that are ready."""
        return sorted(self._drivers)

    def all(self) -> list[VolumeRecord]:
        """Every volume, oldest first."""
        return [record for record in self._store.all() if not record.leaving]

    def get(self, name: str) -> VolumeRecord:
        """Raises NotFound in dockerd's words."""
        record = self._store.find(name)
        if record is None or record.leaving:
            raise NotFound(f"get {name}: no such volume")
        return record

    def holders(self, name: str) -> list[str]:
        """Ids of the containers that have the volume among their mounts, running or not."""
        return sorted(self._holders.get(name, ()))

    def path(self, record: VolumeRecord) -> Path | None:
        """Where its content is, or will be while it is used; None when its driver cannot say."""
        if record.name not in self._paths:
            try:
                path = self._driver(record.driver).volume_get(name=record.name).path
            except PydError:
                return None
            if path is None:
                return None
            self._paths[record.name] = path
        return self._paths[record.name]

    def status(self, record: VolumeRecord) -> Mapping[str, str]:
        """What the driver has to say of it."""
        return self._driver(record.driver).volume_get(name=record.name).status

    def size(self, record: VolumeRecord) -> int:
        """Bytes; -1 when its driver cannot say."""
        try:
            return self._driver(record.driver).volume_usage(name=record.name).bytes
        except PydError as error:
            log.warning("measure volume %s: %s", record.name, error)
            return -1

    def scope(self, record: VolumeRecord) -> str:
        """``global`` when every host with the driver has the volume."""
        capabilities: frozenset[str] = getattr(self._drivers.get(record.driver), "capabilities", frozenset())
        return "global" if "global" in capabilities else "local"

    # --- making and removing -------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        holder: str = "",
    ) -> VolumeRecord:
        """Make a volume, or give the one of this name; an empty *name*: an anonymous one.

        A *holder* is a container that keeps it from being removed. Raises Conflict when there is one of another driver.
        """
        if not name:
            name, labels = new_id(), {**(labels or {}), ANONYMOUS: ""}
        with self._locked(name):
            record = self._store.find(name)
            if record is None or record.leaving:
                record = self._make(name, driver or self._default, options, labels)
            elif driver and driver != record.driver:
                raise Conflict(f"create {name}: driver {record.driver!r} already has volume {name!r}")
            if holder:
                self._holders[name].add(holder)
            return record

    def _make(
        self, name: str, driver: str, options: Mapping[str, str] | None, labels: Mapping[str, str] | None
    ) -> VolumeRecord:
        hooks = self._driver(driver)
        record = VolumeRecord(
            name=name,
            driver=driver,
            created_ns=time.time_ns(),
            options=dict(options) if options else None,
            labels=dict(labels) if labels else None,
        )
        self._store.put(record)
        try:
            hooks.volume_create(name=name, options=record.options or {})
        except BaseException:
            self._store.drop(name)
            raise
        self._emit("volume", "create", name, {"driver": driver})
        return record

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume that no container has. Conflict when one has; *force* forgives that there is none."""
        with self._locked(name):
            try:
                record = self.get(name)
            except NotFound:
                if force:
                    return
                raise
            if holders := self.holders(name):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(holders)}]")
            self._store.put(msgspec.structs.replace(record, leaving=True))
            try:
                self._unmake(record)
            except FailedPrecondition as error:
                self._store.put(record)
                raise Conflict(str(error)) from error
            except BaseException:
                self._store.put(record)
                raise
            self._emit("volume", "destroy", name, {"driver": record.driver})

    def _unmake(self, record: VolumeRecord) -> None:
        with contextlib.suppress(NotFound):
            self._driver(record.driver).volume_remove(name=record.name)
        self._store.drop(record.name)
        self._paths.pop(record.name, None)
        self._holders.pop(record.name, None)

    def release(self, holder: str, names: Iterable[str]) -> None:
        """A container is gone: it holds its volumes no longer."""
        for name in names:
            with self._locked(name):
                self._holders[name].discard(holder)

    # --- use -----------------------------------------------------------------------------------------------------

    def mount(
        self, name: str, user: str, attributes: Mapping[str, str] | None = None, *, announce: bool = False
    ) -> Path:
        """Let *user* use the volume. With *attributes* its end is told by an event, with *announce* its beginning too."""
        with self._locked(name):
            record = self.get(name)
            path = self._driver(record.driver).volume_mount(name=name, user=user)
            self._paths[name] = path
            if attributes is not None:
                self._mounted.add((name, user))
            if attributes is not None and announce:
                self._emit("volume", "mount", name, {"driver": record.driver, **attributes})
            return path

    def unmount(self, name: str, user: str, attributes: Mapping[str, str] | None = None) -> None:
        """*user* has ended; one that never began is fine."""
        with self._locked(name):
            record = self._store.find(name)
            if record is None:
                return
            self._driver(record.driver).volume_unmount(name=name, user=user)
            if (name, user) in self._mounted:
                self._mounted.discard((name, user))
                self._emit("volume", "unmount", name, {"driver": record.driver, **(attributes or {})})

    # --- a daemon's start ----------------------------------------------------------------------------------------

    def reconcile(self, held: Mapping[str, Iterable[str]]) -> None:
        """Finish what a crash cut off, and learn who holds what: names of volumes by container."""
        for container, names in held.items():
            for name in names:
                self._holders[name].add(container)
        for record in self._store.all():
            try:
                self._finish(record)
            except PydError as error:
                log.error("volume %s: %s", record.name, error)
        for driver, hooks in self._drivers.items():
            for volume in tuple(hooks.volume_walk()):
                if self._store.find(volume.name) is None:
                    log.info(
                        "volume %s of the %s driver was made elsewhere; it is listed from now on", volume.name, driver
                    )
                    self._store.put(
                        VolumeRecord(
                            name=volume.name,
                            driver=driver,
                            created_ns=time.time_ns(),
                            options=dict(volume.options) or None,
                        )
                    )

    def _finish(self, record: VolumeRecord) -> None:
        if record.leaving:
            self._unmake(record)
        else:
            self._driver(record.driver).volume_create(name=record.name, options=record.options or {})

    # --- small things --------------------------------------------------------------------------------------------

    def _driver(self, name: str) -> VolumeDriver:
        try:
            return self._drivers[name]
        except KeyError:
            if any(record.driver == name for record in self._store.all()):
                raise Unsupported(f"the volume driver {name!r} is not ready; see `pyd plugin ls`") from None
            raise NotFound(f'error looking up volume plugin {name}: plugin "{name}" not found') from None

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with self._locks[hash(name) % _STRIPES]:
            yield
