"""How far the output of a container was delivered: on disk beside its spool, so that whoever comes next goes on there."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from pyd_shim.segments import DELIVERY, LOST, POSITION, Position, segments

__all__ = ["Cursor", "behind", "lost", "prepare"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """All before *offset* of a segment is with the sink, but for what is *held* (`pyd_engine.logs.lines`).

    dropped  bytes that were left out because the container was not to wait (``mode=non-blocking``)
    told     bytes that fell out of the spool before they were delivered, as far as that was told
    error    why nothing is delivered at the moment; empty: it is
    """

    run: int = 0
    segment: int = 0
    offset: int = 0
    held: dict[str, Any] = field(default_factory=dict)
    dropped: int = 0
    told: int = 0
    error: str = ""

    @property
    def at(self) -> Position:
        """The segment."""
        return Position(self.run, self.segment)

    @classmethod
    def read(cls, directory: int) -> Cursor:
        """That of a spool (a descriptor of its directory); the beginning when nothing was delivered yet."""
        try:
            fd = os.open(POSITION, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            return cls()
        with open(fd, "rb") as file:
            return cls(**json.load(file))

    def write(self, directory: int) -> None:
        """Put it on disk by rename(2). Raises OSError; an older one is there then."""
        fresh = f"{POSITION}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(fresh, flags, 0o600, dir_fd=directory)
        try:
            os.write(fd, json.dumps(asdict(self)).encode())
        finally:
            os.close(fd)
        os.rename(fresh, POSITION, src_dir_fd=directory, dst_dir_fd=directory)


def prepare(directory: str) -> None:
    """Make the place for a cursor."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{directory}/{DELIVERY}", 0o700)


def lost(directory: int) -> int:
    """Bytes that went out of the spool before they were delivered."""
    try:
        fd = os.open(LOST, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return 0
    with open(fd, "rb") as file:
        return int(file.read(32) or 0)


def behind(directory: int, cursor: Cursor) -> int:
    """Bytes of the spool that were not delivered; what is held counts as one."""
    total = 0
    for at in segments(directory):
        if at < cursor.at:
            continue
        try:
            length = os.stat(at.name, dir_fd=directory).st_size
        except FileNotFoundError:
            continue  # retention was faster
        total += max(0, length - cursor.offset) if at == cursor.at else length
    return total + bool(cursor.held)
