"""The device-mapper's control device: one method per ioctl command of linux/dm-ioctl.h, or per pair always used together.

There is neither libdevmapper nor udev in it. Device nodes are made here, at ``/dev/mapper/NAME``, where udev would have
put a link; whichever of the two is there, it is checked to lead to the device before it is used. Nothing is held open.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from . import kernel
from .sizes import SECTOR

__all__ = ["CONTROL", "DIRECTORY", "DeviceMapper", "Mapper", "State", "Target"]

DIRECTORY = "/dev/mapper"
CONTROL = f"{DIRECTORY}/control"

_VERSION = (4, 27, 0)  # DM_DEFERRED_REMOVE: Linux 3.13
# struct dm_ioctl: version[3], data_size, data_start, target_count, open_count, flags, event_nr, padding, dev, name, uuid
_HEAD = struct.Struct("=3I I I I i I I I Q 128s 129s 7x")
_SPEC = struct.Struct("=Q Q i I 16s")  # struct dm_target_spec: sector_start, length, status, next, target_type

_LIST_DEVICES, _DEV_CREATE, _DEV_REMOVE, _DEV_SUSPEND, _DEV_STATUS = 2, 3, 4, 6, 7
_TABLE_LOAD, _TABLE_CLEAR, _TABLE_STATUS, _TARGET_MSG = 9, 10, 12, 14

_READONLY, _SUSPEND, _STATUS_TABLE, _BUFFER_FULL = 1 << 0, 1 << 1, 1 << 4, 1 << 8
_SKIP_LOCKFS, _NOFLUSH, _DEFERRED_REMOVE = 1 << 10, 1 << 11, 1 << 17

_NAME_LIST = struct.Struct("=Q I")  # struct dm_name_list: dev, next; the name follows

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a table, or of a status: sectors of 512 bytes *start* to *start + length* are served by *kind*."""

    start: int
    length: int
    kind: str
    parameters: str


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a device. *number*: as st_rdev. *users*: how often it is open. *leaving*: goes at the last close."""

    number: int
    users: int
    read_only: bool
    leaving: bool


class Mapper(Protocol):
    """What the driver asks of a device-mapper; OSError is what the kernel says."""

    def devices(self) -> frozenset[str]:
        """Names of all devices."""

    def state(self, name: str) -> State | None:
        """What is known of a device; None: there is none of this name."""

    def create(self, name: str, table: Sequence[Target], *, read_only: bool = False) -> None:
        """Make a device with a live table. EEXIST or EBUSY: the name is taken."""

    def change(self, name: str, table: Sequence[Target]) -> None:
        """Put another table in place of a device's; what is under way is written out first."""

    def leave(self, name: str) -> bool:
        """Remove a device at once when nobody has it open, else at the last close. True: gone, or never there."""

    def stay(self, name: str) -> None:
        """Take `leave` back. ENXIO when it is gone already."""

    def table(self, name: str) -> list[Target]:
        """The table. ENXIO."""

    def status(self, name: str) -> list[Target]:
        """Each target's status, as it says it, without writing anything out. ENXIO."""

    def message(self, name: str, text: str) -> None:
        """Send a message to the target at sector 0."""

    def node(self, name: str) -> str:
        """The path of a device's node, made when it is not there. ENXIO."""

    def forget(self, name: str) -> None:
        """Remove the node of a device that is gone."""

    def tidy(self, prefix: str) -> None:
        """Remove nodes of devices named so that are gone: the kernel removed them, or a process died at it."""

    def discard(self, name: str, sectors: int) -> None:
        """Give up the content of a device."""

    def mounted(self, number: int, kind: str) -> bool:
        """Whether a file system of this kind is mounted from the device: others only look into it for a moment."""


