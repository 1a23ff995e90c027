"""Sending blobs and manifests to a repository (OCI distribution-spec, "Push")."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable

from pyd_contracts.errors import InvalidArgument, NotFound, PermissionDenied, PydError, Unauthorized
from pyd_engine.images.documents import MAX_MANIFEST, Descriptor
from pyd_engine.images.reference import Reference
from pyd_engine.images.registry import retrying
from pyd_engine.images.transport import Host, RegistryConfig, RegistryFault, read_capped
from pyd_engine.store.content import Content

__all__ = ["Uploads"]

_PIECE = 1 << 18


class Uploads:
    """One repository that is written to."""

    def __init__(self, host: Host, reference: Reference, config: RegistryConfig) -> None:
        self._host = host
        self._reference = reference
        self._config = config
        self._scope = f"repository:{reference.path}:pull,push"

    async def has(self, digest: str) -> bool:
        """Whether the repository has a blob."""

        async def attempt() -> bool:
            try:
                path = f"{self._reference.path}/blobs/{digest}"
                async with self._host.request("HEAD", path, self._scope):
                    return True
            except RegistryFault as fault:
                if fault.status == 404:
                    return False
                raise

        return await self._asked(attempt)

    async def blob(
        self, descriptor: Descriptor, content: Content, progress: Callable[[int], None], mount_from: str = ""
    ) -> bool:
        """Send a blob of the content store in one piece. *mount_from*: a repository of this registry that may have it; True
        when the registry took it from there."""

        async def attempt() -> bool:
            begin = f"{self._reference.path}/blobs/uploads/"
            if mount_from:
                begin += f"?mount={descriptor.digest}&from={mount_from}"
            async with self._host.request("POST", begin, self._scope, {"Content-Length": "0"}) as response:
                if response.status == 201:
                    return True
                place = await self._host.location(response)
            place = place.update_query(digest=descriptor.digest)
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}

            def body() -> AsyncIterator[bytes]:
                return _pieces(content, descriptor.digest, progress)

            async with self._host.request("PUT", place, self._scope, headers, body) as response:
                said = response.headers.get("Docker-Content-Digest", descriptor.digest)
                if said != descriptor.digest:
                    raise InvalidArgument(f"blob {descriptor.digest}: the registry has stored it as {said[:100]}")
            return False

        return await self._asked(attempt)

    async def manifest(self, name: str, media_type: str, raw: bytes) -> None:
        """Put a manifest under a tag or its digest."""

        async def attempt() -> None:
            path = f"{self._reference.path}/manifests/{name}"
            headers = {"Content-Type": media_type}
            async with self._host.request("PUT", path, self._scope, headers, lambda: raw) as response:
                await read_capped(response, MAX_MANIFEST, "answer")

        await self._asked(attempt)

    async def _asked(self, attempt: Callable[[], object]) -> bool:
        try:
            return bool(await retrying(self._config, attempt))  # type: ignore[arg-type]
        except RegistryFault as fault:
            raise self._translated(fault) from fault

    def _translated(self, fault: RegistryFault) -> PydError:
        where = self._reference.familiar_name
        if fault.code in ("DENIED", "UNAUTHORIZED") or fault.status in (401, 403):
            kind = Unauthorized if fault.status == 401 else PermissionDenied
            return kind(f"push to {where}: {fault}")
        if fault.status == 404:
            return NotFound(f"push to {where}: {fault}")
        return InvalidArgument(f"push to {where}: {fault}")


async def _pieces(content: Content, digest: str, progress: Callable[[int], None]) -> AsyncIterator[bytes]:
    fd = await asyncio.to_thread(content.open, digest)
    try:
        sent = 0
        while piece := await asyncio.to_thread(os.pread, fd, _PIECE, sent):
            yield piece
            sent += len(piece)
            progress(sent)
    finally:
        os.close(fd)
