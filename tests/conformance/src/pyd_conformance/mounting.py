"""Perform the mounts a storage driver describes, and leave no trace of them.

Mounts are made detached (fsopen(2), open_tree(2), Linux 5.2) and reached through their descriptor, so that they never
show in a mount table and end with the process, whatever kills it. Where that cannot be done (a kernel without these
calls, one value longer than fsconfig(2) takes), mount(2) on a temporary directory and an immediate lazy umount leave
the same: a tree that only a descriptor holds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyd_conformance.serving import FUSE, serve
from pyd_contracts.values import Mount

__all__ = [
    "attach",
    "clone",
    "enter",
    "mounted",
    "perform",
    "private_namespace",
    "set_attributes",
    "takes_user_attributes",
    "tight",
    "unmount",
]

# Numbers are the same on every architecture but alpha (include/uapi/asm-generic/unistd.h).
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6  # enum fsconfig_command
_MNT_DETACH = 2
_VALUE_MAX = 255  # fsconfig(2) copies strings of at most 256 bytes, the final NUL included

# Option word to (MS_* flag of mount(2), MOUNT_ATTR_* flag of fsmount(2)); from linux/mount.h.
_FLAGS = {
    "ro": (0x1, 0x1),
    "nosuid": (0x2, 0x2),
    "nodev": (0x4, 0x4),
    "noexec": (0x8, 0x8),
    "noatime": (0x400, 0x10),
    "nodiratime": (0x800, 0x80),
    "nosymfollow": (0x100, 0x200000),
}
_WORDS = frozenset({"rw", "bind", "rbind", "private", "rprivate", "relatime", "suid", "dev", "exec"})
_PATHS = frozenset({"lowerdir+", "lowerdir", "upperdir", "workdir"})

_libc = ctypes.CDLL(None, use_errno=True)


class _TooLong(Exception):
    """A value that fsconfig(2) cannot take."""


@contextmanager
def mounted(mounts: Sequence[Mount]) -> Iterator[Path]:
    """Give a path under which the mounts are seen, first to last, for the time of the block.

    Raises OSError when the kernel refuses one. The path names a descriptor of this process (``/proc/PID/fd/N``).
    """
    with ExitStack() as held:
        fuse = len(mounts) == 1 and mounts[0].type.startswith(FUSE)
        fd = serve(mounts[0], _new, held) if fuse else _detached(mounts)
        held.callback(os.close, fd)
        yield Path(f"/proc/{os.getpid()}/fd/{fd}")


@contextmanager
def tight(target: Path, size: int) -> Iterator[Path]:
    """A tmpfs of *size* bytes at *target*, which is made: for drivers that need a path; gone with the block."""
    target.mkdir(mode=0o700)
    perform(Mount("tmpfs", "tmpfs", (f"size={size}", "mode=0700")), target)
    try:
        yield target
    finally:
        unmount(target)


def takes_user_attributes(directory: Path) -> bool:
    """Whether files below *directory* can have attributes user.*, as layers have: not on tmpfs before Linux 6.6."""
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        try:
            os.setxattr(file.fileno(), "user.pyd", b"")
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return False
            raise
    return True


def perform(mount: Mount, target: Path) -> None:
    """Make one mount at *target* with mount(2), in the mount namespace of the caller."""
    with ExitStack() as held:
        _perform(mount, target, held)


def _perform(mount: Mount, target: Path, held: ExitStack) -> None:
    flags = 0
    data: list[str] = []
    lowers: list[str] = []
    for option in mount.options:
        key, _, value = option.partition("=")
        if option in _FLAGS:
            flags |= _FLAGS[option][0]
        elif key == "lowerdir+":  # before Linux 6.5 all in one value, and all options in a page: by descriptors
            lowers.append(_opened(held, value))
        elif key in {"upperdir", "workdir"}:
            data.append(option.replace("\\", "\\\\"))
        elif option not in _WORDS:
            data.append(option)
    if lowers:
        data.append("lowerdir=" + ":".join(lowers))
    if mount.type != "bind":
        # overlayfs splits at commas that no backslash precedes, and takes backslashes away from paths afterwards
        text = ",".join(item.replace(",", "\\,") if item.partition("=")[0] in _PATHS else item for item in data)
        _mount(mount.source, target, mount.type, flags, text)
        return
    recursive = 0x4000 if "rbind" in mount.options else 0
    _mount(mount.source, target, "", 0x1000 | recursive, "")
    if flags:  # the first call ignores all flags but MS_BIND and MS_REC: mount(2), "Creating a bind mount"
        _mount("none", target, "", 0x20 | 0x1000 | flags, "")


def _detached(mounts: Sequence[Mount]) -> int:
    if len(mounts) == 1:
        try:
            return _bind(mounts[0]) if mounts[0].type == "bind" else _new(mounts[0])
        except _TooLong:
            pass
        except OSError as error:
            layered = any(option.startswith("lowerdir+=") for option in mounts[0].options)
            if error.errno != errno.ENOSYS and not (layered and error.errno == errno.EINVAL):
                raise
    with ExitStack() as undo:
        target = Path(tempfile.mkdtemp(prefix="pyd-kit-"))
        undo.callback(target.rmdir)
        for mount in mounts:
            perform(mount, target)
            undo.callback(unmount, target)
        return os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _bind(mount: Mount) -> int:
    recursive = "rbind" in mount.options
    fd = clone(mount.source, recursive=recursive)
    if attributes := _attributes(mount):
        try:
            set_attributes(fd, attributes, recursive=recursive)
        except OSError:
            os.close(fd)
            raise
    return fd


def clone(path: str, *, recursive: bool = False) -> int:
    """open_tree(2) with OPEN_TREE_CLONE: a detached bind mount of *path*, as a descriptor."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return _call(_OPEN_TREE, f"open_tree {path}", _AT_FDCWD, os.fsencode(path), flags)


