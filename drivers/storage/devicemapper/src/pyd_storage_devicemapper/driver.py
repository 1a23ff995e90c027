"""Snapshots as thin devices of a pool.

An entry is a thin device with a file system of its own; its parent's was copied by the pool, which shares all blocks
until they are written to. Prepare costs as much for a large image as for an empty one. A view has no device: it mounts
its parent's, read-only, and so does everything else that looks at a committed entry: nothing ever writes to one.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pyd_contracts.errors import Declined, DriverFault, FailedPrecondition, InvalidArgument, NotFound, PydError
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, Mount, Snapshot, Usage
from pyd_snapshots.drivers import CatalogDriver
from pyd_snapshots.errors import translated

from . import kernel
from .catalog import Catalog, Entry
from .devices import Devices
from .filesystems import FILE_SYSTEMS, FileSystem
from .mapper import CONTROL, DeviceMapper, Mapper
from .pool import Pool
from .sizes import SECTOR, said
from .thin import thin_table
from .volumes import DiskVolumes, ExistingPool, LoopVolumes, Volumes

__all__ = ["DevicemapperDriver", "Options"]

_MOST = 16 << 40  # ext4 with blocks of 4 KiB


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator decides. Exactly one of *pool*, *device* and *loop*; sizes in bytes.

    discard   pass on to the pool which blocks containers do not use any more, as they remove files
    min_free  per cent of the pool below which nothing new is begun
    mount     further mount options of writable mounts
    """

    pool: str = ""
    device: str = ""
    loop: bool = False
    data_size: int = 100 << 30
    metadata_size: int = 2 << 30
    block_size: int = 64 << 10
    filesystem: str = "ext4"
    base_size: int = 10 << 30
    min_free: int = 10
    discard: bool = True
    mount: tuple[str, ...] = ()


