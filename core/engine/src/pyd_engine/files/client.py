"""Starting the worker for one request, and talking to it (`pyd_engine.files.worker`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyd_contracts.errors import (
    Conflict,
    DriverFault,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PydError,
    Unavailable,
    from_oserror,
)
from pyd_engine.ending import end

__all__ = ["Work", "work"]

_BOOT = "import sys; sys.path[:0] = {path}; from {module} import main; main()"
_CHUNK = 1 << 20
_KINDS: Mapping[str, type[PydError]] = {
    "not-found": NotFound,
    "invalid-argument": InvalidArgument,
    "permission-denied": PermissionDenied,
    "conflict": Conflict,
}


class Work:
    """One request under way. *answer* is the worker's; its archive, if it makes one, follows by iteration."""

    def __init__(self, process: asyncio.subprocess.Process, what: str) -> None:
        self._process = process
        self._what = what
        self.answer: dict[str, Any] = {}

    async def begin(self, request: Mapping[str, Any], archive: AsyncIterator[bytes] | None) -> None:
        """Send the request and what goes with it; wait for the answer. Raises what went wrong."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        sending = asyncio.get_running_loop().create_task(self._send(json.dumps(request).encode() + b"\n", archive))
        try:
            line = await process.stdout.readline()
            if archive is not None and not sending.done():
                sending.cancel()  # it has seen enough: an error, or the archive's end
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await sending
        if not line:
            await self._fail()
        self.answer = json.loads(line)
        if "failed" in self.answer:
            raise self._error()

    async def _send(self, request: bytes, archive: AsyncIterator[bytes] | None) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(ConnectionError):  # it has ended: what it said counts
            stdin.write(request)
            await stdin.drain()
            if archive is not None:
                async for piece in archive:
                    stdin.write(piece)
                    await stdin.drain()
        stdin.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._bytes()

    async def _bytes(self) -> AsyncIterator[bytes]:
        stdout = self._process.stdout
        assert stdout is not None
        while piece := await stdout.read(_CHUNK):
            yield piece
        if await self._process.wait():
            await self._fail()

    async def _fail(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        said = (await stderr.read(4000)).decode(errors="replace").strip()
        code = await self._process.wait()
        if code in (-9, -15):
            raise Unavailable(f"{self._what}: its worker was killed by signal {-code}; memory may have run out")
        raise DriverFault(f"{self._what}: its worker ended with status {code}: {said or 'no message'}")

    def _error(self) -> PydError:
        kind, message = self.answer["failed"], self.answer["message"]
        if kind == "system":
            number = self.answer["errno"]
            return from_oserror(OSError(number, os.strerror(number) if number else message), self._what)
        return _KINDS.get(kind, DriverFault)(message)

    async def further(self) -> dict[str, Any]:
        """One more answer. Raises what went wrong."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._fail()
        self.answer = json.loads(line)
        if "failed" in self.answer:
            raise self._error()
        return self.answer

    async def close(self) -> None:
        """End the worker. Twice is once."""
        await end(self._process)


async def work(
    request: Mapping[str, Any], what: str, *, fds: Sequence[int] = (), archive: AsyncIterator[bytes] | None = None,
    module: str = "pyd_engine.files.worker",
) -> Work:  # fmt: skip
    """Start a worker on *request*; *fds* are descriptors that it names. *what* is for messages: ``copy from c:/etc``. *module*
    has the worker's ``main``.

    The answer is there when this returns; the caller iterates over the archive, if there is one, and closes. Raises the error
    that the worker found.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-B", "-c", _BOOT.format(path=_path(), module=module),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        pass_fds=tuple(fds), env={"LC_ALL": "C.UTF-8"}, cwd="/", start_new_session=True, limit=_CHUNK,
    )  # fmt: skip
    running = Work(process, what)
    try:
        await running.begin(request, archive)
    except BaseException:
        await running.close()
        raise
    return running


def _path() -> list[str]:
    """Where our own packages and the decompressors are; nothing comes from the environment."""
    import isal

    import pyd_contracts
    import pyd_engine
    import pyd_shim

    modules = [pyd_engine, pyd_shim, pyd_contracts, isal]
    with contextlib.suppress(ImportError):
        from backports import zstd

        return [*_places(modules), str(Path(str(zstd.__file__)).parent.parent.parent)]
    return _places(modules)


def _places(modules: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(str(Path(str(module.__file__)).parent.parent) for module in modules))
