"""The daemon's API as the commands use it: versioned paths, JSON in and out, errors as exceptions.

The version is agreed once per invocation: the lesser of ours and the daemon's (header `Api-Version` of `/_ping`);
a daemon that does not say speaks 1.24. `PYD_API_VERSION` / `DOCKER_API_VERSION` pin it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from pyd_cli.errors import ApiError, CliError
from pyd_cli.http import Client, Response

if TYPE_CHECKING:
    from pyd_cli.endpoint import Endpoint

NEWEST = "1.50"
SILENT = "1.24"  # what a daemon speaks that does not name its version: the oldest that answers /_ping without it

Query = Mapping[str, "str | int | bool | list[str] | None"]


def as_numbers(version: str) -> tuple[int, int]:
    """`"1.41"` as (1, 41), to compare; an unreadable version is (0, 0)."""
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


_VERBS = (
    r"archive|attach|changes|exec|export|json|kill|logs|rename|resize|(re)?start|stats|stop|top|(un)?pause|update|wait"
)
_SLASH = re.compile(rf"^(/containers/)/+(?!(?:{_VERBS})?$)(?=[^/])")


def quoted(text: str) -> str:
    """`text` for one path segment or one query value (RFC 3986)."""
    if text.isalnum() and text.isascii():
        return text
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode())


def quoted_path(path: str) -> str:
    """`path` with everything quoted but what a path and an image's name are made of. An empty name is an error; a container
    may have the slash in front with which inspect shows its name."""
    path = _SLASH.sub(r"\1", path)
    if "//" in path:
        raise CliError("invalid name or ID: value is empty")
    return "/".join(
        ":".join("@".join(map(quoted, part.split("@"))) for part in segment.split(":")) for segment in path.split("/")
    )


def with_query(path: str, query: Query | None) -> str:
    """`path?a=b`. None and "" leave a parameter out; booleans are 1 or left out; lists repeat it."""
    pairs: list[str] = []
    for name, value in (query or {}).items():
        if value is None or value is False or value == "":
            continue
        items = value if isinstance(value, list) else ["1" if value is True else str(value)]
        pairs.extend(f"{name}={quoted(item)}" for item in items)
    return f"{path}?{'&'.join(pairs)}" if pairs else path


class Api:
    """The API of one daemon, for one invocation."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.client = Client(endpoint)
        self._version = os.environ.get("PYD_API_VERSION") or os.environ.get("DOCKER_API_VERSION") or ""

    @property
    def version(self) -> str:
        """The agreed version; the first use asks the daemon."""
        if not self._version:
            response = self.client.request("HEAD", "/_ping")
            self.agree(response.headers.get("api-version", SILENT))
            response.close()
        return self._version

    def agree(self, daemon: str) -> None:
        """Settle on a version, given the daemon's."""
        if not os.environ.get("PYD_API_VERSION") and not os.environ.get("DOCKER_API_VERSION"):
            self._version = min(NEWEST, daemon, key=as_numbers)

    def at_least(self, version: str) -> bool:
        """Whether the agreed version is `version` or newer."""
        return as_numbers(self.version) >= as_numbers(version)

    def target(self, path: str, query: Query | None = None) -> str:
        return f"/v{self.version}{with_query(quoted_path(path), query)}"

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """The answer, when its status is below 400; else ApiError. A file as `body` is streamed, else it is JSON."""
        if body is not None and not hasattr(body, "read"):
            import json

            body = json.dumps(body).encode()
        response = self.client.request(method, self.target(path, query), body, headers)
        return checked(response)

    def get(self, path: str, query: Query | None = None) -> Any:
        return as_json(self.call("GET", path, query))

    def post(self, path: str, query: Query | None = None, body: Any = None) -> Any:
        return as_json(self.call("POST", path, query, body))

    def delete(self, path: str, query: Query | None = None) -> Any:
        return as_json(self.call("DELETE", path, query))

    def stream(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: IO[bytes] | Any = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The JSON objects of an answer, each as it comes."""
        response = self.call(method, path, query, body, headers)
        try:
            yield from json_objects(response)
        finally:
            response.close()

    def hijack(self, path: str, query: Query | None = None, body: Any = None) -> Response:
        """The connection, taken over for raw streams. ApiError when the daemon refuses."""
        data = None
        if body is not None:
            import json

            data = json.dumps(body).encode()
        return checked(self.client.upgrade(self.target(path, query), data))


def checked(response: Response) -> Response:
    """`response`, unless its status is an error's: then ApiError with the daemon's message."""
    if response.status < 400:
        return response
    body = response.read()
    raise ApiError(response.status, message_of(body) or f"status {response.status}, without a message")


def message_of(body: bytes) -> str:
    """The message of an error's body: JSON `{"message": …}`, or plain text from old daemons and proxies."""
    import json

    try:
        content = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace").strip()
    message = content.get("message") if isinstance(content, dict) else None
    return str(message or "").strip()


def as_json(response: Response) -> Any:
    """The body's JSON; None for an empty body."""
    body = response.read()
    if not body.strip():
        return None
    import json

    try:
        return json.loads(body)
    except ValueError as fault:
        raise CliError(f"the daemon's answer is no JSON: {fault}") from fault


def json_objects(response: Response) -> Iterator[dict[str, Any]]:
    """The objects of a body that is a sequence of JSON objects, with or without line feeds between them."""
    import json

    decoder = json.JSONDecoder()
    for line in response.lines():
        text = line.decode("utf-8", "replace").strip()
        while text:
            try:
                item, end = decoder.raw_decode(text)
            except ValueError as fault:
                raise CliError(f"the daemon's answer is no JSON: {fault}") from fault
            yield item
            text = text[end:].lstrip()
