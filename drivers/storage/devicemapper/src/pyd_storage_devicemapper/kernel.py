"""What this driver asks of the kernel besides the device-mapper: block devices, loop devices, detached mounts."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pyd_snapshots import syscalls

__all__ = [
    "block_size",
    "discard",
    "file_of_loop",
    "grow_ext4",
    "grow_xfs",
    "knows_id_maps",
    "loop_attach",
    "loop_grow",
    "mounted",
    "project_limit",
    "project_used",
    "set_project",
]

# linux/fs.h
_BLKDISCARD = 0x1277
_BLKGETSIZE64 = 0x80081272
# linux/loop.h
_LOOP_CONFIGURE, _LOOP_SET_CAPACITY, _LOOP_CTL_GET_FREE = 0x4C0A, 0x4C07, 0x4C82
_LO_FLAGS_AUTOCLEAR, _LO_FLAGS_DIRECT_IO = 4, 16
# struct loop_config: fd, block_size, struct loop_info64 (device, inode, rdevice, offset, sizelimit, number, encrypt_type,
# encrypt_key_size, flags, file_name, crypt_name, encrypt_key, init[2]), reserved[8]
_LOOP_CONFIG = struct.Struct("=I I 5Q 4I 64s 64s 32s 2Q 64x")
# fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h
_EXT4_IOC_RESIZE_FS = 0x40086610  # _IOW('f', 16, __u64)
_XFS_IOC_FSGROWFSDATA = 0x4010586E  # _IOW('X', 110, struct xfs_growfs_data {__u64 newblocks; __u32 imaxpct;})
_XFS_IOC_FSGEOMETRY_V1 = 0x80705864  # _IOR('X', 100, struct xfs_fsop_geom_v1), 112 bytes
# linux/fs.h; struct fsxattr: xflags, extsize, nextents, projid, cowextsize, pad[8]
_FS_IOC_FSGETXATTR, _FS_IOC_FSSETXATTR, _FS_XFLAG_PROJINHERIT = 0x801C581F, 0x401C5820, 0x200
_FSXATTR = struct.Struct("=5I 8x")
# linux/dqblk_xfs.h, which every file system with quotas understands; struct fs_disk_quota: version, flags, fieldmask, id,
# blk_hardlimit, blk_softlimit, ino_hardlimit, ino_softlimit, bcount, icount, and what is not asked for. Units of 512 bytes.
_FS_DISK_QUOTA = struct.Struct("=b b H I 6Q 56x")
_Q_XGETQUOTA, _Q_XSETQLIM, _PRJQUOTA = 0x5803, 0x5804, 2
_FS_PROJ_QUOTA, _FS_DQ_BHARD = 2, 1 << 3
_MOUNT_SETATTR = 442  # the same on every architecture but alpha: include/uapi/asm-generic/unistd.h


def block_size(path: str) -> int:
    """ioctl_blkgetsize64(2): the bytes of a block device."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(struct.unpack("=Q", fcntl.ioctl(fd, _BLKGETSIZE64, b"\0" * 8))[0])
    finally:
        os.close(fd)


def discard(path: str, size: int) -> None:
    """BLKDISCARD of the first *size* bytes of a block device: as blkdiscard(8)."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _BLKDISCARD, struct.pack("=QQ", 0, size))
    finally:
        os.close(fd)


def knows_id_maps() -> bool:
    """Whether there is mount_setattr(2): ext4 and xfs could be id-mapped from the first kernel with it (Linux 5.12)."""
    try:
        syscalls.syscall(_MOUNT_SETATTR, "mount_setattr", -1, b"", 0, None, 0)
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True


# --- loop devices ----------------------------------------------------------------------------------------------------


def loop_attach(path: str) -> int:
    """A descriptor of a new loop device over *path* that ends with its last user (LOOP_CONFIGURE, Linux 5.8).

    Direct I/O is used where the file system can do it: else every block would be cached twice.
    """
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    backing = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            loop = os.open(_loop_node(number), os.O_RDWR | os.O_CLOEXEC)
            try:
                _configure(loop, backing, path)
            except OSError as error:
                os.close(loop)
                if error.errno != errno.EBUSY:  # somebody else took this one
                    raise
                continue
            return loop
    finally:
        os.close(backing)
        os.close(control)


def loop_grow(path: str) -> None:
    """LOOP_SET_CAPACITY: the loop device *path* gets the size that its file has now."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _LOOP_SET_CAPACITY)
    finally:
        os.close(fd)


