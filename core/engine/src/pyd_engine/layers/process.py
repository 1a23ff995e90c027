"""The processes that unpack layers: started, kept while there is work, asked, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pyd_contracts.errors import DriverFault, Unavailable
from pyd_engine.ending import end

__all__ = ["Workers"]

_BOOT = "import sys; sys.path[:0] = {first}; sys.path += {last}; from pyd_engine.layers.worker import main; main()"
_LINE = 4 << 20


class Workers:
    """Asks `pyd_engine.layers.worker`. To start it takes longer than a small layer does, so it is used again, and by several at
    once; it ends when nobody keeps it."""

    def __init__(self) -> None:
        self._keepers = 0
        self._worker: asyncio.Task[_Worker] | None = None

    @contextlib.asynccontextmanager
    async def kept(self, *, ahead: bool = False) -> AsyncIterator[None]:
        """A worker that is done waits for more. *ahead*: it is started at once, beside what the caller does first."""
        self._keepers += 1
        if ahead:
            self._running()
        try:
            yield
        finally:
            self._keepers -= 1
            if not self._keepers:
                await asyncio.shield(self._end())

    async def ask(
        self, request: Mapping[str, Any], progress: Callable[[int], None], what: str, fds: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Have one request worked on in a process of its own; returns its last answer.

        *what* is for messages; *fds* are the descriptors that go with the request. *progress* gets the bytes of the blob that
        were read. The work ends with the caller. Unavailable when its process was killed, DriverFault when it broke.
        """
        async with self.kept():
            running = self._running()
            worker = await asyncio.shield(running)
            try:
                return await worker.ask(request, progress, what, fds)
            finally:
                if worker.broken:
                    if self._worker is running:
                        self._worker = None
                    if not worker.asked:  # the last of those who ask it
                        await asyncio.shield(worker.end())

    def _running(self) -> asyncio.Task[_Worker]:
        if self._worker is None or (self._worker.done() and (self._worker.cancelled() or self._worker.exception())):
            self._worker = asyncio.create_task(_start())
        return self._worker

    async def _end(self) -> None:
        running, self._worker = self._worker, None
        if running is not None:
            await asyncio.wait([running])
            if not running.cancelled() and running.exception() is None:
                await running.result().end()


class _Worker:
    """One process, and those that it forks: one a request."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket, errors: IO[bytes]) -> None:
        self._process = process
        self._channel = channel
        self._errors = errors
        self.asked = 0
        """How many requests it has."""
        self.broken = False

    async def ask(
        self, request: Mapping[str, Any], progress: Callable[[int], None], what: str, fds: Sequence[int]
    ) -> dict[str, Any]:
        """`Workers.ask`."""
        self.asked += 1
        try:
            return await self._ask(request, progress, what, fds)
        finally:
            self.asked -= 1

    async def _ask(
        self, request: Mapping[str, Any], progress: Callable[[int], None], what: str, fds: Sequence[int]
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        code: int | None = None
        errors = self._errors.fileno()
        before = os.fstat(errors).st_size
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE)
            with contextlib.suppress(ConnectionError):  # how it ended is told below
                socket.send_fds(self._channel, [b"?"], [theirs.fileno()])
        try:
            with contextlib.suppress(ConnectionError):
                line = json.dumps(request).encode() + b"\n"
                sent = socket.send_fds(ours, [line], list(fds)) if fds else 0
                writer.write(line[sent:])
                await writer.drain()
                while code is None and (line := await reader.readline()):
                    said = json.loads(line)
                    if "read" in said:
                        progress(said["read"])
                    elif "ended" in said:
                        code = said["ended"]
                    else:
                        answer = said
        finally:
            await asyncio.shield(_finished(reader, writer))
        if code == 0 and answer:
            return answer
        if code is None:  # the process that would have told
            self.broken = True
            code = await self._process.wait()
        begin = max(before, os.fstat(errors).st_size - 4000)
        text = os.pread(errors, 4000, begin).decode(errors="replace").strip()  # their offset is the worker's, too
        if code in (-9, -15):
            raise Unavailable(f"{what}: its worker was killed by signal {-code}; memory may have run out")
        raise DriverFault(f"{what}: its worker ended with status {code}: {text or 'no message'}")

    async def end(self) -> None:
        """Kill it and what it works on, and wait until it is gone. Who asked waits for the latter."""
        try:
            await end(self._process)
        finally:
            self._channel.close()
            self._errors.close()


async def _finished(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End a request; back when nothing works on it any more."""
    with contextlib.suppress(OSError):
        writer.write_eof()  # if it is at work it is killed
        while await reader.read(_LINE):
            pass  # the end comes when nobody has the other side
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _start() -> _Worker:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ours)
        errors = stack.enter_context(
            os.fdopen(os.memfd_create("pyd-unpack-errors"), "w+b")
        )  # no name to be left behind
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-B", "-c", _boot(), stdin=theirs.fileno(), stdout=errors, stderr=errors,
                env={"LC_ALL": "C.UTF-8"}, cwd="/", start_new_session=True,
            )  # fmt: skip
        stack.pop_all()
        return _Worker(process, ours, errors)


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
