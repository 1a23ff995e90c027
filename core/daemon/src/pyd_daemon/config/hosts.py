"""Addresses to listen on, as ``hosts`` and ``--host`` give them.

An engine's API is root on its host. A unix socket has an owner and a mode; a TCP port has neither, so plain TCP is
served on loopback only, and only when it is said to be meant.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Host", "parse_host"]

_FORMS = "unix:///path, tcp://127.0.0.1:PORT, fd:// or fd://NAME"


@dataclass(frozen=True, slots=True)
class Host:
    """One address: *path* for unix, *address* and *port* for tcp, *name* for fd (empty: every descriptor passed)."""

    scheme: Literal["unix", "tcp", "fd"]
    path: Path = Path()
    address: str = ""
    port: int = 0
    name: str = ""

    @property
    def loopback(self) -> bool:
        """Whether only this host can reach it."""
        return self.scheme != "tcp" or ipaddress.ip_address(self.address).is_loopback


def parse_host(text: str) -> Host:
    """Read one address.

    Raises ValueError that says what is wrong.

    >>> parse_host("unix:///run/pyd/pyd.sock").path
    PosixPath('/run/pyd/pyd.sock')
    >>> parse_host("tcp://[::1]:2375").address
    '::1'
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise ValueError(f"{text!r} is not an address; known forms: {_FORMS}")
    if scheme == "unix":
        if not rest.startswith("/"):
            raise ValueError(f"{text!r}: the path must be absolute (unix:///run/pyd/pyd.sock)")
        if len(rest.encode()) > 107:  # sockaddr_un.sun_path, unix(7)
            raise ValueError(f"{text!r}: a socket's path has at most 107 bytes, this one has {len(rest.encode())}")
        return Host("unix", path=Path(rest))
    if scheme == "tcp":
        return _tcp(text, rest)
    if scheme == "fd":
        return Host("fd", name=rest)
    raise ValueError(f"{text!r}: {scheme!r} is not served; known forms: {_FORMS}")


def _tcp(text: str, rest: str) -> Host:
    name, colon, port = rest.rstrip("/").rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: a port from 1 to 65535 is missing (tcp://127.0.0.1:2375)")
    name = "127.0.0.1" if name == "localhost" else name.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError as error:
        raise ValueError(f"{text!r}: {name!r} is not an IP address") from error
    return Host("tcp", address=str(address), port=int(port))
