"""Reading what a client sent: flags, numbers, times, filters, bodies. Every oddity here is Docker's, on purpose.

Clients depend on the oddities: `"no"` is false and `"x"` is true, a filter is a list or a map to booleans, ``tail=x``
means all, an empty body is fine without a content type. Limits are ours: a JSON body has at most 4 MiB and 64 levels.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
import re
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from pyd_contracts.errors import InvalidArgument, PermissionDenied
from pyd_daemon.backends import RegistryAuth
from pyd_daemon.failures import BodyTooLarge
from pyd_daemon.wire.requests import AuthConfig
from pyd_engine.containers.decoding import fit, parse

__all__ = [
    "JSON_DEPTH",
    "JSON_LIMIT",
    "check_origin",
    "credentials",
    "decode",
    "filters",
    "flag",
    "integer",
    "json_body",
    "nanoseconds",
    "platform",
    "registry_auth",
    "registry_config",
    "stream_body",
    "timestamp",
]

T = TypeVar("T")

JSON_LIMIT = 4 * 1024 * 1024
JSON_DEPTH = 64
FILTERS_LIMIT = 1000  # values in one filter argument
_FALSE = frozenset(("", "0", "no", "false", "none"))
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_PLATFORM = re.compile(r"[a-z0-9_.-]+(?:/[a-z0-9_.-]+){0,3}", re.IGNORECASE)


# ---------------------------------------------------------------------------------------------------- query values


def flag(text: str | None, default: bool = False) -> bool:
    """Docker's `BoolValue`: ``"" 0 no false none`` are false, everything else is true; *default* if not given."""
    return default if text is None else text.strip().lower() not in _FALSE


def integer(text: str | None, name: str, default: int | None = None) -> int | None:
    """A whole number of at most 64 bits; *default* if missing or empty."""
    if text is None or text == "":
        return default
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text) or not -(2**63) <= int(text) < 2**63:
        raise InvalidArgument(f"invalid value for {name}: {text[:40]!r} is not a whole number")
    return int(text)


def timestamp(text: str | None, name: str) -> float | None:
    """Unix seconds, with a fraction if wanted (``1700000000.25``); None if missing or empty.

    Clients turn durations and dates into this form before they ask.
    """
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", text):
        raise InvalidArgument(f"invalid value for {name}: {text[:40]!r} is not a unix time such as 1700000000.25")
    value = float(text)
    return value if math.isfinite(value) else None


def nanoseconds(text: str | None, name: str) -> int:
    """The same as whole nanoseconds, 0 if missing or empty: a float is exact to some 200 ns only, lines of a log are
    closer to one another."""
    if timestamp(text, name) is None or not text:
        return 0
    seconds, _, fraction = text.partition(".")
    rest = int(f"{fraction:0<9}"[:9])
    return int(seconds) * 1_000_000_000 + (-rest if seconds.startswith("-") else rest)


def platform(text: str | None) -> str | None:
    """``os[/arch[/variant]]``, or None. Also OCI's JSON object, as newer clients send it."""
    if not text:
        return None
    if text.startswith("{"):
        parts = _object(text, "platform")
        text = "/".join(str(parts[key]) for key in ("os", "architecture", "variant") if parts.get(key))
    if not _PLATFORM.fullmatch(text):
        raise InvalidArgument(
            f"invalid platform {text[:80]!r}: expected os[/architecture[/variant]], such as linux/arm64"
        )
    return text


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"invalid {name}: {error}") from error
    return given


def filters(text: str | None, known: frozenset[str] | None) -> dict[str, list[str]]:
    """The ``filters`` argument: a JSON map of name to list, or (older clients) of name to a map to booleans.

    *known*: names this endpoint understands; None: any.
    """
    if not text:
        return {}
    try:
        given = msgspec.json.decode(text, type=dict[str, list[str] | dict[str, bool] | None] | None) or {}
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument("invalid filter: expected a JSON object of lists of strings") from error
    result = {name: list(values) for name, values in given.items() if values}
    if known is not None:
        for name in given:
            if name not in known:
                raise InvalidArgument(f"invalid filter '{name[:80]}'")
    if sum(map(len, result.values())) > FILTERS_LIMIT:
        raise InvalidArgument(f"invalid filter: more than {FILTERS_LIMIT} values")
    return result


