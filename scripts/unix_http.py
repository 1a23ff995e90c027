"""HTTP over a unix socket, with the standard library: what the demo, the tests and the bench speak to an engine."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class ApiError(Exception):
    """The engine answered with an error status; `status` is the number."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Connection(http.client.HTTPConnection):
    """One connection to the socket at *path*."""

    def __init__(self, path: Path, timeout: float = 60) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host and port."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))

    def call(
        self,
        method: str,
        url: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """The body of the answer. ApiError for statuses from 400 on, and for an error inside a progress stream."""
        try:
            self.request(method, url, body, headers or {})
            answer = self.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()  # the next call connects anew
            raise
        if answer.status >= 400 or b'"errorDetail"' in content[-4096:]:
            said = content.decode(errors="replace")[-2000:].strip()
            raise ApiError(answer.status, f"{method} {url} answered {answer.status}: {said}")
        return content

    def json(self, method: str, url: str, document: object = None) -> Any:
        """Send *document* as JSON (nothing if None) and decode the answer; None for an empty one."""
        body = None if document is None else json.dumps(document).encode()
        content = self.call(method, url, body, {"Content-Type": "application/json"} if body is not None else None)
        return json.loads(content) if content.strip() else None


def wait_ready(path: Path, ended: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait until the engine at *path* answers a ping; False when *ended* says so first or the time is up."""
    deadline = time.monotonic() + seconds
    while not ended() and time.monotonic() < deadline:
        connection = Connection(path, timeout=5)
        try:
            connection.call("GET", "/_ping")
        except (OSError, http.client.HTTPException, ApiError):
            time.sleep(0.01)  # not there yet
        else:
            return True
        finally:
            connection.close()
    return False