class DeviceMapper:
    """The kernel's."""

    def devices(self) -> frozenset[str]:
        """DM_LIST_DEVICES."""
        _, data = _call(_LIST_DEVICES, "list devices", answer=16384)
        names = []
        at = 0
        while at + _NAME_LIST.size < len(data):
            number, following = _NAME_LIST.unpack_from(data, at)
            if number:
                names.append(data[at + _NAME_LIST.size :].split(b"\0", 1)[0].decode(errors="replace"))
            if not following:
                break
            at += following
        return frozenset(names)

    def state(self, name: str) -> State | None:
        """DM_DEV_STATUS."""
        try:
            head, _ = _call(_DEV_STATUS, f"look at {name}", name)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise
        return State(
            _number(head.dev), head.open_count, bool(head.flags & _READONLY), bool(head.flags & _DEFERRED_REMOVE)
        )

    def create(self, name: str, table: Sequence[Target], *, read_only: bool = False) -> None:
        """DM_DEV_CREATE, DM_TABLE_LOAD, DM_DEV_SUSPEND (which resumes): a device of *table*, or none at all."""
        _call(_DEV_CREATE, f"make {name}", name, uuid=f"pyd-{name}")
        try:
            self._load(name, table, read_only)
            _call(_DEV_SUSPEND, f"start {name}", name)
        except BaseException:
            _call(_DEV_REMOVE, f"remove {name}", name)
            raise

    def change(self, name: str, table: Sequence[Target]) -> None:
        """DM_TABLE_LOAD, suspend, resume."""
        self._load(name, table, read_only=False)
        try:
            _call(_DEV_SUSPEND, f"suspend {name}", name, flags=_SUSPEND)
        except OSError:
            _call(_TABLE_CLEAR, f"drop the new table of {name}", name)
            raise
        _call(_DEV_SUSPEND, f"resume {name}", name)

    def leave(self, name: str) -> bool:
        """DM_DEV_REMOVE with DM_DEFERRED_REMOVE, which the answer has where it was open."""
        try:
            head, _ = _call(_DEV_REMOVE, f"remove {name}", name, flags=_DEFERRED_REMOVE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return True
            raise
        return not head.flags & _DEFERRED_REMOVE

    def stay(self, name: str) -> None:
        """The message ``@cancel_deferred_remove``, which the core takes itself (dm-ioctl.c, message_for_md)."""
        self.message(name, "@cancel_deferred_remove")

    def table(self, name: str) -> list[Target]:
        """DM_TABLE_STATUS with DM_STATUS_TABLE_FLAG."""
        return _targets(name, _STATUS_TABLE)

    def status(self, name: str) -> list[Target]:
        """DM_TABLE_STATUS; DM_NOFLUSH: a thin pool would commit its metadata first."""
        return _targets(name, _NOFLUSH)

    def message(self, name: str, text: str) -> None:
        """DM_TARGET_MSG."""
        _call(_TARGET_MSG, f"tell {name}: {text}", name, payload=struct.pack("=Q", 0) + text.encode() + b"\0")

    def node(self, name: str) -> str:
        """mknod(2) aside and rename(2), unless something that leads to the device is there."""
        head, _ = _call(_DEV_STATUS, f"look at {name}", name)
        number = _number(head.dev)
        path = f"{DIRECTORY}/{name}"
        try:
            found = os.stat(path)
        except FileNotFoundError:
            pass
        else:
            if stat.S_ISBLK(found.st_mode) and found.st_rdev == number:
                return path
        draft = f"{DIRECTORY}/.{name}.{os.getpid()}"
        try:
            os.mknod(draft, stat.S_IFBLK | 0o600, number)
        except FileExistsError:  # of a process of this number that died here
            os.unlink(draft)
            os.mknod(draft, stat.S_IFBLK | 0o600, number)
        try:
            os.rename(draft, path)
        except BaseException:
            os.unlink(draft)
            raise
        return path

    def forget(self, name: str) -> None:
        """unlink(2)."""
        try:
            os.unlink(f"{DIRECTORY}/{name}")
        except FileNotFoundError:
            pass

    def tidy(self, prefix: str) -> None:
        """readdir(3), and unlink(2) of what DM_LIST_DEVICES does not know."""
        there = self.devices()
        for name in os.listdir(DIRECTORY):
            if name.startswith((prefix, f".{prefix}")) and name not in there:
                self.forget(name)

    def discard(self, name: str, sectors: int) -> None:
        """BLKDISCARD."""
        kernel.discard(self.node(name), sectors * SECTOR)

    def mounted(self, number: int, kind: str) -> bool:
        """ext4 and xfs have a directory in sysfs for each device they serve."""
        return os.path.exists(f"/sys/fs/{kind}/dm-{os.minor(number)}")

    @staticmethod
    def _load(name: str, table: Sequence[Target], read_only: bool) -> None:
        flags = _READONLY if read_only else 0
        doing = f"load the table of {name}"
        _call(_TABLE_LOAD, doing, name, flags=flags, count=len(table), payload=pack_table(table))


def pack_table(table: Sequence[Target]) -> bytes:
    """struct dm_target_spec with its parameters behind it, one after the other, each padded to eight bytes."""
    packed = b""
    for target in table:
        parameters = target.parameters.encode() + b"\0"
        parameters += b"\0" * (-len(parameters) % 8)
        packed += _SPEC.pack(target.start, target.length, 0, _SPEC.size + len(parameters), target.kind.encode())
        packed += parameters
    return packed


def unpack_table(data: bytes, count: int) -> list[Target]:
    """The answer to DM_TABLE_STATUS: here *next* counts from the first spec."""
    targets = []
    at = 0
    for _ in range(count):
        start, length, _, following, kind = _SPEC.unpack_from(data, at)
        parameters = data[at + _SPEC.size :].split(b"\0", 1)[0].decode(errors="replace")
        targets.append(Target(start, length, kind.split(b"\0", 1)[0].decode(), parameters.strip()))
        at = following
    return targets


@dataclass(frozen=True, slots=True)
class _Head:
    data_start: int
    target_count: int
    open_count: int
    flags: int
    dev: int


def _call(
    command: int, doing: str, name: str = "", *, uuid: str = "", flags: int = 0, count: int = 0, payload: bytes = b"",
    answer: int = 0,
) -> tuple[_Head, bytes]:  # fmt: skip
    """One ioctl on a control device opened for it. *answer*: bytes to make room for, more when that is not enough.

    Through ctypes, which lets other threads run meanwhile; fcntl.ioctl does so for buffers up to 1024 bytes only.
    """
    while True:
        size = _HEAD.size + max(len(payload), answer)
        head = _HEAD.pack(*_VERSION, size, _HEAD.size, count, 0, flags, 0, 0, 0, name.encode(), uuid.encode())
        buffer = ctypes.create_string_buffer(head + payload, size)
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            failed = _libc.ioctl(control, ctypes.c_ulong(request(command)), buffer)
            number = ctypes.get_errno()
        finally:
            os.close(control)
        if failed:
            raise OSError(number, f"device-mapper: {doing}: {os.strerror(number)}")
        fields = _HEAD.unpack_from(buffer.raw)
        start, targets, users, flags_out, dev = fields[4], fields[5], fields[6], fields[7], fields[10]
        if flags_out & _BUFFER_FULL:
            answer = max(answer, 1024) * 4
            continue
        return _Head(start, targets, users, flags_out, dev), buffer.raw[start:]


def request(command: int) -> int:
    """_IOWR(0xfd, command, struct dm_ioctl)."""
    return 3 << 30 | _HEAD.size << 16 | 0xFD << 8 | command


def _targets(name: str, flags: int) -> list[Target]:
    head, data = _call(_TABLE_STATUS, f"ask {name} for its state", name, flags=flags, answer=1024)
    return unpack_table(data, head.target_count)


def _number(dev: int) -> int:
    """The kernel's huge_encode_dev to glibc's dev_t."""
    return os.makedev((dev >> 8) & 0xFFF, (dev & 0xFF) | ((dev >> 12) & 0xFFF00))
