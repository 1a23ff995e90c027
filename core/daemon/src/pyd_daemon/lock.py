"""One daemon for one directory: a lock that ends with the process, whatever ends it.

flock(2) locks belong to the open file: the kernel lets go when the last descriptor is closed, so there are no stale
locks. The descriptor is not inherited (O_CLOEXEC): containers that run on must not keep the next daemon out.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from pyd_contracts.errors import Conflict, from_oserror

__all__ = ["DirectoryLock"]


class DirectoryLock:
    """Holds ``<directory>/pyd.lock`` from construction to `release`; the file names the holder's pid.

    Raises Conflict that names the directory and the pid of who holds it.
    """

    def __init__(self, directory: Path, what: str) -> None:
        self.path = directory / "pyd.lock"
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise from_oserror(error, f"open the lock file {self.path}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            who = f"by the daemon with pid {holder}" if holder.isdecimal() else "by another daemon"
            raise Conflict(f"the {what} {directory} is in use {who}; stop it, or choose another {what}") from error
        except OSError as error:
            os.close(fd)
            raise from_oserror(error, f"lock {self.path}") from error
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(fd)
            raise from_oserror(error, f"write the lock file {self.path}") from error
        self._fd = fd

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let the next one in. Twice is once. The file stays: removing it would race with the next holder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
