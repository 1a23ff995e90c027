"""The daemon's side of a shim: requests and answers over its socket."""

from __future__ import annotations

import base64
import os
import socket
import threading
from pathlib import Path
from typing import Any

from pyd_contracts import errors
from pyd_contracts.values import Connection
from pyd_shim import message
from pyd_shim.supervisor import SOCKET

__all__ = ["ShimClient", "ShimGone"]

_KINDS: dict[str, type[errors.PydError]] = {
    each.kind: each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.PydError) and each is not errors.PydError
}
_ANSWER_SECONDS = 60.0


class ShimGone(Exception):
    """The shim is not there, or went away without an answer."""


class ShimClient:
    """One connection to one shim; requests from several threads take turns."""

    def __init__(self, connection: socket.socket, container: str) -> None:
        self._connection = connection
        self._connection.settimeout(_ANSWER_SECONDS)
        self._lock = threading.Lock()
        self.container = container

    @classmethod
    def connect(cls, bundle: Path, container: str) -> ShimClient:
        """Connect to the shim that listens in *bundle*. Raises ShimGone."""
        try:
            directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ShimGone(f"{bundle}: {error.strerror}") from error
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            # Through the descriptor: a socket's path may have 107 bytes only (unix(7)).
            connection.connect(f"/proc/self/fd/{directory}/{SOCKET}")
            message.make_roomy(connection)
        except OSError as error:
            connection.close()
            raise ShimGone(f"{bundle}/{SOCKET}: {error.strerror}") from error
        finally:
            os.close(directory)
        return cls(connection, container)

    def ask(self, request: dict[str, Any], fds: tuple[int, ...] = ()) -> dict[str, Any]:
        """Send a request, return the answer.

        Raises the class of `pyd_contracts.errors` the shim named, or ShimGone when it went away.
        """
        with self._lock:
            try:
                message.send(self._connection, request, fds)
                answer, _ = message.receive(self._connection)
            except OSError as error:
                raise ShimGone(f"{request['op']}: the shim of {self.container[:12]}: {error}") from error
        if answer is None:
            raise ShimGone(f"{request['op']}: the shim of {self.container[:12]} went away")
        if "error" in answer:
            raise _KINDS.get(answer["error"], errors.DriverFault)(answer["message"])
        return answer

    def attach(self, process: str, connection: Connection) -> None:
        """Hand a client's stream over."""
        self.ask({"op": "attach", "process": process, "connection": describe(connection)}, (connection.fd,))

    def wait_gone(self, seconds: float) -> bool:
        """Wait until the shim has closed its end: it has ended."""
        with self._lock:
            self._connection.settimeout(seconds)
            try:
                while True:
                    answer, _ = message.receive(self._connection)
                    if answer is None:
                        return True
            except TimeoutError:
                return False
            except OSError:
                return True
            finally:
                self._connection.settimeout(_ANSWER_SECONDS)

    def detach_fd(self) -> int:
        """Give the connection away as a descriptor; this object is of no use afterwards."""
        return self._connection.detach()

    def close(self) -> None:
        """Close the connection; the shim lives on."""
        self._connection.close()


def describe(connection: Connection) -> dict[str, Any]:
    """A Connection without its descriptor, for a message."""
    return {
        "stdin": connection.stdin,
        "stdout": connection.stdout,
        "stderr": connection.stderr,
        "framed": connection.framed,
        "detach_keys": base64.b64encode(connection.detach_keys).decode(),
        "early": base64.b64encode(connection.early).decode(),
    }
