"""Values of output and of events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Event", "LogRecord", "LogSource", "Piece"]


@dataclass(frozen=True, slots=True)
class LogSource:
    """A container whose output is delivered, as log drivers may speak of it.

    container   64 hex digits
    name        without a slash
    image       as it was named at creation
    image_id    ``sha256:`` and 64 hex digits
    created_ns  nanoseconds since the epoch
    command     program and arguments
    env         ``NAME=value`` items
    options     of the driver, checked by log_validate
    daemon      what tags call the daemon
    place       a directory that survives reboots and goes with the container; a driver names files in it after the container
    """

    container: str
    name: str
    image: str
    image_id: str
    created_ns: int
    command: tuple[str, ...]
    place: Path
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    daemon: str = "pyd"


@dataclass(frozen=True, slots=True)
class Piece:
    """Which part of a long line a record is: the line's id (64 hex digits), 1 for the first part, whether it is the last."""

    id: str
    ordinal: int
    last: bool


@dataclass(frozen=True, slots=True)
class LogRecord:
    """Output of one moment.

    time_ns  nanoseconds since the epoch
    stream   1 stdout (or the terminal), 2 stderr
    data     whole lines, each with its ``\\n``; without one: a piece that is not the last, or the end of all output
    piece    data is a part of one line
    """

    time_ns: int
    stream: int
    data: bytes
    piece: Piece | None = None

    @property
    def lines(self) -> list[bytes]:
        """The lines without their ends."""
        lines = self.data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        return lines


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as the Docker API's ``/events`` tells it. *time_ns* is nanoseconds since the epoch."""

    type: str
    action: str
    actor: str
    attributes: Mapping[str, str]
    time_ns: int
