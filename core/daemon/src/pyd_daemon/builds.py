"""The builds service as the routes use it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace

from pyd_contracts.errors import InvalidArgument
from pyd_daemon import requests
from pyd_daemon.backends import Filters, Json, JsonList, RegistryAuth
from pyd_daemon.images import Room, credentials, streamed
from pyd_engine.builds.request import BuildRequest
from pyd_engine.builds.service import Builds
from pyd_engine.images.auth import Credentials
from pyd_engine.images.progress import Progress
from pyd_engine.images.views import stamp

__all__ = ["BuildsFace"]

_HUB = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")


class BuildsFace:
    """Satisfies `backends.Builds`."""

    def __init__(self, builds: Builds) -> None:
        self._builds = builds

    async def build(
        self, request: BuildRequest, auths: Mapping[str, RegistryAuth], context: AsyncIterator[bytes]
    ) -> AsyncIterator[Json]:
        """``POST /build``: dockerd's records. Ends with whoever reads them."""

        def of(domain: str) -> Credentials:
            names = _HUB if domain == "docker.io" else (domain, f"https://{domain}", f"http://{domain}")
            return credentials(next((auths[name] for name in names if name in auths), None))

        async def work(progress: Progress) -> None:
            await self._builds.build(replace(request, credentials=of), context, progress, room.wait)

        room = Room()
        async with aclosing(streamed(work, room)) as records:
            async for record in records:
                yield record

    async def prune(self, filters: Filters, *, all_: bool) -> Json:
        """``POST /build/prune``."""
        times = [_before(value) for name in ("until", "unused-for") for value in filters.get(name, ())]
        if set(filters) & {"label", "label!", "type", "description"}:
            return {"CachesDeleted": None, "SpaceReclaimed": 0}  # steps have no labels: none is chosen
        gone = self._builds.prune(all_=all_, unused_since=min(times, default=None), ids=tuple(filters.get("id", ())))
        return {"CachesDeleted": gone or None, "SpaceReclaimed": 0}

    def usage(self) -> JsonList:
        """Docker's BuildCache objects. What they name are images and counted there: they themselves are nothing."""
        return [
            {
                "ID": entry.key, "Parent": entry.parent, "Type": "regular", "Description": entry.description,
                "InUse": in_use, "Shared": True, "Size": 0, "CreatedAt": stamp(entry.made_at),
                "LastUsedAt": stamp(entry.used_at), "UsageCount": entry.uses,
            }
            for entry, in_use in self._builds.entries()
        ]  # fmt: skip


def _before(text: str) -> int:
    """A time, or a duration back from now (``24h``), in nanoseconds since the epoch."""
    units = {"s": 1, "m": 60, "h": 3600}
    if text[-1:] in units and text[:-1].isascii() and text[:-1].isdigit():
        return time.time_ns() - int(text[:-1]) * units[text[-1]] * 10**9
    moment = requests.nanoseconds(text, "until")
    if not moment:
        raise InvalidArgument(f"invalid filter 'until={text[:100]}': want a time or a duration")
    return moment
