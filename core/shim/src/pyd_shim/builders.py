"""What a shim has before it knows its container: a network namespace, and a process that is to build it.

A builder is forked ahead of the need, does once what would otherwise stay in the memory of the shim as long as the container
lives (docs/decisions/0009), answers, and ends. What it builds is its backend's business.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

from pyd_shim import kernel as k
from pyd_shim import message

__all__ = ["BuilderProcess", "Warmth", "loopback_up"]

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

Answer = Callable[[socket.socket, dict[str, Any], list[int], int], None]
"""Sees to one order: the socket to answer on, the order and its descriptors, and the host's network namespace."""


class BuilderProcess:
    """The shim's handle of a builder.

    host_network  a descriptor of the host's network namespace
    ready         done in the builder as soon as it is there
    answer        done in the builder when its order has come
    """

    def __init__(self, host_network: int, ready: Callable[[], None], answer: Answer) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            self._orders.close()
            _serve(theirs, host_network, ready, answer)
        theirs.close()

    def end(self) -> None:
        """Reap the builder: it ends by itself once it has answered, or when it finds nobody there. Twice is once."""
        if self._pid:
            self._orders.close()
            os.waitpid(self._pid, 0)
            self._pid = 0


B = TypeVar("B", bound=BuilderProcess)


class Warmth(Generic[B]):
    """A network namespace that a container may get, the way back to the host's, and a builder that waits."""

    def __init__(self, builder: Callable[[int], B]) -> None:
        self.host_network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        k.unshare(k.CLONE_NEWNET)
        self.builder = builder(self.host_network)


def loopback_up() -> None:
    """Set lo up in this network namespace (netdevice(7)): 20 microseconds by ioctl, no netlink needed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _serve(orders: socket.socket, host_network: int, ready: Callable[[], None], answer: Answer) -> NoReturn:
    """Be the builder. Nothing but its own descriptors stays open: the shim's would tell of a shim that is gone."""
    status = 1
    try:
        _keep_open(orders.fileno(), host_network)
        ready()
        order, fds = message.receive(orders)
        if order is not None:
            answer(orders, order, fds, host_network)
        status = 0
    except BaseException as error:  # noqa: BLE001 - the last chance to say something before the process ends
        sys.stderr.write(f"pyd-shim builder: {type(error).__name__}: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(status)


def _keep_open(*fds: int) -> None:
    """Close every descriptor but the standard ones and *fds*."""
    lowest = 3
    for fd in sorted(fds):
        if fd > lowest:
            k.close_range(lowest, fd - 1)
        lowest = fd + 1
    k.close_range(lowest)
