"""Where a thin pool comes from: an operator's, one on a block device, one on two sparse files."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from pyd_contracts.errors import Declined

from . import kernel
from .mapper import DIRECTORY, Mapper, Target
from .sizes import SECTOR, said
from .thin import METADATA_MAX, PoolTable

__all__ = ["DiskVolumes", "ExistingPool", "LoopVolumes", "Volumes"]

_MIB = 1 << 20
_METADATA_MIN = 2 * _MIB


class Volumes(Protocol):
    """A source of a pool."""

    pool: str
    help: str

    def open(self) -> None:
        """Let the pool be there, as large as its devices are. OSError, Declined."""

    def grow(self) -> bool:
        """Look whether the devices have become larger, and if so the pool with them."""

    def close(self) -> None:
        """Let go of what was made, now or when the last device of the pool is closed."""


class ExistingPool:
    """A pool that the operator made and enlarges, at ``/dev/mapper/NAME``."""

    def __init__(self, mapper: Mapper, path: str, log: logging.Logger) -> None:
        self._mapper = mapper
        self._path = path
        self._log = log
        self.pool = os.path.basename(path)
        self.help = "Remove containers and images, or enlarge the pool (lvextend(8), or a longer table by dmsetup(8))"

    def open(self) -> None:
        if os.path.dirname(self._path) != DIRECTORY:
            raise Declined(f"pool = {self._path!r}: a pool is named as {DIRECTORY}/NAME")
        if self._mapper.state(self.pool) is None:
            raise Declined(f"there is no device {self._path}; make the thin pool first, for example with lvcreate(8)")
        table = self._mapper.table(self.pool)
        if len(table) != 1 or table[0].kind != "thin-pool":
            found = ", ".join(sorted({each.kind for each in table})) or "without a table"
            raise Declined(f"{self._path} is no thin pool ({found})")
        if "error_if_no_space" not in PoolTable.of(table[0]).features:
            self._log.warning(
                "%s queues writes when it is full: containers will hang instead of getting an error; "
                "give its table the feature error_if_no_space (lvchange --errorwhenfull y)",
                self._path,
            )

    def grow(self) -> bool:
        return False

    def close(self) -> None:
        """Not ours."""


class _OwnPool:
    """What is common to pools made here."""

    def __init__(self, mapper: Mapper, prefix: str, block: int) -> None:
        self._mapper = mapper
        self._lock = threading.Lock()
        self._block = block
        self.pool = f"{prefix}pool"

    def _kept(self, name: str) -> bool:
        """Whether a device is there, and stays: one that an earlier run let go of may be about to leave."""
        state = self._mapper.state(name)
        if state is None:
            return False
        if not state.leaving:
            return True
        try:
            self._mapper.stay(name)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return False
        return True

    def _table(self) -> PoolTable:
        (target,) = self._mapper.table(self.pool)
        return PoolTable.of(target)

    def _leave(self, names: Sequence[str]) -> None:
        for name in names:
            if self._mapper.leave(name):
                self._mapper.forget(name)


class LoopVolumes(_OwnPool):
    """Two sparse files in the driver's directory, through loop devices: for development, as every write goes through two
    file systems. Sizes in bytes; files only ever grow.
    """

    def __init__(self, mapper: Mapper, prefix: str, root: Path, *, data: int, metadata: int, block: int) -> None:
        super().__init__(mapper, prefix, block)
        self._paths = {"data": f"{os.path.realpath(root)}/data", "metadata": f"{os.path.realpath(root)}/metadata"}
        self._sizes = {"data": data, "metadata": metadata}
        self.help = (
            "Remove containers and images, or enlarge the pool: raise data-size (or metadata-size) and start pydd again, "
            f"or enlarge the file: truncate -s +10G {self._paths['data']}"
        )

    def open(self) -> None:
        with self._lock:
            for what, path in self._paths.items():
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    if os.fstat(fd).st_size < self._sizes[what]:
                        os.ftruncate(fd, self._sizes[what])
                finally:
                    os.close(fd)
            if self._kept(self.pool):
                behind = kernel.file_of_loop(_number(self._table().data))
                if behind != self._paths["data"]:
                    raise Declined(f"the thin pool {self.pool} is on {behind}, not on {self._paths['data']}")
            else:
                self._make()
        self.grow()

    def _make(self) -> None:
        with ExitStack() as held:
            devices = {}
            for what, path in self._paths.items():
                loop = kernel.loop_attach(path)
                held.callback(os.close, loop)
                devices[what] = _devno(os.fstat(loop).st_rdev)
            length = os.stat(self._paths["data"]).st_size // SECTOR
            table = PoolTable(length - length % self._block, devices["metadata"], devices["data"], self._block)
            self._mapper.create(self.pool, [table.target()])

    def grow(self) -> bool:
        with self._lock:
            table = self._table()
            grown = False
            for what, device in (("metadata", table.metadata), ("data", table.data)):
                node = f"/dev/loop{_minor(device)}"
                if os.stat(self._paths[what]).st_size // SECTOR > kernel.block_size(node) // SECTOR:
                    kernel.loop_grow(node)
                    grown = True
            length = kernel.block_size(f"/dev/loop{_minor(table.data)}") // SECTOR
            length -= length % table.block
            if grown or length > table.length:
                self._mapper.change(self.pool, [replace(table, length=length).target()])
                return True
            return False

    def close(self) -> None:
        self._leave([self.pool])


@dataclass(frozen=True, slots=True)
class Label:
    """What stands at the start of a block device, twice: whose it is and how it is divided. In sectors.

    metadata, data  pieces [start, length] of the device, one after the other
    """

    id: str
    serial: int
    block: int
    metadata: tuple[tuple[int, int], ...]
    data: tuple[tuple[int, int], ...]

    MAGIC = "pyd-devicemapper 1"
    SIZE = 4096
    PLACES = (0, 8192)

    @property
    def end(self) -> int:
        """The first sector that belongs to no piece."""
        return max(start + length for start, length in (*self.metadata, *self.data))

    def pack(self) -> bytes:
        """As a block of SIZE bytes."""
        text = json.dumps(asdict(self)).encode()
        digest = hashlib.sha256(text).hexdigest().encode()
        block = b"\n".join((self.MAGIC.encode(), digest, text, b""))
        if len(block) > self.SIZE:
            raise OSError(errno.ENOSPC, "the label of the block device is full: it was enlarged too often")
        return block.ljust(self.SIZE, b"\0")

    @classmethod
    def unpack(cls, block: bytes) -> Label | None:
        """Read one; None where there is none, or a half one."""
        lines = block.rstrip(b"\0").split(b"\n")
        if len(lines) != 4 or lines[0] != cls.MAGIC.encode():
            return None
        if hashlib.sha256(lines[2]).hexdigest().encode() != lines[1]:
            return None
        read = json.loads(lines[2])
        pieces = {what: tuple((start, length) for start, length in read[what]) for what in ("metadata", "data")}
        return cls(read["id"], read["serial"], read["block"], **pieces)

    @classmethod
    def divide(cls, start: int, end: int, least: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Pieces for metadata and data: a hundredth for metadata, *least* sectors or more."""
        unit = _MIB // SECTOR
        most = METADATA_MAX // SECTOR
        metadata = min(max((end - start) // 100 // unit * unit, least), most // unit * unit)
        return (start, metadata), (start + metadata, (end - start - metadata) // unit * unit)


class DiskVolumes(_OwnPool):
    """A whole block device or partition: a label, then metadata and data, each a linear device."""

    def __init__(self, mapper: Mapper, prefix: str, path: str, known: Path, *, block: int) -> None:
        super().__init__(mapper, prefix, block)
        self._path = path
        self._known = known  # remembers the label's id: another disk at the same path is not ours
        self._parts = {what: f"{prefix}{what}" for what in ("metadata", "data")}
        self.help = f"Remove containers and images, or enlarge the device {path}, which is noticed by itself"

    def open(self) -> None:
        with self._lock:
            label = self._label()
            for what, name in self._parts.items():
                if not self._kept(name):
                    self._mapper.create(name, self._pieces(label, what))
            if not self._kept(self.pool):
                metadata, data = (self._device(self._parts[what]) for what in ("metadata", "data"))
                length = sum(length for _, length in label.data)
                table = PoolTable(length - length % label.block, metadata, data, label.block)
                self._mapper.create(self.pool, [table.target()])
        self.grow()

    def grow(self) -> bool:
        with self._lock:
            label = self._read()
            assert label is not None, f"{self._path} had a label and has none"
            size = kernel.block_size(self._path) // SECTOR
            if size - label.end >= 16 * _MIB // SECTOR:
                metadata, data = Label.divide(label.end, size, _MIB // SECTOR)
                label = replace(
                    label,
                    serial=label.serial + 1,
                    metadata=(*label.metadata, metadata),
                    data=(*label.data, data),
                )
                self._write(label)
            grown = False
            for what, name in self._parts.items():
                pieces = self._pieces(label, what)
                if sum(each.length for each in self._mapper.table(name)) < sum(each.length for each in pieces):
                    self._mapper.change(name, pieces)
                    grown = True
            table = self._table()
            length = sum(length for _, length in label.data)
            length -= length % table.block
            if grown or length > table.length:
                self._mapper.change(self.pool, [replace(table, length=length).target()])
                return True
            return False

    def close(self) -> None:
        self._leave([self.pool, *self._parts.values()])

    def _device(self, name: str) -> str:
        state = self._mapper.state(name)
        assert state is not None, f"{name} was made and is gone"
        return _devno(state.number)

    def _pieces(self, label: Label, what: str) -> list[Target]:
        table, at = [], 0
        device = _devno(os.stat(self._path).st_rdev)
        for start, length in label.metadata if what == "metadata" else label.data:
            table.append(Target(at, length, "linear", f"{device} {start}"))
            at += length
        return table

    def _label(self) -> Label:
        """The label; written where the device is blank. Declined where it holds something else."""
        try:
            known = self._known.read_text(encoding="ascii")
        except FileNotFoundError:
            known = ""
        label = self._read()
        if label is None and not known:
            self._refuse_what_is_in_use()
            size = kernel.block_size(self._path) // SECTOR
            if size < 32 * _MIB // SECTOR:
                raise Declined(f"{self._path} is too small for a thin pool: {said(size * SECTOR)}")
            metadata, data = Label.divide(_MIB // SECTOR, size, _METADATA_MIN // SECTOR)
            label = Label(secrets.token_hex(16), 1, self._block, (metadata,), (data,))
            self._wipe(metadata[0])
            self._write(label)
        if label is None:
            raise Declined(f"{self._path} has no label of this driver any more: is it the right device?")
        if known and label.id != known:
            raise Declined(f"{self._path} is another device than before (label {label.id}, not {known})")
        if not known:
            draft = self._known.with_name(self._known.name + ".new")
            draft.write_text(label.id, encoding="ascii")
            os.rename(draft, self._known)
        return label

    def _refuse_what_is_in_use(self) -> None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise Declined(f"{self._path} is in use: mounted, or a part of something") from error
            raise
        try:
            head = os.read(fd, _MIB)
        finally:
            os.close(fd)
        if head.strip(b"\0"):
            raise Declined(
                f"{self._path} is not empty; if what it holds is not needed, wipe its start: "
                f"dd if=/dev/zero of={self._path} bs=1M count=1"
            )

    def _read(self) -> Label | None:
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = [Label.unpack(os.pread(fd, Label.SIZE, place)) for place in Label.PLACES]
        finally:
            os.close(fd)
        return max((each for each in found if each is not None), key=lambda each: each.serial, default=None)

    def _write(self, label: Label) -> None:
        """One after the other: a torn write leaves the other one."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for place in Label.PLACES:
                os.pwrite(fd, label.pack(), place)
                os.fsync(fd)
        finally:
            os.close(fd)

    def _wipe(self, sector: int) -> None:
        """A pool is made where metadata starts with 4 KiB of zeroes, and read where it does not."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, bytes(4096), sector * SECTOR)
            os.fsync(fd)
        finally:
            os.close(fd)


def _devno(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"


def _number(device: str) -> int:
    major, _, minor = device.partition(":")
    return os.makedev(int(major), int(minor))


def _minor(device: str) -> int:
    return int(device.partition(":")[2])
