"""System calls that Python has no name for: one function per call, named as its man page names it.

Imported by the zygote, hence by every process that owns a container: the standard library's ctypes, os and struct, and
nothing that imports more later. Every function raises OSError with errno set; paths are str or bytes.
"""

from __future__ import annotations

import ctypes
import os
import struct

__all__ = [
    "AT_EMPTY_PATH",
    "AT_RECURSIVE",
    "CLONE_INTO_CGROUP",
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWTIME",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "CLONE_PARENT",
    "MOUNT_ATTR_IDMAP",
    "MOUNT_ATTR_NODEV",
    "MOUNT_ATTR_NOEXEC",
    "MOUNT_ATTR_NOSUID",
    "MOUNT_ATTR_RDONLY",
    "RESOLVE_BENEATH",
    "RESOLVE_IN_ROOT",
    "RESOLVE_NO_MAGICLINKS",
    "RESOLVE_NO_SYMLINKS",
    "capset",
    "clone3",
    "close_range",
    "default_signal",
    "execve_prebuilt",
    "fsconfig_create",
    "fsconfig_flag",
    "fsconfig_string",
    "fsmount",
    "fsopen",
    "keyctl_join_session",
    "malloc_trim",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "openat2",
    "pivot_root",
    "prctl",
    "seccomp_filter",
    "setdomainname",
    "sethostname",
    "setns",
    "umount2",
    "unshare",
]

Path = str | bytes

_libc = ctypes.CDLL(None, use_errno=True)
# The same library, called without releasing the GIL: a process made by a raw clone has one thread, and no thread state
# but the caller's may be switched to.
_pylibc = ctypes.PyDLL(None, use_errno=True)
for _library in (_libc, _pylibc):
    _library.syscall.restype = ctypes.c_long

_MACHINE = os.uname().machine
_AARCH64 = _MACHINE == "aarch64"
# asm/unistd_64.h and asm-generic/unistd.h; calls since 5.x have one number everywhere.
_NR_PIVOT_ROOT = 41 if _AARCH64 else 155
_NR_KEYCTL = 219 if _AARCH64 else 250
_NR_SECCOMP = 277 if _AARCH64 else 317
_NR_EXECVE = 221 if _AARCH64 else 59
_NR_RT_SIGACTION = 134 if _AARCH64 else 13
_NR_OPEN_TREE, _NR_MOVE_MOUNT, _NR_FSOPEN, _NR_FSCONFIG, _NR_FSMOUNT = 428, 429, 430, 431, 432
_NR_CLONE3, _NR_CLOSE_RANGE, _NR_OPENAT2, _NR_MOUNT_SETATTR = 435, 436, 437, 442

# sched.h
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PIDFD = 0x00001000
CLONE_INTO_CGROUP = 0x200000000
CLONE_PARENT = 0x00008000

# fcntl.h, openat2.h
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_UNBINDABLE = 32, 4096, 16384, 1 << 17
MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR_IDMAP = 0x00100000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40

# prctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 4, 8, 15
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_SET_CHILD_SUBREAPER = 24, 38, 47, 36
PR_CAP_AMBIENT_CLEAR_ALL = 4
PR_CAP_AMBIENT_RAISE = 2


def _bytes(path: Path) -> bytes:
    return path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")


def _failed(name: str, path: Path | None = None) -> OSError:
    number = ctypes.get_errno()
    error = OSError(number, os.strerror(number))
    if path is not None:
        error.filename = path
    error.__notes__ = [name]
    return error


def _syscall(name: str, path: Path | None, *arguments: object) -> int:
    result: int = _libc.syscall(*arguments)
    if result < 0:
        raise _failed(name, path)
    return result


def _long(value: int) -> ctypes.c_long:
    return ctypes.c_long(value)


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _libc.unshare(ctypes.c_int(flags)) < 0:
        raise _failed("unshare")


def setns(fd: int, flags: int) -> None:
    """setns(2); *fd* is a namespace file or a pidfd."""
    if _libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)) < 0:
        raise _failed("setns")


