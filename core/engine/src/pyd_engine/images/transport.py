"""HTTP to one registry: https or http, authentication, redirects, and errors in the words Docker's clients know."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from pyd_contracts.errors import InvalidArgument, PermissionDenied, PydError, Unauthorized, Unavailable
from pyd_engine.images.auth import (
    Challenge,
    Credentials,
    challenges,
    check_realm,
    is_local,
    may_receive,
    origin,
)
from pyd_engine.images.documents import parse_json

__all__ = ["Body", "Host", "RegistryConfig", "RegistryFault", "Transient", "new_session", "read_capped", "reason"]

Body = Callable[[], Any]
"""Makes the body of a request: bytes, or an asynchronous iterator of bytes."""

_HUB = "registry-1.docker.io"
_MAX_REDIRECTS = 10
_MAX_ERROR_BODY = 64 << 10
_MAX_TOKEN = 1 << 20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """What the configuration says of registries.

    insecure        hosts (``host[:port]``) and networks (``10.0.0.0/8``) that may use http or certificates we do not know;
                    loopback always may
    mirrors         hosts to ask before docker.io, for docker.io's images only and without credentials
    trusted_realms  further hosts that may receive a registry's credentials to make tokens
    """

    insecure: frozenset[str] = frozenset()
    mirrors: tuple[str, ...] = ()
    trusted_realms: frozenset[str] = field(default_factory=frozenset)
    retries: int = 5
    backoff: float = 0.5
    stall: float = 60.0

    def is_insecure(self, host: str) -> bool:
        """Whether http and unknown certificates are fine for *host* (``name[:port]``)."""
        name = URL(f"http://{host}").host or ""
        if is_local(name) or host in self.insecure or name in self.insecure:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        networks = (entry for entry in self.insecure if "/" in entry)
        return any(address in ipaddress.ip_network(entry, strict=False) for entry in networks)


class Transient(Unavailable):
    """The registry or the way to it failed; the same request may work soon. *after*: seconds it asked us to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class RegistryFault(PydError):
    """The registry answered with an error. *code* is its own (``MANIFEST_UNKNOWN``) or empty."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(f"{code.lower().replace('_', ' ')}: {text}" if code else text)
        self.status = status
        self.code = code


class _Resolver(AbstractResolver):
    """Names never resolve to link-local addresses: cloud metadata services live there."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        kept = [item for item in found if not ipaddress.ip_address(item["host"].partition("%")[0]).is_link_local]
        if not kept:
            raise OSError(None, "no such host")
        return kept

    async def close(self) -> None:
        await self._inner.close()