def attach(fd: int, target: Path) -> None:
    """move_mount(2): the detached mount *fd* stands at *target* from now on, over what is there."""
    _call(_MOVE_MOUNT, f"move_mount {target}", fd, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)


def private_namespace() -> None:
    """unshare(2): the calling thread gets a mount namespace of its own, whose mounts nobody else sees."""
    _checked(_libc.unshare(_CLONE_NEWNS), "unshare")
    _checked(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "mount / private")


def enter(namespace: int) -> None:
    """setns(2): back into a mount namespace. The thread has left its process's file system attributes behind."""
    _checked(_libc.setns(namespace, _CLONE_NEWNS), "setns")


def set_attributes(fd: int, attributes: int, *, recursive: bool = False, userns: int = 0) -> None:
    """mount_setattr(2) of the mount *fd*."""
    # struct mount_attr { u64 attr_set, attr_clr, propagation, userns_fd }
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, userns)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _call(_MOUNT_SETATTR, "mount_setattr", fd, b"", flags, ctypes.byref(wanted), 32)


def _new(mount: Mount) -> int:
    with ExitStack() as held:
        fs = _call(_FSOPEN, f"fsopen {mount.type}", os.fsencode(mount.type), 1)
        held.callback(os.close, fs)
        _config(fs, _SET_STRING, "source", mount.source)
        for option in mount.options:
            key, equals, value = option.partition("=")
            if equals:
                _config(fs, _SET_STRING, key, _short(held, value) if key in _PATHS and key != "lowerdir" else value)
            elif option not in _WORDS and (option == "ro" or option not in _FLAGS):
                _config(fs, _SET_FLAG, option, None)
        _config(fs, _CREATE, None, None)
        return _call(_FSMOUNT, f"fsmount {mount.type}", fs, 1, _attributes(mount))


def _short(held: ExitStack, path: str) -> str:
    """A path that fits and needs no thought about escapes (overlayfs unescapes ``\\`` in upperdir)."""
    if len(os.fsencode(path)) <= _VALUE_MAX and "\\" not in path:
        return path
    return _opened(held, path)


def _opened(held: ExitStack, path: str) -> str:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    held.callback(os.close, fd)
    return f"/proc/self/fd/{fd}"


def _attributes(mount: Mount) -> int:
    return sum(_FLAGS[option][1] for option in set(mount.options) if option in _FLAGS)


def _config(fs: int, command: int, key: str | None, value: str | None) -> None:
    raw = None if value is None else os.fsencode(value)
    if raw is not None and len(raw) > _VALUE_MAX:
        raise _TooLong(key)
    doing = f"fsconfig {key}={value}"
    try:
        _call(_FSCONFIG, doing, fs, command, None if key is None else key.encode(), raw, 0)
    except OSError as error:
        raise OSError(error.errno, f"{doing}: {os.strerror(error.errno or 0)} {_log(fs)}".rstrip()) from error


def _log(fs: int) -> str:
    """What the kernel says about its last refusal (fsopen(2) descriptors are read for it)."""
    try:
        return os.read(fs, 4096).decode(errors="replace").strip()
    except OSError as error:
        if error.errno == errno.ENODATA:  # it says nothing
            return ""
        raise


def _mount(source: str, target: Path, kind: str, flags: int, data: str) -> None:
    if len(os.fsencode(data)) > 4095:
        raise OSError(errno.E2BIG, f"mount {kind} at {target}: options are longer than a page")
    if _libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(data)):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind or 'bind'} {source} at {target} ({data}): {os.strerror(number)}")


def unmount(target: Path) -> None:
    """umount2(2) with MNT_DETACH: gone from the mount table at once, and altogether when nobody uses it."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(target))


def _checked(answer: int, doing: str) -> None:
    if answer < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, f"{doing}: {os.strerror(failed)}")


def _call(number: int, doing: str, *arguments: object) -> int:
    # Varargs of syscall(2) are machine words: a plain int would be passed as 32 bits.
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    answer = int(_libc.syscall(ctypes.c_long(number), *words))
    if answer < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, f"{doing}: {os.strerror(failed)}")
    return answer