def clone3(flags: int, cgroup: int | None, *, sibling: bool = False) -> tuple[int, int]:
    """clone3(2) without CLONE_VM: returns (pid, pidfd) in the caller and (0, -1) in the child.

    *cgroup* is a descriptor of a cgroup v2 directory the child starts in (CLONE_INTO_CGROUP). A *sibling* is the child of
    the caller's parent, who gets the signal that the caller's own end would send it. No handlers of fork run, and the GIL
    is kept across the call, so the child must be single-threaded and end with execve or _exit.
    """
    pidfd = ctypes.c_int(-1)
    if cgroup is not None:
        flags |= CLONE_INTO_CGROUP
    # struct clone_args (clone.2): flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid
    # set_tid_size cgroup
    signal = 0 if sibling else 17  # CLONE_PARENT refuses any; otherwise SIGCHLD
    if sibling:
        flags |= CLONE_PARENT
    arguments = struct.pack(
        "=11Q", flags | CLONE_PIDFD, ctypes.addressof(pidfd), 0, 0, signal, 0, 0, 0, 0, 0, cgroup or 0
    )
    buffer = ctypes.create_string_buffer(arguments, len(arguments))
    pid: int = _pylibc.syscall(_long(_NR_CLONE3), ctypes.byref(buffer), _long(len(arguments)))
    if pid < 0:
        raise _failed("clone3")
    if pid:
        os.set_inheritable(pidfd.value, False)
    return pid, pidfd.value if pid else -1


def openat2(directory: int, path: Path, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), close-on-exec."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    buffer = ctypes.create_string_buffer(how, len(how))
    while True:
        try:
            return _syscall(
                "openat2",
                path,
                _long(_NR_OPENAT2),
                ctypes.c_int(directory),
                ctypes.c_char_p(_bytes(path)),
                ctypes.byref(buffer),
                _long(len(how)),
            )
        except BlockingIOError:  # EAGAIN: a rename raced with "..": openat2(2) says to try again
            continue


def fsopen(file_system: Path) -> int:
    """fsopen(2), close-on-exec."""
    return _syscall("fsopen", file_system, _long(_NR_FSOPEN), ctypes.c_char_p(_bytes(file_system)), _long(1))


def fsconfig_string(fd: int, key: Path, value: Path) -> None:
    """fsconfig(2) FSCONFIG_SET_STRING; the kernel takes values of up to 255 bytes."""
    _syscall(
        "fsconfig", value, _long(_NR_FSCONFIG), ctypes.c_int(fd), _long(1), ctypes.c_char_p(_bytes(key)),
        ctypes.c_char_p(_bytes(value)), _long(0),
    )  # fmt: skip


def fsconfig_flag(fd: int, key: Path) -> None:
    """fsconfig(2) FSCONFIG_SET_FLAG."""
    _syscall(
        "fsconfig", key, _long(_NR_FSCONFIG), ctypes.c_int(fd), _long(0), ctypes.c_char_p(_bytes(key)), None, _long(0)
    )


def fsconfig_create(fd: int) -> None:
    """fsconfig(2) FSCONFIG_CMD_CREATE."""
    _syscall("fsconfig", None, _long(_NR_FSCONFIG), ctypes.c_int(fd), _long(6), None, None, _long(0))


def fsmount(fd: int, attributes: int) -> int:
    """fsmount(2), close-on-exec: a detached mount with MOUNT_ATTR_* *attributes*."""
    return _syscall("fsmount", None, _long(_NR_FSMOUNT), ctypes.c_int(fd), _long(1), _long(attributes))


def open_tree(directory: int, path: Path, flags: int) -> int:
    """open_tree(2), close-on-exec; OPEN_TREE_CLONE makes a detached copy of the mount."""
    return _syscall(
        "open_tree", path, _long(_NR_OPEN_TREE), ctypes.c_int(directory), ctypes.c_char_p(_bytes(path)),
        _long(flags | os.O_CLOEXEC),
    )  # fmt: skip


def move_mount(mount_fd: int, target_fd: int) -> None:
    """move_mount(2) between two descriptors: no path is walked, so none can be exchanged."""
    _syscall(
        "move_mount", None, _long(_NR_MOVE_MOUNT), ctypes.c_int(mount_fd), ctypes.c_char_p(b""),
        ctypes.c_int(target_fd), ctypes.c_char_p(b""), _long(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
    )  # fmt: skip


def mount_setattr(
    fd: int, set_: int, clear: int = 0, *, propagation: int = 0, recursive: bool = False, users: int = 0
) -> None:
    """mount_setattr(2) on the mount *fd* stands on; *users* is a user namespace's descriptor for MOUNT_ATTR_IDMAP."""
    attributes = struct.pack("=QQQQ", set_, clear, propagation, users)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    _syscall(
        "mount_setattr", None, _long(_NR_MOUNT_SETATTR), ctypes.c_int(fd), ctypes.c_char_p(b""),
        _long(AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)), ctypes.byref(buffer), _long(len(attributes)),
    )  # fmt: skip