class DevicemapperDriver(CatalogDriver[Entry]):
    """The storage contract over thin devices.

    root      the driver's directory: the catalog; the pool's files where it is on files
    run       not used: what a reboot forgets is the kernel's
    instance  tells devices of this data root from those of others on the same host

    Raises Declined without device-mapper, mkfs or a pool that is ours; InvalidArgument for options that contradict.
    """

    _catalog: Catalog

    def __init__(
        self,
        root: Path,
        run: Path,
        options: Options,
        *,
        instance: str | None = None,
        log: logging.Logger | None = None,
        mapper: Mapper | None = None,
        filesystems: Mapping[str, FileSystem] = FILE_SYSTEMS,
        volumes: Volumes | None = None,
    ) -> None:
        self._log = log or logging.getLogger(__name__)
        self._options = options
        self._filesystems = filesystems
        self._mapper = mapper or _mapper()
        filesystem = filesystems.get(options.filesystem)
        if filesystem is None:
            raise InvalidArgument(f"filesystem = {options.filesystem!r}: known are {', '.join(sorted(filesystems))}")
        filesystem.check(options.base_size)
        mapped = {"id-mapped"} if kernel.knows_id_maps() else set()
        self.capabilities = frozenset({"release", "shared", "size", "usage-cheap", *mapped})
        instance = instance or f"{zlib.crc32(os.fsencode(os.path.realpath(root))):08x}"
        prefix = f"pyd-{instance}-"
        self._volumes = volumes or _volumes(options, self._mapper, prefix, root, self._log)
        self._mapped: dict[int, int] = {}  # sectors of devices that never change again
        self._bin = threading.Lock()
        with _declined(f"open the thin pool {self._volumes.pool}"):
            self._volumes.open()
        try:
            self._catalog = Catalog(root)
            self._pool = Pool(
                self._mapper,
                self._volumes.pool,
                self._catalog,
                self._log,
                min_free=options.min_free,
                grow=self._volumes.grow,
                help_=self._volumes.help,
            )
            with translated("look for devices of an earlier run"):
                self._devices = Devices(self._mapper, prefix, self._pool, self._log)
            self._pool.agree()
            self._empty_bin(unfinished=True)
            self._lay_base(filesystem)
        except Exception:
            self._volumes.close()
            raise

    # --- hooks -------------------------------------------------------------------------------------------------

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        """A snapshot in the pool."""
        size = _size_option(key, options)
        with self._catalog.claim(Kind.ACTIVE, key, parent) as below:
            origin = below or self._base()
            doing = f"prepare {key}"
            self._empty_bin(wait=False)
            self._pool.check_room(doing)

            def entry(device: int) -> Entry:
                return Entry(Snapshot(key, Kind.ACTIVE, parent), str(device), device, origin.filesystem, origin.sectors)

            write = self._catalog.begin if size else self._catalog.add
            with translated(doing):
                made = entry(self._pool.create(origin.device, lambda device: write(entry(device))))
            try:
                if size:
                    made = self._bound(made, size)
                return self._mounts(made)
            except BaseException:
                self._take_back(made)
                raise

    @hookimpl
    def storage_view(self, key: str, parent: str) -> Sequence[Mount]:
        """The parent's own device, read-only: the pool is not touched."""
        with self._catalog.claim(Kind.VIEW, key, parent) as below:
            assert below is not None
            with translated(f"view {parent} as {key}"):
                entry = self._catalog.add_view(Snapshot(key, Kind.VIEW, parent), below)
            try:
                return self._mounts(entry)
            except BaseException:
                self._take_back(entry)
                raise

    @hookimpl
    def storage_release(self, key: str) -> None:
        """The device goes, at once or with its last unmount."""
        entry = self._catalog.get(key)
        if entry.snapshot.kind is Kind.COMMITTED:
            raise FailedPrecondition(f"{key} is committed and holds nothing; keys are released")
        with translated(f"release {key}"):
            self._devices.release(entry.device, key)

    @hookimpl
    def storage_commit(self, name: str, key: str) -> Snapshot:
        """The device goes: all is written then, and it never is writable again. The rest is a name."""
        entry = self._catalog.check_commit(name, key)
        with translated(f"commit {key} as {name}"):
            sectors = self._unbound(entry).sectors if entry.limit else entry.sectors
            self._devices.idle(entry.device, key, f"commit {key} as {name}")
        return self._catalog.commit(name, key, sectors).snapshot

    @hookimpl
    def storage_remove(self, name: str) -> None:
        """Out of sight by one rename, then deleted from the pool: once nobody has it open."""
        entry = self._catalog.remove(name)
        try:
            self._devices.release(entry.device, name)
        except OSError as error:
            self._log.warning("%s stays active for now: %s", self._devices.name(entry.device), error)
        if entry.snapshot.kind is not Kind.VIEW:
            self._mapped.pop(entry.device, None)
            self._empty_bin()

    @hookimpl
    def storage_usage(self, name: str) -> Usage:
        """Blocks of the device beyond those its parent's has; how many files are in them is not known."""
        entry = self._catalog.get(name)
        if entry.snapshot.kind is Kind.VIEW:
            return Usage(0, 0)
        parent = entry.snapshot.parent
        below = self._base() if parent is None else self._catalog.get(parent)
        with translated(f"count {name}"):
            own = self._sectors_of(entry) - self._sectors_of(below)
        return Usage(max(own, 0) * SECTOR, 0)

    @hookimpl
    def storage_close(self) -> None:
        """Devices, pool and loop devices go, now or with their last user: containers run on without a daemon."""
        try:
            self._devices.close()
            self._volumes.close()
        except OSError as error:
            self._log.warning("close: %s", error)

    # --- inside ------------------------------------------------------------------------------------------------

    def _base(self) -> Entry:
        base = self._catalog.base
        if base is None:
            raise DriverFault("the empty file system that all others come from is gone")
        return base

    def _lay_base(self, filesystem: FileSystem) -> None:
        """Make the file system that first layers are snapshots of, where there is none of this kind and size."""
        base, sectors = self._catalog.base, self._options.base_size // SECTOR
        if base is not None and (base.filesystem, base.sectors) == (filesystem.kind, sectors):
            return
        self._log.info("making an empty %s of %s", filesystem.kind, said(self._options.base_size))

        def entry(device: int) -> Entry:
            return Entry(Snapshot("", Kind.COMMITTED, None), str(device), device, filesystem.kind, sectors)

        with _declined(f"make the empty {filesystem.kind} that all others come from"):
            made = entry(self._pool.create(None, lambda number: self._catalog.begin(entry(number))))
            filesystem.format(self._devices.activate(made, read_only=False))
            self._devices.idle(made.device, "", "make the base")
            self._catalog.set_base(made)
        self._empty_bin()

    def _mounts(self, entry: Entry) -> Sequence[Mount]:
        """The device is there until it was mounted and is not any more, or is released."""
        read_only = entry.snapshot.kind is not Kind.ACTIVE
        with translated(f"mounts of {entry.snapshot.name}"):
            node = self._devices.activate(entry, read_only=read_only)
        extra = (*(("discard",) if self._options.discard else ()), *self._options.mount)
        return (self._filesystems[entry.filesystem].mount(node, read_only=read_only, extra=extra),)

    def _bound(self, entry: Entry, size: int) -> Entry:
        """Finish an entry that has a size: room for so many bytes, and no more."""
        with translated(f"prepare {entry.snapshot.name}: give it a size of {said(size)}"):
            node = self._devices.activate(entry, read_only=False)
            filesystem = self._filesystems[entry.filesystem]
            sectors = filesystem.bound(node, entry.sectors, size, partial(self._lengthen, entry))
            entry = replace(entry, sectors=sectors, limit=size)
            self._catalog.add(entry, begun=True)
        return entry

    def _unbound(self, entry: Entry) -> Entry:
        """The bound was the key's, and not that of all that will stand on it."""
        node = self._devices.activate(entry, read_only=False)
        usual = self._options.base_size // SECTOR
        filesystem = self._filesystems[entry.filesystem]
        sectors = filesystem.unbound(node, entry.sectors, usual, partial(self._lengthen, entry))
        return replace(entry, sectors=sectors)

    def _lengthen(self, entry: Entry, sectors: int) -> None:
        self._mapper.change(self._devices.name(entry.device), thin_table(self._pool.device, entry.device, sectors))

    def _take_back(self, entry: Entry) -> None:
        """Undo what prepare or view made, as far as that goes; the rest is in the bin."""
        name = entry.snapshot.name
        try:
            try:
                self._catalog.remove(name)
            except NotFound:
                self._catalog.abandon(entry)
            self._devices.release(entry.device, name)
        except (OSError, PydError) as error:
            self._log.warning("undo %s: %s", name, error)
        self._empty_bin()

    def _empty_bin(self, *, unfinished: bool = False, wait: bool = True) -> None:
        """Delete what was removed. A failure is not the caller's: the next hook, or the next open, tries again."""
        if not self._bin.acquire(blocking=wait):
            return  # somebody is at it
        try:
            for entry in self._catalog.waste(unfinished=unfinished):
                try:
                    if self._mapper.state(self._devices.name(entry.device)) is not None:
                        continue  # still mounted somewhere: it leaves by itself
                    self._discard(entry)
                    self._pool.delete(entry.device)
                except (OSError, PydError) as error:
                    self._log.warning("thin device %d stays for now: %s", entry.device, error)
        finally:
            self._bin.release()

    def _discard(self, entry: Entry) -> None:
        """Let a file below the pool become as small as what is in it: what is only deleted stays allocated there."""
        if not self._options.loop:
            return
        name = f"{self._volumes.pool}.discard-{entry.device}"
        try:
            self._mapper.create(name, thin_table(self._pool.device, entry.device, entry.sectors))
        except OSError as error:
            if error.errno == errno.ENODATA:  # deleted, and nobody could write it down any more
                return
            raise
        try:
            self._mapper.discard(name, entry.sectors)
        finally:
            if self._mapper.leave(name):
                self._mapper.forget(name)

    def _sectors_of(self, entry: Entry) -> int:
        """Mapped sectors; known for good of what never changes."""
        known = self._mapped.get(entry.device)
        if known is not None:
            return known
        found = self._devices.mapped(entry.device, entry.sectors)
        if found is None:
            raise DriverFault(f"count {entry.snapshot.name}: the thin pool {self._volumes.pool} is broken")
        if entry.snapshot.kind is Kind.COMMITTED:
            self._mapped[entry.device] = found
        return found


