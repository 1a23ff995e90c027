"""Private directories for the time of one build, gone whatever happens: at its end, or when the next daemon starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from pyd_contracts.errors import from_oserror

__all__ = ["Scratch", "clear"]

_PREFIX = "build-"


class Scratch:
    """Below *base*, which is made when it is needed."""

    def __init__(self, base: Path) -> None:
        self._base = base

    @contextlib.asynccontextmanager
    async def directory(self) -> AsyncIterator[Path]:
        """A new one."""
        path = self._base / f"{_PREFIX}{secrets.token_hex(8)}"
        try:
            await asyncio.to_thread(path.mkdir, 0o700, True)
        except OSError as error:
            raise from_oserror(error, f"make {path}") from error
        try:
            yield path
        finally:
            await asyncio.shield(asyncio.to_thread(_remove, path))

    def sweep(self) -> None:
        """Remove what a daemon left that was killed."""
        with contextlib.suppress(FileNotFoundError):
            for entry in list(os.scandir(self._base)):
                if entry.name.startswith(_PREFIX):
                    _remove(Path(entry.path))


def _remove(path: Path) -> None:
    try:
        clear(path)
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_oserror(error, f"remove {path}") from error


def clear(path: Path) -> None:
    """Remove all that is in a directory, however deep strangers have made it: what is below comes up and goes there."""
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while names := os.listdir(top):
            for name in names:
                _take(top, name)
    finally:
        os.close(top)


def _take(top: int, name: str) -> None:
    if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=top)
        return
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        for child in os.listdir(fd):
            if stat.S_ISDIR(os.stat(child, dir_fd=fd, follow_symlinks=False).st_mode):
                os.rename(child, f".{secrets.token_hex(8)}", src_dir_fd=fd, dst_dir_fd=top)
            else:
                os.unlink(child, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=top)
