"""What this driver asks of the kernel: one function per system call or ioctl, named as btrfs-ioctl(2) and linux/btrfs.h do.

No program of btrfs-progs is used. Structures are packed by hand; their layouts are ABI and the same on every
architecture (all fields have fixed sizes, all offsets are natural).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pyd_snapshots.syscalls import libc

__all__ = [
    "BTRFS",
    "FIRST_FREE_OBJECTID",
    "ROOT_TREE",
    "Item",
    "Subvolume",
    "clean",
    "flags_clear",
    "is_subvolume",
    "open_inode",
    "qgroup_assign",
    "qgroup_create",
    "qgroup_limit",
    "quota_enable",
    "snapshot_create",
    "snapshot_destroy",
    "subvolume_create",
    "subvolume_exists",
    "subvolume_id",
    "subvolume_info",
    "subvolume_read_only",
    "tree_search",
]

BTRFS = 0x9123683E  # BTRFS_SUPER_MAGIC, linux/magic.h
ROOT_TREE = 1  # BTRFS_ROOT_TREE_OBJECTID: knows all subvolumes
FIRST_FREE_OBJECTID = 256  # BTRFS_FIRST_FREE_OBJECTID: the inode number of every subvolume's top
_RDONLY = 1 << 1  # BTRFS_SUBVOL_RDONLY
_MOST = (1 << 64) - 1
_SEARCH_BUFFER = 256 << 10  # bytes; the largest item is smaller than a node, and nodes are 64 KiB at most


def _code(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | 0x94 << 8 | number  # asm-generic/ioctl.h; BTRFS_IOCTL_MAGIC


_W, _R, _WR = 1, 2, 3
_SNAP_DESTROY = _code(_W, 15, 4096)
_TREE_SEARCH_V2 = _code(_WR, 17, 112)
_INO_LOOKUP = _code(_WR, 18, 4096)
_SNAP_CREATE_V2 = _code(_W, 23, 4096)
_SUBVOL_CREATE_V2 = _code(_W, 24, 4096)
_SUBVOL_GETFLAGS = _code(_R, 25, 8)
_SUBVOL_SETFLAGS = _code(_W, 26, 8)
_QUOTA_CTL = _code(_WR, 40, 16)
_QGROUP_ASSIGN = _code(_W, 41, 24)
_QGROUP_CREATE = _code(_W, 42, 16)
_QGROUP_LIMIT = _code(_R, 43, 48)
_GET_SUBVOL_INFO = _code(_R, 60, 504)
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS: ioctl_iflags(2), linux/fs.h
_LOCKS = 0x10 | 0x20  # FS_IMMUTABLE_FL | FS_APPEND_FL


def _ioctl(fd: int, code: int, argument: bytearray | int, doing: str) -> None:
    try:
        if isinstance(argument, int):
            fcntl.ioctl(fd, code, argument)
        else:
            fcntl.ioctl(fd, code, argument, True)
    except OSError as error:
        raise OSError(error.errno, f"{doing}: {os.strerror(error.errno or 0)}") from error


# --- subvolumes --------------------------------------------------------------------------------------------------


def is_subvolume(status: os.stat_result) -> bool:
    """Whether a directory that is known to lie on btrfs is the top of a subvolume."""
    return status.st_ino == FIRST_FREE_OBJECTID


def _named(name: bytes, fd: int = 0, flags: int = 0) -> bytearray:
    # struct btrfs_ioctl_vol_args_v2 { s64 fd; u64 transid, flags; u64 unused[4]; char name[4040]; }
    return bytearray(struct.pack("=qQQ32x4040s", fd, 0, flags, name))


def subvolume_create(directory: int, name: bytes) -> None:
    """BTRFS_IOC_SUBVOL_CREATE_V2: an empty subvolume *name* in an open directory; its mode is 0777 less the umask."""
    _ioctl(directory, _SUBVOL_CREATE_V2, _named(name), "create a subvolume")


def snapshot_create(source: int, directory: int, name: bytes) -> None:
    """BTRFS_IOC_SNAP_CREATE_V2: a writable snapshot *name* of the subvolume *source*. Commits the transaction."""
    _ioctl(directory, _SNAP_CREATE_V2, _named(name, source), "create a snapshot")


def snapshot_destroy(directory: int, name: bytes) -> None:
    """BTRFS_IOC_SNAP_DESTROY: out of sight at once, its blocks freed by the kernel later.

    PermissionError also for immutable or append-only flags, EROFS below a read-only subvolume, ENOTEMPTY while other
    subvolumes are in it.
    """
    # struct btrfs_ioctl_vol_args { s64 fd; char name[4088]; }
    _ioctl(directory, _SNAP_DESTROY, bytearray(struct.pack("=q4088s", 0, name)), "destroy a subvolume")


def subvolume_read_only(fd: int, wanted: bool | None = None) -> bool:
    """BTRFS_IOC_SUBVOL_GETFLAGS and, when that is not what is *wanted*, SETFLAGS. Returns what it was before."""
    buffer = bytearray(8)
    _ioctl(fd, _SUBVOL_GETFLAGS, buffer, "read a subvolume's flags")
    (flags,) = struct.unpack("=Q", buffer)
    before = bool(flags & _RDONLY)
    if wanted is not None and wanted != before:
        flags = flags | _RDONLY if wanted else flags & ~_RDONLY
        _ioctl(fd, _SUBVOL_SETFLAGS, bytearray(struct.pack("=Q", flags)), "change a subvolume's flags")
    return before


def subvolume_id(fd: int) -> int:
    """BTRFS_IOC_INO_LOOKUP: the id of the subvolume that an open file lies in."""
    # struct btrfs_ioctl_ino_lookup_args { u64 treeid, objectid; char name[4080]; }
    buffer = bytearray(struct.pack("=QQ4080x", 0, FIRST_FREE_OBJECTID))
    _ioctl(fd, _INO_LOOKUP, buffer, "look up a subvolume's id")
    return int(struct.unpack_from("=Q", buffer)[0])


@dataclass(frozen=True, slots=True)
class Subvolume:
    """A subvolume: *origin* is the *uuid* of what it is a snapshot of, *since* the last transaction that is not its own
    (the snapshot's); empty and 0 for one that began empty.
    """

    id: int
    since: int
    uuid: bytes
    origin: bytes


def subvolume_exists(fd: int, number: int, *, named: bool = False) -> bool:
    """Whether there is a subvolume of this id. One that is destroyed has no name, and is there until its blocks are free."""
    kind = 144 if named else 132  # BTRFS_ROOT_BACKREF_KEY, BTRFS_ROOT_ITEM_KEY
    return any(tree_search(fd, ROOT_TREE, (number, kind, 0), (number, kind, _MOST), buffer=4096))


def subvolume_info(fd: int) -> Subvolume:
    """BTRFS_IOC_GET_SUBVOL_INFO (Linux 4.18) of the subvolume that an open file lies in."""
    # struct btrfs_ioctl_get_subvol_info_args { u64 treeid; char name[256]; u64 parent_id, dirid, generation, flags;
    #   u8 uuid[16], parent_uuid[16], received_uuid[16]; u64 ctransid, otransid, ...; }
    buffer = bytearray(504)
    _ioctl(fd, _GET_SUBVOL_INFO, buffer, "read what a subvolume is")
    (number,) = struct.unpack_from("=Q", buffer)
    uuid, parent = bytes(buffer[296:312]), bytes(buffer[312:328])
    (otransid,) = struct.unpack_from("=Q", buffer, 352)
    return Subvolume(number, otransid, uuid, parent) if any(parent) else Subvolume(number, 0, uuid, b"")


def open_inode(fd: int, subvolume: int, inode: int, flags: int = os.O_RDONLY) -> int:
    """open_by_handle_at(2): an inode of a subvolume, wherever it lies, however long its path is.

    *fd* is any file of the same mount. FileNotFoundError when it is gone.
    """
    # struct file_handle { u32 handle_bytes; s32 handle_type; } and struct btrfs_fid { u64 objectid, root_objectid;
    # u32 gen; }, fs/btrfs/export.h. The type says "without a parent"; generation 0 takes any.
    handle = struct.pack("=IiQQI", 20, 0x4D, inode, subvolume, 0)
    opened = int(libc.open_by_handle_at(fd, handle, flags | os.O_CLOEXEC))
    if opened < 0:
        number = ctypes.get_errno()
        number = errno.ENOENT if number == errno.ESTALE else number
        raise OSError(number, f"open inode {inode} of subvolume {subvolume}: {os.strerror(number)}")
    return opened


def flags_clear(fd: int) -> None:
    """FS_IOC_SETFLAGS: take the immutable and append-only flags from an open file or directory."""
    buffer = bytearray(4)
    _ioctl(fd, _GETFLAGS, buffer, "read inode flags")
    (flags,) = struct.unpack("=i", buffer)
    if flags & _LOCKS:
        _ioctl(fd, _SETFLAGS, bytearray(struct.pack("=i", flags & ~_LOCKS)), "change inode flags")


def clean(fd: int) -> None:
    """BTRFS_IOC_SYNC: as syncfs(2), and sets the kernel's cleaner on what is destroyed."""
    _ioctl(fd, 0x9408, 0, "sync")


# --- trees -------------------------------------------------------------------------------------------------------

Item = tuple[int, int, int, memoryview]
"""Object id, type and offset of a key, and the item's bytes, good until the next one is asked for."""


def tree_search(
    fd: int,
    tree: int,
    first: tuple[int, int, int] = (0, 0, 0),
    last: tuple[int, int, int] = (_MOST, 0xFF, _MOST),
    since: int = 0,
    buffer: int = _SEARCH_BUFFER,
) -> Iterator[Item]:
    """BTRFS_IOC_TREE_SEARCH_V2: the items of a tree from key *first* to key *last*, in order; both are of all three.

    Leaves that no transaction after *since* has written are passed over, with all that is above them: what is not new
    costs nothing. *buffer*: bytes to ask for at once. FileNotFoundError when there is no such tree.
    """
    block = bytearray(112 + buffer)
    view = memoryview(block)
    at = first
    while at <= last:
        # struct btrfs_ioctl_search_key { u64 tree_id, min_objectid, max_objectid, min_offset, max_offset, min_transid,
        #   max_transid; u32 min_type, max_type, nr_items, unused; u64 unused[4]; }, u64 buf_size
        struct.pack_into(
            "=7Q4I4QQ", block, 0, tree, at[0], last[0], at[2], last[2], since + 1 if since else 0, _MOST,
            at[1], last[1], 0xFFFFFFFF, 0, 0, 0, 0, 0, buffer,
        )  # fmt: skip
        _ioctl(fd, _TREE_SEARCH_V2, block, f"search tree {tree}")
        (count,) = struct.unpack_from("=I", block, 64)
        if not count:
            return
        place = 112
        objectid = kind = offset = 0
        for _ in range(count):
            # struct btrfs_ioctl_search_header { u64 transid, objectid, offset; u32 type, len; }
            objectid, offset, kind, length = struct.unpack_from("=8xQQII", block, place)
            place += 32
            yield objectid, kind, offset, view[place : place + length]
            place += length
        at = (objectid, kind, offset + 1) if offset < _MOST else (objectid, kind + 1, 0)


# --- quota -------------------------------------------------------------------------------------------------------


def quota_enable(fd: int, *, simple: bool) -> None:
    """BTRFS_IOC_QUOTA_CTL. InvalidArgument (EINVAL) where the kernel knows no simple quotas (before Linux 6.7)."""
    _ioctl(fd, _QUOTA_CTL, bytearray(struct.pack("=QQ", 4 if simple else 1, 0)), "enable quotas")


def qgroup_create(fd: int, group: int, *, create: bool) -> None:
    """BTRFS_IOC_QGROUP_CREATE: make a group, or remove one."""
    what = "create" if create else "remove"
    _ioctl(fd, _QGROUP_CREATE, bytearray(struct.pack("=QQ", create, group)), f"{what} quota group {_group(group)}")


def qgroup_assign(fd: int, member: int, group: int, *, assign: bool) -> None:
    """BTRFS_IOC_QGROUP_ASSIGN: make one group a member of another, or no longer one."""
    argument = bytearray(struct.pack("=QQQ", assign, member, group))
    _ioctl(fd, _QGROUP_ASSIGN, argument, f"assign quota group {_group(member)} to {_group(group)}")


def qgroup_limit(fd: int, group: int, exclusive: int | None) -> None:
    """BTRFS_IOC_QGROUP_LIMIT: bound the bytes that belong to a group alone; None takes the bound away."""
    # struct { u64 qgroupid; u64 flags, max_rfer, max_excl, rsv_rfer, rsv_excl; }; BTRFS_QGROUP_LIMIT_MAX_EXCL is 1 << 1,
    # and all bits (CLEAR_VALUE) clear it
    argument = bytearray(struct.pack("=6Q", group, 1 << 1, 0, _MOST if exclusive is None else exclusive, 0, 0))
    _ioctl(fd, _QGROUP_LIMIT, argument, f"limit quota group {_group(group)}")


def _group(group: int) -> str:
    return f"{group >> 48}/{group & (1 << 48) - 1}"