def mount(source: Path, target: Path, file_system: Path | None, flags: int, data: Path | None = None) -> None:
    """mount(2)."""
    result = _libc.mount(
        ctypes.c_char_p(_bytes(source)),
        ctypes.c_char_p(_bytes(target)),
        ctypes.c_char_p(_bytes(file_system)) if file_system is not None else None,
        ctypes.c_ulong(flags),
        ctypes.c_char_p(_bytes(data)) if data is not None else None,
    )
    if result < 0:
        raise _failed("mount", target)


def umount2(target: Path, flags: int) -> None:
    """umount2(2)."""
    if _libc.umount2(ctypes.c_char_p(_bytes(target)), ctypes.c_int(flags)) < 0:
        raise _failed("umount2", target)


def pivot_root(new: Path, old: Path) -> None:
    """pivot_root(2)."""
    _syscall("pivot_root", new, _long(_NR_PIVOT_ROOT), ctypes.c_char_p(_bytes(new)), ctypes.c_char_p(_bytes(old)))


def prctl(option: int, argument: int, second: int = 0) -> None:
    """prctl(2) with integer arguments."""
    if _libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(value) for value in (argument, second, 0, 0))) < 0:
        raise _failed("prctl")


def set_process_name(name: bytes) -> None:
    """prctl(2) PR_SET_NAME: what ps shows in its comm column, 15 bytes at most."""
    if _libc.prctl(ctypes.c_int(PR_SET_NAME), ctypes.c_char_p(name[:15]), *(ctypes.c_ulong(0),) * 3) < 0:
        raise _failed("prctl")


def capset(permitted: int, effective: int, inheritable: int) -> None:
    """capset(2) of the calling thread; bit sets."""
    header = ctypes.create_string_buffer(struct.pack("=II", 0x20080522, 0), 8)
    words = [value >> shift & 0xFFFFFFFF for shift in (0, 32) for value in (effective, permitted, inheritable)]
    data = ctypes.create_string_buffer(struct.pack("=6I", *words), 24)
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) < 0:
        raise _failed("capset")


def sethostname(name: bytes) -> None:
    """sethostname(2)."""
    if _libc.sethostname(ctypes.c_char_p(name), ctypes.c_size_t(len(name))) < 0:
        raise _failed("sethostname", name)


def setdomainname(name: bytes) -> None:
    """setdomainname(2)."""
    if _libc.setdomainname(ctypes.c_char_p(name), ctypes.c_size_t(len(name))) < 0:
        raise _failed("setdomainname", name)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """close_range(2)."""
    _syscall("close_range", None, _long(_NR_CLOSE_RANGE), _long(first), _long(last), _long(flags))


def keyctl_join_session(name: bytes) -> None:
    """keyctl(2) KEYCTL_JOIN_SESSION_KEYRING: a session keyring of its own."""
    _syscall("keyctl", None, _long(_NR_KEYCTL), _long(1), ctypes.c_char_p(name), _long(0), _long(0), _long(0))


def seccomp_filter(program: bytes, flags: int) -> object:
    """seccomp(2) SECCOMP_SET_MODE_FILTER with an array of struct sock_filter. Keep the answer until execve."""
    code = ctypes.create_string_buffer(program, len(program))
    fprog = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(code)), 16)
    _syscall("seccomp", None, _long(_NR_SECCOMP), _long(1), _long(flags), ctypes.byref(fprog))
    return (code, fprog)


def malloc_trim() -> None:
    """malloc_trim(3): give freed memory back; other C libraries have no such function."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(ctypes.c_size_t(0))


class _Arguments:
    """argv and envp as execve(2) wants them, built before anything may fail."""

    __slots__ = ("array", "items")

    def __init__(self, items: list[bytes]) -> None:
        self.items = [ctypes.create_string_buffer(item) for item in items]
        self.array = (ctypes.c_void_p * (len(items) + 1))(*[ctypes.addressof(item) for item in self.items], None)


def default_signal(number: int) -> None:
    """rt_sigaction(2) to SIG_DFL; by system call, as the C library keeps 32 and 33 to itself and would pass on what it
    inherited for them."""
    action = ctypes.create_string_buffer(32)  # struct kernel_sigaction: handler, flags, restorer, mask; all zero
    _syscall("rt_sigaction", None, _long(_NR_RT_SIGACTION), ctypes.c_int(number), ctypes.byref(action), None, _long(8))


def execve_arguments(items: list[bytes]) -> _Arguments:
    """Build an argument array for `execve_prebuilt`."""
    return _Arguments(items)


def execve_prebuilt(path: bytes, argv: _Arguments, envp: _Arguments) -> OSError:
    """execve(2) by raw system call with nothing to allocate. Returns the error; does not return otherwise."""
    _libc.syscall(_long(_NR_EXECVE), ctypes.c_char_p(path), argv.array, envp.array)
    return _failed("execve", path)
