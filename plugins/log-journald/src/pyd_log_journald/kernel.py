"""Messages to the journal: the native protocol of systemd (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Mapping

__all__ = ["fields", "send"]

_F_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE: journald takes no other
_TOO_LONG = (errno.EMSGSIZE, errno.ENOBUFS)


def fields(values: Mapping[str, bytes]) -> bytes:
    """``KEY=value`` a line; a value with a line end in it comes with its length (64 bit, little-endian) instead."""
    parts: list[bytes] = []
    for key, value in values.items():
        if b"\n" in value:
            parts += (key.encode(), b"\n", struct.pack("<Q", len(value)), value, b"\n")
        else:
            parts += (key.encode(), b"=", value, b"\n")
    return b"".join(parts)


def send(connection: socket.socket, path: str, message: bytes) -> None:
    """One message; one that is too long for a datagram goes as a sealed memfd. Raises OSError."""
    try:
        connection.sendto(message, path)
    except OSError as error:
        if error.errno not in _TOO_LONG:
            raise
    else:
        return
    fd = os.memfd_create("pyd-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(message)
        fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
        connection.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))], 0, path)
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