def file_of_loop(number: int) -> str | None:
    """The file behind the loop device of this st_rdev (loop(4), sysfs); None when it is no loop device."""
    try:
        with open(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/loop/backing_file", "rb") as file:
            return os.fsdecode(file.read().rstrip(b"\n"))
    except FileNotFoundError:
        return None


def _configure(loop: int, backing: int, path: str) -> None:
    name = os.fsencode(path)[-63:]
    for flags in (_LO_FLAGS_AUTOCLEAR | _LO_FLAGS_DIRECT_IO, _LO_FLAGS_AUTOCLEAR):
        config = _LOOP_CONFIG.pack(backing, 0, 0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
        try:
            fcntl.ioctl(loop, _LOOP_CONFIGURE, config)
        except OSError as error:
            if error.errno != errno.EINVAL or not flags & _LO_FLAGS_DIRECT_IO:
                raise
            continue
        return


def _loop_node(number: int) -> str:
    """The node of a loop device; made when there is no udev and no devtmpfs to have made it."""
    path = f"/dev/loop{number}"
    if not os.path.exists(path):
        try:
            os.mknod(path, 0o060600, os.makedev(7, number))
        except FileExistsError:
            pass
    return path


# --- file systems ----------------------------------------------------------------------------------------------------


@contextmanager
def mounted(kind: str, source: str, options: Sequence[str]) -> Iterator[int]:
    """A mount that no mount table shows, as a descriptor; it ends with the block, or with the process (fsopen(2))."""
    with ExitStack() as held:
        fs = syscalls.fsopen(kind)
        held.callback(os.close, fs)
        for option in (f"source={source}", *options):
            syscalls.fsconfig_option(fs, option)
        syscalls.fsconfig_create(fs, f"{kind} of {source}")
        mount = syscalls.fsmount(fs, kind)
        held.callback(os.close, mount)
        top = os.open(f"/proc/self/fd/{mount}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, top)
        yield top


def grow_ext4(top: int, blocks: int) -> None:
    """EXT4_IOC_RESIZE_FS: let the mounted file system have *blocks* blocks."""
    fcntl.ioctl(top, _EXT4_IOC_RESIZE_FS, struct.pack("=Q", blocks))


def grow_xfs(top: int, blocks: int) -> None:
    """XFS_IOC_FSGROWFSDATA (ioctl_xfs_fsgrowfs(2)): the same; the share of inodes stays what it is."""
    geometry = fcntl.ioctl(top, _XFS_IOC_FSGEOMETRY_V1, b"\0" * 112)
    # struct xfs_fsop_geom_v1: blocksize, rtextsize, agblocks, agcount, logblocks, sectsize, inodesize, imaxpct
    (share,) = struct.unpack_from("=I", geometry, 28)
    fcntl.ioctl(top, _XFS_IOC_FSGROWFSDATA, struct.pack("=QI4x", blocks, share))


def set_project(top: int, project: int) -> None:
    """FS_IOC_FSSETXATTR (ioctl_fsgetxattr(2)): a directory, and all that is ever made in it, belongs to a project."""
    fields = list(_FSXATTR.unpack(fcntl.ioctl(top, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size))))
    fields[0] |= _FS_XFLAG_PROJINHERIT
    fields[3] = project
    fcntl.ioctl(top, _FS_IOC_FSSETXATTR, _FSXATTR.pack(*fields))


def project_used(node: str, project: int) -> int:
    """quotactl(2), Q_XGETQUOTA: the bytes a project holds in the file system that is mounted from *node*."""
    quota = ctypes.create_string_buffer(_FS_DISK_QUOTA.size)
    try:
        _quotactl(_Q_XGETQUOTA, node, project, quota)
    except OSError as error:
        if error.errno == errno.ENOENT:  # nothing was counted yet
            return 0
        raise
    return int(_FS_DISK_QUOTA.unpack(quota.raw)[8]) * 512


def project_limit(node: str, project: int, limit: int) -> None:
    """quotactl(2), Q_XSETQLIM: bytes a project may hold; 0 for as many as there are."""
    quota = _FS_DISK_QUOTA.pack(1, _FS_PROJ_QUOTA, _FS_DQ_BHARD, project, limit // 512, *(0,) * 5)
    _quotactl(_Q_XSETQLIM, node, project, ctypes.create_string_buffer(quota, _FS_DISK_QUOTA.size))


def _quotactl(command: int, node: str, project: int, quota: ctypes.Array[ctypes.c_char]) -> None:
    if syscalls.libc.quotactl(ctypes.c_int(command << 8 | _PRJQUOTA), os.fsencode(node), ctypes.c_int(project), quota):
        raise syscalls.failed(f"quotactl {node}")