def _mapper() -> Mapper:
    if not os.path.exists(CONTROL):
        raise Declined(
            f"no device-mapper in this kernel (CONFIG_BLK_DEV_DM): there is no {CONTROL}; "
            "if it is a module, `modprobe dm-mod` brings it"
        )
    if os.geteuid() != 0:
        raise Declined(f"devices are made by root, this runs as uid {os.geteuid()}")
    return DeviceMapper()


def _volumes(options: Options, mapper: Mapper, prefix: str, root: Path, log: logging.Logger) -> Volumes:
    given = [name for name in ("pool", "device", "loop") if getattr(options, name)]
    if not given:
        raise Declined(
            'no pool is configured: set pool = "/dev/mapper/NAME", device = "/dev/DISK", or for development loop = true'
        )
    if len(given) > 1:
        raise InvalidArgument(f"{' and '.join(given)} are set: a pool comes from one of them")
    block = options.block_size
    if block % (64 << 10) or not 64 << 10 <= block <= 1 << 30:
        raise InvalidArgument(f"block-size: {said(block)}: it is a multiple of 64k, up to 1G")
    if options.pool:
        return ExistingPool(mapper, options.pool, log)
    if options.device:
        return DiskVolumes(mapper, prefix, options.device, root / "device", block=block // SECTOR)
    return LoopVolumes(
        mapper, prefix, root, data=options.data_size, metadata=options.metadata_size, block=block // SECTOR
    )


def _size_option(key: str, options: Mapping[str, str]) -> int | None:
    unknown = sorted(options.keys() - {"size"})
    if unknown:
        raise InvalidArgument(f"prepare {key}: devicemapper knows the option size, not {', '.join(unknown)}")
    if "size" not in options:
        return None
    text = options["size"]
    if not (text.isascii() and text.isdecimal()) or not 1 << 20 <= int(text) <= _MOST:
        raise InvalidArgument(f"prepare {key}: size={text!r}: it is a number of bytes, up to {said(_MOST)}")
    return int(text)


@contextmanager
def _declined(doing: str) -> Iterator[None]:
    """While a driver is made, what the kernel refuses is a reason to decline."""
    try:
        yield
    except OSError as error:
        hint = (
            "; has this kernel the target thin-pool (CONFIG_DM_THIN_PROVISIONING)?"
            if error.errno == errno.EINVAL
            else ""
        )
        raise Declined(f"{doing}: {error.strerror}{hint}") from error
