"""Images in registries: the OCI Distribution API. What is sent there is in `pyd_engine.images.upload`.

Errors have Docker's words, because clients and scripts read them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import aiohttp

from pyd_contracts.errors import InvalidArgument, NotFound, PermissionDenied, PydError, Unauthorized
from pyd_engine.images.auth import ANONYMOUS, Credentials
from pyd_engine.images.documents import ACCEPT, MAX_MANIFEST, Descriptor, parse_json
from pyd_engine.images.reference import DEFAULT_DOMAIN, Reference
from pyd_engine.images.transport import Host, RegistryConfig, RegistryFault, Transient, new_session, read_capped
from pyd_engine.store.content import Content, DigestMismatch

__all__ = ["Fetched", "Registries", "Repository", "retrying"]

_PIECE = 1 << 20
_MOST_TAGS = 10_000
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest or index as the registry sent it; *digest* is computed from the bytes."""

    raw: bytes
    digest: str


async def retrying(config: RegistryConfig, attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Repeat what failed on the way; what the registry decided stands. Waits twice as long each time."""
    for left in range(config.retries - 1, -1, -1):
        try:
            return await attempt()
        except Transient as error:
            if not left:
                raise
            done = config.retries - left
            await asyncio.sleep(error.after if error.after is not None else config.backoff * 2 ** (done - 1))
    raise AssertionError("retries is at least 1")


class Registries:
    """The way out to all registries; one HTTP session, made when first used. Call close at the end."""

    def __init__(self, config: RegistryConfig | None = None) -> None:
        self.config = config or RegistryConfig()
        self._session: aiohttp.ClientSession | None = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = new_session(self.config)
        return self._session

    def repository(self, reference: Reference, credentials: Credentials = ANONYMOUS) -> Repository:
        """The repository a reference names, for one operation."""
        names = [*self.config.mirrors] if reference.domain == DEFAULT_DOMAIN else []
        hosts = [self.host(reference.domain, credentials)]
        return Repository([*(self.host(name) for name in names), *hosts], reference, self.config)

    def host(self, domain: str, credentials: Credentials = ANONYMOUS) -> Host:
        """One registry, for one operation."""
        return Host(self._opened(), domain, self.config, credentials)

    async def login(self, domain: str, credentials: Credentials) -> None:
        """Check credentials against a registry (``docker login``). Unauthorized when it refuses them."""
        host = self.host(DEFAULT_DOMAIN if domain in ("", "index.docker.io") else domain, credentials)
        try:
            await host.login()
        except RegistryFault as fault:
            raise Unauthorized(str(fault)) from fault

    async def close(self) -> None:
        """Close connections; twice is once."""
        if self._session is not None:
            await self._session.close()


class Repository:
    """One repository: fetches manifests and blobs. With mirrors, the first host that has the manifest serves the blobs."""

    def __init__(self, hosts: list[Host], reference: Reference, config: RegistryConfig) -> None:
        self._hosts = hosts
        self._reference = reference
        self._config = config
        self._scope = f"repository:{reference.path}:pull"

    async def manifest(self, wanted: str) -> Fetched:
        """A manifest or index by tag or digest. NotFound, Unauthorized, Unavailable."""
        last = len(self._hosts) - 1
        for position, host in enumerate(self._hosts):
            try:
                fetched = await retrying(self._config, lambda host=host: self._manifest(host, wanted))  # type: ignore[misc]
            except (PydError, RegistryFault) as error:
                if position < last and not isinstance(error, DigestMismatch):
                    continue
                if isinstance(error, RegistryFault):
                    raise self._translated(error) from error
                raise
            self._hosts = [host]
            return fetched
        raise NotFound(f"manifest for {self._reference.familiar} not found")

    async def _manifest(self, host: Host, wanted: str) -> Fetched:
        what = f"manifest of {self._reference.familiar}"
        path = f"{self._reference.path}/manifests/{wanted}"
        async with host.request("GET", path, self._scope, {"Accept": ACCEPT}) as response:
            raw = await read_capped(response, MAX_MANIFEST, what)
            said = response.headers.get("Docker-Content-Digest", "")
        digest = "sha256:" + hashlib.sha256(raw).hexdigest()
        for expected in (wanted if ":" in wanted else "", said if said.startswith("sha256:") else ""):
            if expected and expected != digest:
                raise DigestMismatch(
                    f"{what}: manifest verification failed for digest {expected}: the bytes have {digest}"
                )
        return Fetched(raw, digest)

    async def tags(self) -> list[str]:
        """All tags of the repository, as the registry orders them (``docker pull --all-tags``). At most 10,000."""
        host = self._hosts[-1]
        path = f"{self._reference.path}/tags/list"
        found: list[str] = []
        while path and len(found) < _MOST_TAGS:
            answer, path = await retrying(self._config, lambda page=path: self._tags_page(host, page))  # type: ignore[misc]
            found += answer
        return found

    async def _tags_page(self, host: Host, path: str) -> tuple[list[str], str]:
        what = f"tags of {self._reference.familiar_name}"
        try:
            async with host.request("GET", path, self._scope) as response:
                answer = parse_json(await read_capped(response, MAX_MANIFEST, what), what)
                link = response.headers.get("Link", "")
        except RegistryFault as fault:
            raise self._translated(fault) from fault
        tags = answer.get("tags") or []
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise InvalidArgument(f"{what}: a list of strings is expected")
        # the next page is taken from the link's query only: the address of the registry stays ours
        _, mark, query = link.partition("<")[2].partition(">")[0].partition("?")
        return tags, f"{self._reference.path}/tags/list?{query}" if mark and 'rel="next"' in link else ""

    async def small_blob(self, descriptor: Descriptor, content: Content) -> bytes:
        """A configuration: stored and returned. Its size must have been checked against a limit."""
        if not await asyncio.to_thread(content.has, descriptor.digest):
            await self.blob(descriptor, content)
        return await asyncio.to_thread(content.read, descriptor.digest, descriptor.size)

    async def blob(
        self, descriptor: Descriptor, content: Content, progress: Callable[[int], None] | None = None
    ) -> None:
        """Download a blob into the content store: verified, resumed after a broken connection. *progress* gets bytes so far."""
        with content.ingest(descriptor.digest, descriptor.size) as ingest:

            async def attempt() -> None:
                headers = {"Range": f"bytes={ingest.written}-"} if ingest.written else {}
                if ingest.written == descriptor.size and descriptor.size:
                    return
                path = f"{self._reference.path}/blobs/{descriptor.digest}"
                async with self._hosts[0].request("GET", path, self._scope, headers) as response:
                    resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
                        f"bytes {ingest.written}-"
                    )
                    if ingest.written and not resumed:
                        ingest.restart()
                    async for piece in response.content.iter_chunked(_PIECE):
                        await asyncio.to_thread(ingest.write, piece)
                        if progress:
                            progress(ingest.written)
                if ingest.written < descriptor.size:
                    raise Transient(
                        f"blob {descriptor.digest}: unexpected EOF after {ingest.written} of {descriptor.size} bytes"
                    )

            try:
                await retrying(self._config, attempt)
                await asyncio.to_thread(ingest.commit)
            except RegistryFault as fault:
                raise self._translated(fault) from fault
            except DigestMismatch as error:
                raise DigestMismatch(
                    f"filesystem layer verification failed for digest {descriptor.digest}: {error}"
                ) from error

    def _translated(self, fault: RegistryFault) -> PydError:
        reference = self._reference
        if fault.code == "DENIED":
            return NotFound(
                f"pull access denied for {reference.familiar_name}, repository does not exist "
                f"or may require 'docker login': {fault}"
            )
        if fault.code == "MANIFEST_UNKNOWN":
            return NotFound(f"manifest for {reference.familiar} not found: {fault}")
        if fault.code == "NAME_UNKNOWN":
            return NotFound(f"repository {reference.familiar_name} not found: {fault}")
        if fault.status == 401:
            return Unauthorized(str(fault))
        if fault.status == 403:
            return PermissionDenied(str(fault))
        if fault.status == 404:
            return NotFound(f"manifest for {reference.familiar} not found: {fault}")
        return InvalidArgument(str(fault))
