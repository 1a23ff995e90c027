"""The files a spool consists of: how they are named, when one is full, and which may go.

A run of a container writes the segments ``7.spool``, ``7.spool.1``, ``7.spool.2`` …, where 7 counts its runs. Beside them
lies ``policy.json`` (`Policy`), written by the engine before the run.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from typing import NamedTuple

__all__ = ["DELIVERY", "LOST", "POLICY", "POSITION", "Policy", "Position", "delivered", "segments", "trim", "waiting"]

POLICY = "policy.json"
DELIVERY = "delivery"
"""A directory beside the segments, where output is delivered to somebody. Not among them: who watches the segments is not
woken by what is written there."""
POSITION = f"{DELIVERY}/position.json"
"""How far that went: ``run``, ``segment``, ``offset``, and what else the deliverer keeps."""
LOST = f"{DELIVERY}/lost"
"""How many bytes went before they were delivered: a number in ASCII, written by `trim`."""
_NAME = re.compile(r"([0-9]+)\.spool(?:\.([0-9]+))?")


class Position(NamedTuple):
    """A segment: the run's number and the segment's in it. They sort in the order of writing."""

    run: int
    segment: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.run}.spool" + (f".{self.segment}" if self.segment else "")


@dataclass(frozen=True, slots=True)
class Policy:
    """How much is kept; bytes.

    segment    a new segment is begun before one would be longer; 0: one file, without bound
    keep       the oldest segments go when all together are longer
    hold       those that were not delivered stay until all together are longer than this; 0: nothing is delivered
    block      they stay whatever their length, and beyond *hold* the container waits
    """

    segment: int = 0
    keep: int = 0
    hold: int = 0
    block: bool = False

    @classmethod
    def read(cls, directory: int) -> Policy:
        """The policy of a directory (a descriptor); one file without bound where none was written. Raises OSError and
        ValueError."""
        try:
            fd = os.open(POLICY, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            return cls()
        with open(fd, "rb") as file:
            return cls(**json.load(file))

    def write(self, directory: str) -> None:
        """Put it into a directory by rename(2). Raises OSError; an older one is there then."""
        fresh = f"{directory}/{POLICY}.new"
        with open(fresh, "w", encoding="ascii") as file:
            json.dump(asdict(self), file)
        os.rename(fresh, f"{directory}/{POLICY}")


def segments(directory: int | str) -> list[Position]:
    """All segments there are, in the order of writing; none when there is no directory."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    found = (_NAME.fullmatch(name) for name in names)
    return sorted(Position(int(match[1]), int(match[2] or 0)) for match in found if match)


def delivered(directory: int) -> tuple[Position, int]:
    """How far delivery went: a segment and an offset into it; the beginning when nobody has said so yet."""
    try:
        fd = os.open(POSITION, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return Position(0, 0), 0
    with open(fd, "rb") as file:
        document = json.load(file)
    return Position(document["run"], document["segment"]), document["offset"]


def trim(directory: int, policy: Policy) -> None:
    """Remove the oldest segments as *policy* says, never the last one. Raises OSError and ValueError."""
    if not policy.segment:
        return
    every = segments(directory)
    lengths = [os.stat(each.name, dir_fd=directory).st_size for each in every]
    total = sum(lengths)
    if total <= policy.keep:
        return
    reached, offset = delivered(directory) if policy.hold else (Position(1 << 62, 0), 0)
    lost = 0
    for at, length in zip(every[:-1], lengths, strict=False):
        missing = 0 if at < reached else length - offset if at == reached else length
        if total <= policy.keep or (missing and (policy.block or total <= policy.hold)):
            break
        os.unlink(at.name, dir_fd=directory)
        lost += missing
        total -= length
    if lost:
        _add(directory, lost)


def waiting(directory: int, policy: Policy) -> bool:
    """Whether the container must wait for what is delivered. Raises OSError and ValueError."""
    if not policy.block:
        return False
    reached, offset = delivered(directory)
    lengths = [os.stat(each.name, dir_fd=directory).st_size for each in segments(directory) if each >= reached]
    return sum(lengths) - offset > policy.hold


def _add(directory: int, lost: int) -> None:
    fd = os.open(LOST, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    try:
        os.pwrite(fd, b"%020d" % (lost + int(os.pread(fd, 32, 0) or 0)), 0)
    finally:
        os.close(fd)