def registry_auth(header: str | None) -> RegistryAuth | None:
    """``X-Registry-Auth``: base64 (either alphabet, padded or not) of a JSON object; None without credentials."""
    if not header:
        return None
    try:
        plain = header.strip().rstrip("=").replace("-", "+").replace("_", "/")
        text = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        given = msgspec.json.decode(text, type=AuthConfig | None) if text.strip() else None
    except (binascii.Error, ValueError, RecursionError):
        # The cause is not kept: it quotes from the credentials.
        raise InvalidArgument("invalid X-Registry-Auth header: expected base64url of a JSON object") from None
    return credentials(given)


def registry_config(header: str | None) -> dict[str, RegistryAuth]:
    """``X-Registry-Config``: the same of an object with credentials by registry."""
    if not header:
        return {}
    try:
        plain = header.strip().rstrip("=").replace("-", "+").replace("_", "/")
        text = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        given = msgspec.json.decode(text, type=dict[str, AuthConfig] | None) if text.strip() else None
    except (binascii.Error, ValueError, RecursionError):
        # The cause is not kept: it quotes from the credentials.
        raise InvalidArgument("invalid X-Registry-Config header: expected base64url of a JSON object") from None
    return {name: auth for name, each in (given or {}).items() if (auth := credentials(each)) is not None}


def credentials(given: AuthConfig | None) -> RegistryAuth | None:
    """What the engine is given; the old ``auth`` field (base64 of user:password) is taken apart here."""
    if given is None:
        return None
    username, password = given.username, given.password
    if given.auth and not username:
        try:
            username, _, password = base64.b64decode(given.auth).decode().partition(":")
        except ValueError:
            raise InvalidArgument("invalid credentials: auth is not base64 of user:password") from None
    if not (username or password or given.identitytoken or given.registrytoken):
        return None
    return RegistryAuth(username, password.strip("\0"), given.serveraddress, given.identitytoken, given.registrytoken)


# ---------------------------------------------------------------------------------------------------- bodies


async def json_body(request: BaseRequest, *, limit: int = JSON_LIMIT) -> bytes:
    """The body of a JSON endpoint; ``b""`` if there is none.

    Raises `InvalidArgument` for another content type or too deep a structure, `BodyTooLarge` past *limit*.
    """
    kind = request.headers.get("Content-Type", "")
    if kind.partition(";")[0].strip().lower() != "application/json" and (kind or request.body_exists):
        raise InvalidArgument(f"Content-Type specified ({kind[:80]}) must be 'application/json'")
    body = await _read(request, limit)
    if body.count(b"{") + body.count(b"[") > JSON_DEPTH:
        _check_depth(body)
    return body


async def _read(request: BaseRequest, limit: int) -> bytes:
    message = f"request body is larger than {limit} bytes, the limit of this endpoint"
    if (request.content_length or 0) > limit:
        raise BodyTooLarge(message)
    pieces: list[bytes] = []
    size = 0
    async for piece in stream_body(request):
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(message)
        pieces.append(piece)
    return b"".join(pieces)


async def stream_body(request: BaseRequest) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `InvalidArgument` if the client ends before it said everything."""
    if not request.can_read_body:
        return
    content = request.content
    try:
        while piece := await content.readany():
            yield piece
    except (web.RequestPayloadError, ConnectionError) as error:
        raise InvalidArgument("the request body ended early or is malformed") from error


def _check_depth(body: bytes) -> None:
    depth = 0
    for bracket in _STRING.sub(b"", body).translate(None, _BRACKETS):
        depth += 1 if bracket in b"{[" else -1
        if depth > JSON_DEPTH:
            raise InvalidArgument(f"invalid JSON: more than {JSON_DEPTH} levels deep")


def decode(body: bytes, kind: type[T], what: str = "invalid JSON") -> T:
    """*body* as *kind*, by Go's rules for keys and null; `InvalidArgument` naming the field otherwise."""
    return fit(parse(body), kind, what)


# ---------------------------------------------------------------------------------------------------- who asks


def check_origin(request: BaseRequest, allowed_hosts: frozenset[str]) -> None:
    """On TCP: no web page may speak to the API (cross-site requests, DNS rebinding). Raises `PermissionDenied`.

    No client of this API sends ``Origin``; a browser cannot leave it out of a cross-site POST. A name in ``Host`` that
    is neither an address nor ``localhost`` nor in *allowed_hosts* may have been made to point here.
    """
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        raise PermissionDenied("requests from web pages are refused: the API is for programs (Origin header present)")
    host = request.headers.get("Host", "").lower()
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
    if name in allowed_hosts or name in {"", "localhost"}:
        return
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        raise PermissionDenied(
            f"host name {name[:80]!r} is not one this daemon serves: use its address or a name it is configured with"
        ) from None
