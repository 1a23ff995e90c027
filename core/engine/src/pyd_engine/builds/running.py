"""Programs of a recipe: each in a container of the image so far, which goes when its changes are an image."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec

from pyd_contracts.errors import NotFound, PydError
from pyd_contracts.values import Run
from pyd_engine.builds.cache import Intermediates
from pyd_engine.builds.output import Output, Streams
from pyd_engine.builds.request import BuildFailure, BuildRequest
from pyd_engine.containers import names
from pyd_engine.containers.config import ContainerConfig, CreateRequest, HealthConfig, image_config
from pyd_engine.containers.container import Container
from pyd_engine.containers.host_config import HostConfig, LogConfig
from pyd_engine.containers.service import Containers

__all__ = ["Running"]

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_HEAD = struct.Struct(">B3xI")  # Docker's frames: stream, size


class Running:
    """Runs them. *logging* is the log driver that keeps nothing, for the client reads along; empty: the default one."""

    def __init__(self, containers: Containers, intermediates: Intermediates, logging: str) -> None:
        self._containers = containers
        self._intermediates = intermediates
        self._logging = logging

    async def start_up(self) -> None:
        """Remove containers whose builds ended with an earlier daemon."""
        for name, container in self._intermediates.all():
            found = self._containers.store.find(container) if container else self._by_name(name)
            if found is not None and (container or not found.runs):
                try:
                    await self._containers.remove(found.id, force=True, volumes=True)
                except NotFound:
                    pass
                except PydError as error:
                    log.error("remove container %s of a build that was cut off: %s", found.name, error)
                    continue
            self._intermediates.drop(name)

    def _by_name(self, name: str) -> Container | None:
        try:
            return self._containers.store.get(name)
        except NotFound:
            return None

    @contextlib.asynccontextmanager
    async def done(
        self, work: Run, image: str, config: Mapping[str, Any], request: BuildRequest, output: Output
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Run it, and give what it changed as a layer; BuildFailure when it does not end well."""
        name = names.invent(self._containers.store.name_taken)
        self._intermediates.add(name)
        container, kept = "", request.keep_failed
        try:
            created = await _whole(self._containers.create(name, self._request(work, image, config, request), None))
            container = created.id
            self._intermediates.add(name, container)
            output.running(container)
            for warning in created.warnings:
                output.line(f" ---> [Warning] {warning}")
            status = await self._run(container, work, output)
            if status:
                raise BuildFailure(f"The command '{' '.join(work.command)}' returned a non-zero code: {status}", status)
            layer = await self._containers.files.layer(self._containers.store.get(container))
            try:
                yield aiter(layer)
            finally:
                await layer.aclose()
            kept = request.keep
        except asyncio.CancelledError:
            kept = False
            raise
        finally:
            if not container and (found := self._by_name(name)) is not None:  # who asked left while it was made
                container = found.id
            if not kept:
                await asyncio.shield(self._remove(container, output))
            self._intermediates.drop(name)

    async def _remove(self, container: str, output: Output) -> None:
        if container:
            with contextlib.suppress(NotFound):
                await self._containers.remove(container, force=True, volumes=True)
            output.removing(container)

    def _request(self, work: Run, image: str, config: Mapping[str, Any], request: BuildRequest) -> CreateRequest:
        so_far = image_config(dict(config))
        added = (*work.environment, *work.untold)
        taken = {item.partition("=")[0] for item in added}
        kept = tuple(item for item in so_far.env or () if item.partition("=")[0] not in taken)
        own: ContainerConfig = msgspec.structs.replace(
            so_far, image=image, cmd=work.command, entrypoint=(), env=(*kept, *added), on_build=None,
            healthcheck=HealthConfig(test=("NONE",)), attach_stdout=True, attach_stderr=True, tty=False,
            attach_stdin=bool(work.stdin), open_stdin=bool(work.stdin), stdin_once=bool(work.stdin), hostname="",
        )  # fmt: skip
        host: HostConfig = msgspec.structs.replace(request.limits, log_config=LogConfig(type=self._logging))
        if work.network:
            host = msgspec.structs.replace(host, network_mode=work.network)
        return CreateRequest(config=own, host_config=host)

    async def _run(self, container: str, work: Run, output: Output) -> int:
        """Its status, when it has ended and all that it wrote is told."""
        plan = await self._containers.attach(
            container, stream=True, logs=False, stdin=bool(work.stdin), stdout=True, stderr=True, detach_keys=None
        )
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=ours)
            await plan.connect(theirs.fileno(), b"")
        waiter = await self._containers.waiter(container, "next-exit")
        try:
            await _whole(self._containers.start(container))
            feeding = asyncio.ensure_future(_feed(writer, work.stdin))
            try:
                await _follow(reader, Streams(output), output)
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            status, _ = await waiter.result()
        finally:
            waiter.cancel()
            writer.close()
        return status


async def _feed(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not data:
        return
    with contextlib.suppress(ConnectionError):  # it has ended, or reads no further
        writer.write(data)
        await writer.drain()
        writer.write_eof()


async def _follow(reader: asyncio.StreamReader, streams: Streams, output: Output) -> None:
    """Until the container lets go of its output."""
    try:
        while True:
            stream, size = _HEAD.unpack(await reader.readexactly(_HEAD.size))
            streams.take(2 if stream == 2 else 1, await reader.readexactly(size))
            await output.room()
    except (asyncio.IncompleteReadError, ConnectionError):
        streams.end()


async def _whole(work: Coroutine[Any, Any, _T]) -> _T:
    """To its end, also when the client has gone: what is half made cannot be removed."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
