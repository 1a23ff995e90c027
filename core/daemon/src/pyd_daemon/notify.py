"""Talking to systemd without its library: sd_notify(3) and socket activation (sd_listen_fds(3)) are small protocols."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import MutableMapping

from pyd_contracts.errors import InvalidArgument

__all__ = ["Notifier", "passed_sockets"]

_FIRST = 3  # SD_LISTEN_FDS_START
_log = logging.getLogger("pyd.notify")


class Notifier:
    """Tells the service manager how the daemon is. Without ``NOTIFY_SOCKET`` it tells nobody."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Takes the variables out of *environ*: children are not to speak for the daemon."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self.watchdog_seconds = int(microseconds) / 1e6 if microseconds.isdecimal() and mine else 0.0

    def tell(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``. A manager that does not listen is logged and not an error."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.connect(address)
                sender.send("\n".join(lines).encode())
        except OSError as error:
            _log.warning("tell the service manager at %s: %s", self._address, error)

    async def watch(self) -> None:
        """Keep the watchdog quiet from the event loop, so that a blocked loop is noticed. Returns if there is none."""
        if not self.watchdog_seconds:
            return
        while True:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / 2)


def passed_sockets(environ: MutableMapping[str, str]) -> list[tuple[str, socket.socket]]:
    """The listening sockets that systemd passed, with their names; takes the variables out of *environ*.

    Raises InvalidArgument when something that is not a listening stream socket was passed.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    sockets = []
    for index in range(int(count)):
        name = names[index] if index < len(names) else "unknown"
        fd = _FIRST + index
        try:
            passed = socket.socket(fileno=fd)
            listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise InvalidArgument(f"the service manager passed descriptor {fd} ({name}): {error}") from error
        if passed.type != socket.SOCK_STREAM or not listens:
            raise InvalidArgument(f"the service manager passed descriptor {fd} ({name}): it is not a listening stream")
        passed.set_inheritable(False)
        passed.setblocking(False)
        sockets.append((name, passed))
    return sockets
