"""setns(2) on a throw-away thread, and the two requests of netdevice(7) that lo needs."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["is_up", "raise_loopback", "within"]

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ = struct.Struct("16sh22x")
_libc = ctypes.CDLL(None, use_errno=True)


def within(fd: int, work: Callable[[], T]) -> T:
    """Run *work* in the network namespace of *fd*, on a thread that ends with it: no other one changes places."""
    values: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if _libc.setns(fd, _CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            values.append(work())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            errors.append(error)

    thread = threading.Thread(target=run, name="pyd-netns", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return values[0]


def is_up(name: str) -> bool:
    """Whether an interface of the calling thread's namespace is up (SIOCGIFFLAGS)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
    return bool(_IFREQ.unpack(answer)[1] & _IFF_UP)


def raise_loopback() -> None:
    """Bring lo up in the calling thread's namespace (SIOCSIFFLAGS)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags = _IFREQ.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0)))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))
