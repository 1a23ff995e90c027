"""From frames to records: whole lines, as log drivers want them.

A frame is what one write(2) of the container brought. Mostly it is whole lines, and passes as it is. The rest of one that
is not is held until its line has ended, or the run has, or it has become too long for one message; where Docker cuts.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any

from pyd_contracts.values import LogRecord, Piece
from pyd_shim.spool import Frame

__all__ = ["LINE", "Lines"]

LINE = 16384
"""The longest line that is one message, in bytes without its end (moby, daemon/logger/copier.go)."""


@dataclass(slots=True)
class _Held:
    """The beginning of a line, or of its present piece."""

    time_ns: int
    data: bytes
    id: str = ""
    ordinal: int = 0


class Lines:
    """Cuts the frames of a container. *state* is what an earlier one held (`state`)."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self._held = {
            int(stream): _Held(held["time"], base64.b64decode(held["data"]), held["id"], held["ordinal"])
            for stream, held in (state or {}).items()
        }

    def state(self) -> dict[str, Any]:
        """What is held, for JSON."""
        return {
            str(stream): {
                "time": held.time_ns, "data": base64.b64encode(held.data).decode(), "id": held.id, "ordinal": held.ordinal,
            }
            for stream, held in self._held.items()
        }  # fmt: skip

    def feed(self, frame: Frame) -> list[LogRecord]:
        """The records that a frame completes."""
        data, stream = frame.data, frame.stream
        if not data:
            return []
        records: list[LogRecord] = []
        held = self._held.pop(stream, None)
        if held is not None:
            end = data.find(b"\n") + 1
            held.data += data[:end] if end else data
            if not end:
                self._hold(stream, held, records)
                return records
            self._cut(stream, held, records)
            data = data[end:]
        end = data.rfind(b"\n") + 1
        if end:
            self._whole(frame.time_ns, stream, data[:end] if end < len(data) else data, records)
        if end < len(data):
            self._hold(stream, _Held(frame.time_ns, data[end:]), records)
        return records

    def end(self) -> list[LogRecord]:
        """The run is over: what is held is all there will be of it."""
        records: list[LogRecord] = []
        for stream in sorted(self._held):
            self._cut(stream, self._held[stream], records)
        self._held.clear()
        return records

    def _whole(self, time_ns: int, stream: int, data: bytes, records: list[LogRecord]) -> None:
        if len(data) <= LINE or max(map(len, data.split(b"\n"))) <= LINE:
            records.append(LogRecord(time_ns, stream, data))
            return
        begin = position = 0
        while position < len(data):
            end = data.index(b"\n", position) + 1
            if end - position - 1 > LINE:
                if begin < position:
                    records.append(LogRecord(time_ns, stream, data[begin:position]))
                self._cut(stream, _Held(time_ns, data[position:end]), records)
                begin = end
            position = end
        if begin < len(data):
            records.append(LogRecord(time_ns, stream, data[begin:]))

    def _hold(self, stream: int, held: _Held, records: list[LogRecord]) -> None:
        """Keep the beginning of a line; of a long one the last part only."""
        self._pieces(stream, held, records, LINE)
        self._held[stream] = held

    def _cut(self, stream: int, held: _Held, records: list[LogRecord]) -> None:
        """A line that is complete: one record, or its pieces."""
        self._pieces(stream, held, records, LINE + held.data.endswith(b"\n"))
        piece = Piece(held.id, held.ordinal + 1, last=True) if held.id else None
        records.append(LogRecord(held.time_ns, stream, held.data, piece))

    @staticmethod
    def _pieces(stream: int, held: _Held, records: list[LogRecord], most: int) -> None:
        while len(held.data) > most:
            held.id = held.id or secrets.token_hex(32)
            held.ordinal += 1
            piece = Piece(held.id, held.ordinal, last=False)
            records.append(LogRecord(held.time_ns, stream, held.data[:LINE], piece))
            held.data = held.data[LINE:]
