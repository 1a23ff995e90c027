"""The processes that unpack layers: started, kept while there is work, asked, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pyd_contracts.errors import DriverFault, Unavailable
from pyd_engine.ending import end

__all__ = ["Workers"]

_BOOT = "import sys; sys.path[:0] = {first}; sys.path += {last}; from pyd_engine.layers.worker import main; main()"
_LINE = 1 << 20


class Workers:
    """Asks `pyd_engine.layers.worker`. To start one takes longer than a small layer does, so it is used again; none is left
    when nobody keeps them."""

    def __init__(self) -> None:
        self._keepers = 0
        self._idle: list[_Worker] = []
        self._starting: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def kept(self, *, ahead: bool = False) -> AsyncIterator[None]:
        """Workers that are done wait for more. *ahead*: one is started at once, beside what the caller does first."""
        self._keepers += 1
        if ahead and not self._idle and self._starting is None:
            self._starting = asyncio.create_task(self._start())
        try:
            yield
        finally:
            self._keepers -= 1
            await asyncio.shield(self._end_idle())

    async def ask(
        self, request: Mapping[str, Any], progress: Callable[[int], None], what: str, fds: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Have one request worked on in a process of its own; returns its last answer.

        *what* is for messages; *fds* are the descriptors that go with the request. *progress* gets the bytes of the blob that
        were read. The work ends with the caller. Unavailable when its process was killed, DriverFault when it broke.
        """
        async with self.kept():
            if self._starting is not None:
                await asyncio.wait([self._starting])
            worker = self._idle.pop() if self._idle else await _start()
            try:
                answer = await worker.ask(request, progress, what, fds)
            except BaseException:
                await asyncio.shield(worker.end())
                raise
            self._idle.append(worker)
            return answer

    async def _start(self) -> None:
        try:
            self._idle.append(await _start())
        finally:
            self._starting = None

    async def _end_idle(self) -> None:
        if not self._keepers and self._starting is not None:
            await asyncio.wait([self._starting])
        while self._idle and not self._keepers:
            await self._idle.pop().end()


class _Worker:
    """One process, and those that it forks: one a request."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: socket.socket,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        errors: IO[bytes],
    ) -> None:
        self._process = process
        self._channel = channel
        self._reader, self._writer = streams
        self._errors = errors

    async def ask(
        self, request: Mapping[str, Any], progress: Callable[[int], None], what: str, fds: Sequence[int]
    ) -> dict[str, Any]:
        line = json.dumps(request).encode() + b"\n"
        with contextlib.suppress(ConnectionError):  # how it ended is told below
            sent = socket.send_fds(self._channel, [line], list(fds)) if fds else 0
            self._writer.write(line[sent:])
            await self._writer.drain()
        answer: dict[str, Any] = {}
        code: int | None = None
        with contextlib.suppress(ConnectionError):
            while code is None and (line := await self._reader.readline()):
                said = json.loads(line)
                if "read" in said:
                    progress(said["read"])
                elif "ended" in said:
                    code = said["ended"]
                else:
                    answer = said
        if code == 0 and answer:
            return answer
        if code is None:
            code = await self._process.wait()
        self._errors.seek(0)
        text = self._errors.read()[-4000:].decode(errors="replace").strip()
        if code in (-9, -15):
            raise Unavailable(f"{what}: its worker was killed by signal {-code}; memory may have run out")
        raise DriverFault(f"{what}: its worker ended with status {code}: {text or 'no message'}")

    async def end(self) -> None:
        """Kill it and what it works on, and wait until both are gone."""
        try:
            await end(self._process)
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(_LINE):
                    pass  # the end comes when nobody has the other side: the child that it forked has ended, too
        finally:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
            self._errors.close()


async def _start() -> _Worker:
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as stack:
        stack.enter_context(ours)
        errors = stack.enter_context(tempfile.TemporaryFile())
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-B", "-c", _boot(), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=errors,
                env={"LC_ALL": "C.UTF-8"}, cwd="/", start_new_session=True,
            )  # fmt: skip
        try:
            streams = await asyncio.open_connection(sock=ours, limit=_LINE)
        except BaseException:
            await asyncio.shield(end(process))
            raise
        stack.pop_all()
        return _Worker(process, ours, streams, errors)


def _boot() -> str:
    """The worker's first line: where our modules are, and nothing from the environment."""
    import isal

    import pyd_engine
    import pyd_shim

    first = list(dict.fromkeys(str(Path(str(module.__file__)).parent.parent) for module in (pyd_engine, pyd_shim)))
    sites = [str(Path(str(isal.__file__)).parent.parent)]
    with contextlib.suppress(ImportError):
        from backports import zstd

        place = str(Path(str(zstd.__file__)).parent.parent.parent)
        if place not in sites:
            sites.append(place)
    return _BOOT.format(first=first, last=sites)
