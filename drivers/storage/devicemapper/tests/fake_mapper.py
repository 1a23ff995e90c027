"""A device-mapper in memory, with one thin pool whose devices hold directories.

It keeps what matters of the kernel's promises: ids are unique, a snapshot is a copy of the moment, an active device cannot be
deleted, an open one cannot be removed but leaves later, a pool's transaction is set only by who knows the present one. What is
in it outlives a driver, as a pool outlives a daemon: all mappers on one disk share it.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyd_contracts.values import Mount
from pyd_storage_devicemapper.filesystems import FileSystem
from pyd_storage_devicemapper.mapper import State, Target

__all__ = ["Directories", "FakeMapper", "FakeVolumes"]

POOL = "fake-pool"


@dataclass(slots=True)
class Device:
    table: list[Target]
    read_only: bool
    number: int
    users: int = 0
    leaving: bool = False
    mounted: bool = False


@dataclass(slots=True)
class Disk:
    """The pool: thin devices and their directories, and which devices the kernel has."""

    place: Path
    transaction: int = 0
    thin: set[int] = field(default_factory=set)
    devices: dict[str, Device] = field(default_factory=dict)
    total: int = 1000
    used: int = 0
    metadata: tuple[int, int] = (10, 1000)
    mode: str = "rw"
    log: list[str] = field(default_factory=list)
    numbers: int = 0


_DISKS: dict[Path, Disk] = {}


def _no(number: int, what: str) -> OSError:
    return OSError(number, f"{what}: {os.strerror(number)}")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        full = os.strerror(errno.ENOSPC) in done.stderr
        raise OSError(errno.ENOSPC if full else errno.EIO, f"{' '.join(command)}: {done.stderr}")
    return done.stdout


class FakeMapper:
    """Mapper over a disk at *place*."""

    def __init__(self, place: Path) -> None:
        if place not in _DISKS:
            _run("mkdir", "-p", str(place))
            _DISKS[place] = Disk(place)
        self.disk = _DISKS[place]

    # --- what others do ------------------------------------------------------------------------------------------

    def open(self, name: str, *, mounted: bool = True) -> None:
        """Somebody opens a device, or mounts it."""
        self.disk.devices[name].users += 1
        self.disk.devices[name].mounted |= mounted

    def shut(self, name: str) -> None:
        """And closes it: the last one out."""
        device = self.disk.devices[name]
        device.users -= 1
        if not device.users:
            device.mounted = False
            if device.leaving:
                del self.disk.devices[name]

    # --- Mapper --------------------------------------------------------------------------------------------------

    def devices(self) -> frozenset[str]:
        return frozenset(self.disk.devices)

    def state(self, name: str) -> State | None:
        device = self.disk.devices.get(name)
        return device and State(device.number, device.users, device.read_only, device.leaving)

    def create(self, name: str, table: Sequence[Target], *, read_only: bool = False) -> None:
        self.disk.log.append(f"create {name}")
        if name in self.disk.devices:
            raise _no(errno.EBUSY, f"create {name}")
        for target in table:
            if target.kind == "thin":
                thin = self._thin(target)
                if thin not in self.disk.thin:
                    raise _no(errno.ENODATA, f"create {name}")
                if self._active(thin):
                    raise _no(errno.EBUSY, f"create {name}")
        self.disk.numbers += 1
        self.disk.devices[name] = Device(list(table), read_only, os.makedev(253, self.disk.numbers))

    def change(self, name: str, table: Sequence[Target]) -> None:
        self._device(name).table = list(table)

    def leave(self, name: str) -> bool:
        self.disk.log.append(f"leave {name}")
        if name not in self.disk.devices:
            return True
        if self.disk.devices[name].users:
            self.disk.devices[name].leaving = True
            return False
        del self.disk.devices[name]
        return True

    def stay(self, name: str) -> None:
        self._device(name).leaving = False

    def table(self, name: str) -> list[Target]:
        return self._device(name).table

    def status(self, name: str) -> list[Target]:
        disk, (target,) = self.disk, self._device(name).table
        if target.kind == "thin":
            held = _run("du", "-s", "-B512", str(self._directory(self._thin(target)))).split()[0]
            return [Target(0, target.length, "thin", f"{held} 0")]
        used, total = disk.metadata
        counts = f"{disk.transaction} {used}/{total} {disk.used}/{disk.total}"
        words = f"{counts} - {disk.mode} discard_passdown error_if_no_space - 64"
        return [Target(0, target.length, "thin-pool", words)]

    def message(self, name: str, text: str) -> None:
        self.disk.log.append(text)
        self._device(name)
        words = text.split()
        match words[0], [int(word) for word in words[1:]]:
            case "set_transaction_id", [old, new]:
                if old != self.disk.transaction:
                    raise _no(errno.EINVAL, text)
                self.disk.transaction = new
            case "create_thin", [thin]:
                self._new(thin, text)
                _run("mkdir", str(self._directory(thin)))
                self.disk.thin.add(thin)
            case "create_snap", [thin, origin]:
                self._new(thin, text)
                if origin not in self.disk.thin:
                    raise _no(errno.ENODATA, text)
                assert not any(
                    device.users and not device.read_only
                    for device in self.disk.devices.values()
                    if device.table[0].kind == "thin" and self._thin(device.table[0]) == origin
                ), "a snapshot of what somebody writes to"
                try:
                    _run("cp", "-aT", "--reflink=auto", str(self._directory(origin)), str(self._directory(thin)))
                except OSError:
                    _run("rm", "-rf", str(self._directory(thin)))
                    raise
                self.disk.thin.add(thin)
            case "delete", [thin]:
                if thin not in self.disk.thin:
                    raise _no(errno.ENODATA, text)
                if self._active(thin):
                    raise _no(errno.EBUSY, text)
                _run("rm", "-rf", str(self._directory(thin)))
                self.disk.thin.discard(thin)
            case _:
                raise _no(errno.EINVAL, text)

    def node(self, name: str) -> str:
        return str(self._directory(self._thin(self._device(name).table[0])))

    def forget(self, name: str) -> None:
        assert name not in self.disk.devices

    def tidy(self, prefix: str) -> None:
        """There are no nodes."""

    def discard(self, name: str, sectors: int) -> None:
        assert not self._device(name).users

    def mounted(self, number: int, kind: str) -> bool:
        return any(device.mounted for device in self.disk.devices.values() if device.number == number)

    # --- inside --------------------------------------------------------------------------------------------------

    def _device(self, name: str) -> Device:
        if name not in self.disk.devices:
            raise _no(errno.ENXIO, name)
        return self.disk.devices[name]

    def _directory(self, thin: int) -> Path:
        return self.disk.place / str(thin)

    def _new(self, thin: int, text: str) -> None:
        if self.disk.mode != "rw":
            raise _no(errno.EROFS, text)
        if thin in self.disk.thin:
            raise _no(errno.EEXIST, text)

    def _active(self, thin: int) -> bool:
        tables = (device.table[0] for device in self.disk.devices.values())
        return any(target.kind == "thin" and self._thin(target) == thin for target in tables)

    @staticmethod
    def _thin(target: Target) -> int:
        found = re.fullmatch(r"\d+:\d+ (\d+)", target.parameters)
        assert found is not None, target
        return int(found[1])


@dataclass(frozen=True, slots=True)
class Directories(FileSystem):
    """A "file system" that is a directory: it is bound where others are mounted."""

    def mount(self, node: str, *, read_only: bool, extra: Sequence[str] = ()) -> Mount:
        return Mount("bind", node, ("rbind", "ro" if read_only else "rw"))

    def check(self, size: int) -> None:
        """Nothing is needed."""

    def format(self, node: str) -> None:
        _run("chmod", "0755", node)

    def bound(self, node: str, sectors: int, size: int, lengthen: Callable[[int], None]) -> int:
        wanted = size // 512
        if wanted > sectors:
            lengthen(wanted)
        return max(wanted, sectors)

    def unbound(self, node: str, sectors: int, usual: int, lengthen: Callable[[int], None]) -> int:
        return sectors


class FakeVolumes:
    """Volumes whose pool can be there already."""

    pool = POOL
    help = "help yourself"

    def __init__(self, mapper: FakeMapper) -> None:
        self._mapper = mapper
        self.grown = 0
        self.grows_by = 0

    def open(self) -> None:
        if POOL not in self._mapper.disk.devices:
            target = Target(0, 128000, "thin-pool", "7:0 7:1 128 0 1 error_if_no_space")
            self._mapper.create(POOL, [target])

    def grow(self) -> bool:
        self.grown += 1
        self._mapper.disk.total += self.grows_by
        return self.grows_by > 0

    def close(self) -> None:
        """A pool that others use stays."""
