"""What network drivers ask of the kernel beside netlink: namespaces and the files below /proc/sys/net.

``setns`` changes the calling thread only. It is called on throw-away threads that end with their work, so that no
thread of the engine is ever left in another namespace; nothing forks, because a fork of a large daemon costs
milliseconds.
"""

from __future__ import annotations

import _thread
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pyd_contracts.errors import NotFound, from_oserror

__all__ = ["Visit", "has_net_admin", "open_netns", "set_sysctl", "setns", "sysctl"]

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_CAP_NET_ADMIN = 12
_libc = ctypes.CDLL(None, use_errno=True)


def setns(fd: int) -> None:
    """setns(2) of the calling thread into the network namespace of *fd*. Raises InvalidArgument when it is none."""
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise from_oserror(OSError(number, os.strerror(number)), "enter the container's network namespace")


def open_netns(path: Path) -> int:
    """A descriptor of the network namespace that *path* names. Raises NotFound when there is none."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError) as error:
        raise NotFound(f"no network namespace at {path}: the container's process is gone") from error
    except OSError as error:
        raise from_oserror(error, f"open the network namespace {path}") from error


class Visit(Generic[T]):
    """A function that runs in another network namespace, on a thread of its own; the caller may do something else meanwhile.

    >>> visit = Visit(os.open("/proc/thread-self/ns/net", os.O_RDONLY), lambda: 7)  # doctest: +SKIP
    >>> visit.result()  # doctest: +SKIP
    7
    """

    def __init__(self, fd: int, work: Callable[[], T]) -> None:
        self._fd = fd
        self._work = work
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._running = _thread.allocate_lock()
        self._running.acquire()
        _thread.start_new_thread(self._run, ())  # threading.Thread costs 0.1 ms more: it waits for the start as well

    def _run(self) -> None:
        try:
            setns(self._fd)
            self._value.append(self._work())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            self._error = error
        finally:
            self._running.release()

    def result(self) -> T:
        """Wait for the end; the function's value, or its exception."""
        with self._running:
            if self._error is not None:
                raise self._error
            return self._value[0]


def sysctl(name: str) -> str | None:
    """The value of ``/proc/sys/net/<name>`` for the calling thread; None when this kernel has no such key."""
    try:
        fd = os.open(f"/proc/sys/net/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def set_sysctl(name: str, value: str) -> bool:
    """Write ``/proc/sys/net/<name>`` of the calling thread's namespace; False when this kernel has no such key.

    A kernel without IPv6 has no ``ipv6`` keys, and then there is nothing to switch off. Raises PermissionDenied where
    /proc/sys is read-only, as in a container.
    """
    try:
        fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise from_oserror(error, f"write {value} to /proc/sys/net/{name}") from error
    return True


def has_net_admin() -> bool:
    """Whether the calling thread may change interfaces (CAP_NET_ADMIN, capabilities(7))."""
    with open("/proc/thread-self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return False
