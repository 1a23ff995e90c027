"""The file systems on thin devices: made once, with the base, and from then on only copied and given other sizes.

Enlarging and quotas are ioctls on a detached mount (`kernel.mounted`): no program is started, no mount table shows anything.
Only an ext4 that is to become smaller needs its program.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from pyd_contracts.errors import Declined, DriverFault
from pyd_contracts.values import Mount

from . import kernel
from .sizes import SECTOR, said

__all__ = ["FILE_SYSTEMS", "FileSystem"]

_BLOCK = 4096
_PER_BLOCK = _BLOCK // SECTOR
_PROJECT = 7096  # what all files of an xfs belong to, so that its quota bounds what is added

Lengthen = Callable[[int], None]
"""Gives a device another length, in sectors."""


@dataclass(frozen=True, slots=True)
class FileSystem(ABC):
    """One kind.

    package  where Debian has its programs     make  mkfs(8) and its arguments; the device follows
    least    the smallest size in bytes        options, writable  mount options: of all, of writable mounts
    """

    kind: str
    package: str
    make: tuple[str, ...]
    least: int
    options: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()

    def mount(self, node: str, *, read_only: bool, extra: Sequence[str] = ()) -> Mount:
        """How a device is mounted."""
        more = ("ro",) if read_only else (*self.writable, *extra)
        return Mount(self.kind, node, (*self.options, *more))

    def check(self, size: int) -> None:
        """Declined where a file system of this kind cannot be made here."""
        if shutil.which(self.make[0], path=_path()) is None:
            raise Declined(f"{self.make[0]} is not installed (Debian: {self.package}); the base is made with it, once")
        if size < self.least:
            raise Declined(f"base-size: {said(size)} are too little for {self.kind}, {said(self.least)} is the least")

    def format(self, node: str) -> None:
        """Make an empty file system: nothing but a root directory 0755. OSError, DriverFault."""
        _run(*self.make, node)
        with self._open(node) as top:
            for name in os.listdir(top):  # ext4's lost+found: an image brings its own, or none
                os.rmdir(name, dir_fd=top)
            os.fchmod(top, 0o755)
            self._prepare(top)

    @abstractmethod
    def bound(self, node: str, sectors: int, size: int, lengthen: Lengthen) -> int:
        """Let *size* bytes, about, be added to what there is, and no more. The length of the device then.

        sectors  its length now. OSError, DriverFault.
        """

    @abstractmethod
    def unbound(self, node: str, sectors: int, usual: int, lengthen: Lengthen) -> int:
        """Take that back: there is as much room as in any other, whose devices have *usual* sectors."""

    def _prepare(self, top: int) -> None:
        """What else a new one needs; nothing, for most kinds."""
        del top

    def _open(self, node: str) -> AbstractContextManager[int]:
        mount = self.mount(node, read_only=False)
        return kernel.mounted(mount.type, mount.source, mount.options)


class _Ext4(FileSystem):
    """Its size is the bound: root may exceed a quota of ext4 (CAP_SYS_RESOURCE), and privileged containers have that."""

    __slots__ = ()

    def bound(self, node: str, sectors: int, size: int, lengthen: Lengthen) -> int:
        with self._open(node) as top:
            room = os.fstatvfs(top)
            blocks = sectors // _PER_BLOCK + size // _BLOCK - room.f_bfree
            if size // _BLOCK > room.f_bfree:  # more groups have more tables of inodes, at 256 bytes in 16 KiB
                blocks += (size // _BLOCK - room.f_bfree) // 50
                lengthen(blocks * _PER_BLOCK)
                kernel.grow_ext4(top, blocks)
                return blocks * _PER_BLOCK
        _run("resize2fs", "-f", node, str(blocks))
        lengthen(blocks * _PER_BLOCK)
        return blocks * _PER_BLOCK

    def unbound(self, node: str, sectors: int, usual: int, lengthen: Lengthen) -> int:
        if sectors >= usual:
            return sectors
        with self._open(node) as top:
            lengthen(usual)
            kernel.grow_ext4(top, usual // _PER_BLOCK)
        return usual


class _Xfs(FileSystem):
    """It never becomes smaller: a project quota is the bound, which is everybody's in xfs, and it grows where it must."""

    __slots__ = ()

    def bound(self, node: str, sectors: int, size: int, lengthen: Lengthen) -> int:
        with self._open(node) as top:
            room = os.fstatvfs(top)
            lacking = size // _BLOCK - room.f_bfree
            if lacking > 0:
                blocks = sectors // _PER_BLOCK + lacking + lacking // 50
                sectors = blocks * _PER_BLOCK
                lengthen(sectors)
                kernel.grow_xfs(top, blocks)
            kernel.project_limit(node, _PROJECT, kernel.project_used(node, _PROJECT) + size)
        return sectors

    def unbound(self, node: str, sectors: int, usual: int, lengthen: Lengthen) -> int:
        with self._open(node):
            kernel.project_limit(node, _PROJECT, 0)
        return sectors

    def _prepare(self, top: int) -> None:
        kernel.set_project(top, _PROJECT)


# Blocks of nought are not written: a thin device reads as zeroes where nothing was written, and a pool zeroes what it
# gives out. noinit_itable: else ext4 would write all inode tables of every snapshot in the background. prjquota in every
# mount: without it, xfs would count all files anew at the next mount with it.
FILE_SYSTEMS: dict[str, FileSystem] = {
    "ext4": _Ext4(
        "ext4",
        "e2fsprogs",
        ("mkfs.ext4", "-q", "-F", "-b", str(_BLOCK), "-I", "256", "-i", "16384", "-m", "0",
         "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"),
        16 << 20,
        writable=("noinit_itable",),
    ),
    "xfs": _Xfs(
        "xfs",
        "xfsprogs",
        ("mkfs.xfs", "-q", "-f", "-K", "-b", f"size={_BLOCK}"),
        300 << 20,
        options=("nouuid",),
        writable=("prjquota",),
    ),
}  # fmt: skip


def _path() -> str:
    """Where programs are looked for: a daemon's PATH may be a user's."""
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def _run(*command: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        env={"PATH": _path(), "LC_ALL": "C"},
    )  # fmt: skip
    if done.returncode:
        raise DriverFault(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