def new_session(config: RegistryConfig) -> aiohttp.ClientSession:
    """A session fit for blobs: large reads, no decoding, no proxy surprises beyond the environment's."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, resolver=_Resolver()),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=config.stall),
        auto_decompress=False,
        read_bufsize=1 << 20,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=True,
        headers={"User-Agent": "pyd", "Accept-Encoding": "identity"},
    )


async def read_capped(response: aiohttp.ClientResponse, most: int, what: str) -> bytes:
    """The body, at most *most* bytes of it; InvalidArgument when there is more."""
    data = bytearray()
    async for piece in response.content.iter_chunked(1 << 16):
        data += piece
        if len(data) > most:
            raise InvalidArgument(f"{what}: larger than the limit of {most} bytes")
    return bytes(data)


class Host:
    """One registry host during one operation: knows its scheme, its challenges and its tokens.

    *name* is ``host[:port]``, for docker.io ``docker.io``. Raises Transient for what may work
    later, Unauthorized, PermissionDenied.
    """

    def __init__(
        self, session: aiohttp.ClientSession, name: str, config: RegistryConfig, credentials: Credentials
    ) -> None:
        self.name = name
        self._session = session
        self._config = config
        self._credentials = credentials
        self._insecure = config.is_insecure(name)
        self._base: URL | None = None
        self._challenges: list[Challenge] = []
        self._tokens: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def base(self) -> URL:
        """``https://host/v2/`` or its http twin: found once, by asking."""
        async with self._lock:
            if self._base is None:
                await self._ping()
            assert self._base is not None
            return self._base

    async def _ping(self) -> None:
        address = _HUB if self.name == "docker.io" else self.name
        schemes = ("https", "http") if self._insecure else ("https",)
        for scheme in schemes:
            url = URL(f"{scheme}://{address}/v2/")
            try:
                async with self._open("GET", url, {}) as response:
                    await read_capped(response, _MAX_TOKEN, str(url))
                    self._challenges = challenges(response.headers.getall("WWW-Authenticate", []))
                    self._base = url
                    return
            except Transient as error:
                if scheme == schemes[-1]:  # nobody is there: the person who waits should know at once
                    raise Unavailable(str(error)) from error

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, path: str | URL, scope: str, headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
        """Ask for ``/v2/<path>``, or for an address from `location`; authenticates and follows redirects.

        *body* makes what is sent, for each try anew. Error statuses raise RegistryFault or Transient.
        """
        base = await self.base()
        url = path if isinstance(path, URL) else URL(str(base) + path, encoded=True)
        for attempt in (1, 2):
            sent = dict(headers or {})
            ours = origin(url) == origin(base)
            authorization = await self._authorization(scope, renew=attempt == 2) if ours else ""
            if authorization:
                sent["Authorization"] = authorization
            async with contextlib.AsyncExitStack() as stack:
                response = await self._follow(stack, method, url, sent, body)
                asked = origin(response.url) == origin(url)
                if response.status == 401 and attempt == 1 and asked:
                    offered = challenges(response.headers.getall("WWW-Authenticate", []))
                    if offered:
                        self._challenges = offered
                        continue
                if response.status >= 400:
                    await self._fail(response)
                yield response
                return

    async def location(self, response: aiohttp.ClientResponse) -> URL:
        """Where the registry wants a blob sent (distribution-spec, "Pushing blobs"), under the rules of redirects."""
        if not response.headers.get("Location"):
            raise InvalidArgument(f"registry {self.name}: accepts an upload and does not say where to")
        return self._target(response.url, await self.base(), response.headers["Location"])

    async def _follow(
        self, stack: contextlib.AsyncExitStack, method: str, url: URL, headers: dict[str, str], body: Body | None
    ) -> aiohttp.ClientResponse:
        start = url
        for _ in range(_MAX_REDIRECTS):
            sent = body() if body is not None else None
            response = await stack.enter_async_context(self._open(method, url, headers, sent))
            if response.status not in _REDIRECTS:
                return response
            target = self._target(url, start, response.headers.get("Location", ""))
            if origin(target) != origin(url):
                headers = {key: value for key, value in headers.items() if key != "Authorization"}
            url = target
        raise Unavailable(f'Get "{start}": stopped after {_MAX_REDIRECTS} redirects')

    def _target(self, url: URL, start: URL, location: str) -> URL:
        """Where the answer of *url* leads, if it may lead there. *start* is where the operation began."""
        try:
            target = url.join(URL(location, encoded=True))
        except ValueError as error:
            raise InvalidArgument(f"registry {self.name}: redirects {url} to what is no address") from error
        if target.scheme not in ("http", "https") or not target.host:
            raise InvalidArgument(
                f"registry {self.name}: redirects {url} to {str(target)[:200]!r}, which is no http address"
            )
        if url.scheme == "https" and target.scheme == "http":
            raise PermissionDenied(f"registry {self.name}: redirects from https to {target.with_query(None)}")
        if is_local(target.host) and not is_local(start.host or ""):
            raise PermissionDenied(
                f"registry {self.name}: redirects to {target.with_query(None)}, an address of this host or link"
            )
        return target

    @contextlib.asynccontextmanager
    async def _open(
        self, method: str, url: URL, headers: Mapping[str, str], body: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        verb = method.capitalize()
        verify = not self._config.is_insecure(f"{url.host_subcomponent}:{url.port}")
        try:
            async with self._session.request(
                method, url, headers=headers, data=body, allow_redirects=False, ssl=verify
            ) as response:
                yield response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Transient(f'{verb} "{url.with_query(None)}": {reason(error, url)}') from error

    async def _fail(self, response: aiohttp.ClientResponse) -> None:
        code = text = ""
        with contextlib.suppress(InvalidArgument):
            answer = parse_json(await read_capped(response, _MAX_ERROR_BODY, "error"), "error")
            faults = answer.get("errors")
            if isinstance(faults, list) and faults and isinstance(faults[0], dict):
                code, text = str(faults[0].get("code", "")), str(faults[0].get("message", ""))
            else:
                text = str(answer.get("details") or answer.get("message") or "")
        address = response.url.with_query(None)
        if response.status >= 500 or response.status in (408, 425, 429):
            after = response.headers.get("Retry-After", "")
            wait = min(float(after), 60.0) if after.isascii() and after.isdigit() else None
            said = f": {text}" if text else ""
            label = "toomanyrequests" if response.status == 429 else "received unexpected HTTP status"
            raise Transient(
                f"{label}: {response.status} {response.reason or ''}".rstrip() + f" ({address}){said}", wait
            )
        if response.status == 401 and not code:
            raise Unauthorized(f'Get "{address}": unauthorized: authentication required')
        if not code:
            text = text or f"error parsing HTTP {response.status} response body of {address}"
        raise RegistryFault(response.status, code.upper(), (text or "unknown error")[:2000])

    # --- authorization -------------------------------------------------------------------------------------------

    async def _authorization(self, scope: str, *, renew: bool) -> str:
        assert self._base is not None
        if self._credentials.registry_token:
            return "Bearer " + self._credentials.registry_token
        offered = {challenge.scheme: challenge for challenge in self._challenges}
        if "bearer" in offered:
            async with self._lock:
                if renew or scope not in self._tokens:
                    self._tokens[scope] = await self._token(offered["bearer"].parameters, scope)
                return "Bearer " + self._tokens[scope]
        if "basic" in offered:
            if not self._credentials.username:
                raise Unauthorized(f'Get "{self._base}": no basic auth credentials')
            return self._credentials.basic()
        return ""

    async def _token(self, parameters: Mapping[str, str], scope: str) -> str:
        assert self._base is not None
        realm = check_realm(self._base, parameters.get("realm", ""))
        credentials = self._credentials
        trusted = may_receive(self._base, realm, self._config.trusted_realms)
        if not scope and credentials.username and not trusted:  # a login that sends no password proves nothing
            raise Unauthorized(
                f"credentials of {self.name} were not sent to {realm.host}, another domain: add it to trusted-realms"
            )
        query = {"service": parameters.get("service", "")}
        if scope:
            query["scope"] = scope
        form: dict[str, str] | None = None
        headers: dict[str, str] = {}
        if trusted and credentials.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": "pyd",
            }
            url, method = realm, "POST"
        else:
            if trusted and credentials.username:
                query["account"] = credentials.username
                headers["Authorization"] = credentials.basic()
            url, method = realm.update_query(query), "GET"
        async with self._open(method, url, headers, form) as response:
            if response.status in (401, 403):
                helps = "" if trusted or not credentials.username else (
                    f"; credentials of {self.name} were not sent to {realm.host}, another domain: add it to trusted-realms"
                )  # fmt: skip
                raise Unauthorized(f'Get "{realm}": unauthorized: incorrect username or password{helps}')
            if response.status != 200:
                raise Transient(f'Get "{realm}": the token server answers {response.status}')
            answer = parse_json(await read_capped(response, _MAX_TOKEN, str(realm)), f"token of {realm}")
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise Unauthorized(f'Get "{realm}": authorization server did not include a token in the response')
        return token

    async def login(self) -> None:
        """Check the credentials. Unauthorized when they are wrong."""
        base = await self.base()
        authorization = await self._authorization("", renew=True)
        async with self._open("GET", base, {"Authorization": authorization} if authorization else {}) as response:
            if response.status == 401:
                raise Unauthorized(f'Get "{base}": unauthorized: incorrect username or password')
            if response.status != 200:
                await self._fail(response)


def reason(error: Exception, url: URL) -> str:
    """What Go's http client would say."""
    where = f"{url.host}:{url.port}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {url.host}: no such host"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"tls: failed to verify certificate: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        if getattr(error.os_error, "reason", "") in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return "http: server gave HTTP response to HTTPS client"
        return f"remote error: tls: {error.os_error}"
    if isinstance(error, ssl.SSLError):
        return f"remote error: tls: {error}"
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        return (
            f"dial tcp {where}: i/o timeout"
            if isinstance(error, aiohttp.ConnectionTimeoutError)
            else "context deadline exceeded"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        text = os.strerror(number).lower() if number in errno.errorcode else str(error.os_error)
        return f"dial tcp {where}: connect: {text}"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(error, OSError) and error.errno in errno.errorcode:
        return f"read tcp {where}: {os.strerror(error.errno or 0).lower()}"
    return str(error) or type(error).__name__
