"""Segments that somebody is to get: how long they stay, what is counted when they go, when the container waits."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyd_shim.segments import DELIVERY, LOST, POSITION, Policy, Position, delivered, segments
from pyd_shim.spool import OVERHEAD, SpoolReader, SpoolWriter

LINE = b"x" * (100 - OVERHEAD)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[int]:
    (tmp_path / DELIVERY).mkdir()
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def write(place: Path, policy: Policy, frames: int) -> SpoolWriter:
    policy.write(str(place))
    writer = SpoolWriter(f"{place}/1.spool")
    for number in range(frames):
        writer.write(number, 1, LINE)
    return writer


def reached(place: Path, at: Position, offset: int) -> None:
    (place / POSITION).write_text(json.dumps({"run": at.run, "segment": at.segment, "offset": offset}))


def test_nothing_said_means_nothing_delivered(spool: int, tmp_path: Path) -> None:
    assert delivered(spool) == (Position(0, 0), 0)


def test_what_is_not_delivered_stays(spool: int, tmp_path: Path) -> None:
    write(tmp_path, Policy(1000, 2000, hold=50_000), 100).close()
    assert segments(spool)[0] == Position(1, 0)
    assert not (tmp_path / LOST).exists()


def test_beyond_what_is_held_it_goes_and_is_counted(spool: int, tmp_path: Path) -> None:
    write(tmp_path, Policy(1000, 2000, hold=5000), 100).close()
    every = segments(spool)
    kept = sum((tmp_path / each.name).stat().st_size for each in every)
    assert kept <= 6000
    assert int((tmp_path / LOST).read_text()) == 10_000 - kept
    # of two that go now, a part of the older one was delivered: that part is not lost
    writer = SpoolWriter(f"{tmp_path}/2.spool")
    before = int((tmp_path / LOST).read_text())
    reached(tmp_path, every[0], 400)
    for number in range(11):
        writer.write(number, 1, LINE)
    writer.close()
    assert int((tmp_path / LOST).read_text()) == before + 600 + 1000


def test_what_is_delivered_goes_as_if_nobody_was_there(spool: int, tmp_path: Path) -> None:
    reached(tmp_path, Position(1, 1 << 30), 0)
    write(tmp_path, Policy(1000, 2000, hold=50_000), 100).close()
    assert sum((tmp_path / each.name).stat().st_size for each in segments(spool)) <= 3000
    assert not (tmp_path / LOST).exists()


def test_a_container_that_waits_loses_nothing(spool: int, tmp_path: Path) -> None:
    writer = write(tmp_path, Policy(1000, 2000, hold=5000, block=True), 45)
    assert not writer.full
    for number in range(20):
        writer.write(number, 1, LINE)
    assert writer.full
    writer.look()
    assert writer.full
    assert segments(spool)[0] == Position(1, 0)
    reached(tmp_path, Position(1, 4), 0)
    writer.look()
    assert not writer.full
    writer.close()
    assert not (tmp_path / LOST).exists()


def test_who_cannot_be_asked_is_not_waited_for(spool: int, tmp_path: Path) -> None:
    writer = write(tmp_path, Policy(1000, 2000, hold=1000, block=True), 45)
    assert writer.full
    (tmp_path / POSITION).write_text("{")
    writer.look()
    assert not writer.full
    writer.close()


def test_a_reader_that_stops_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write(tmp_path, Policy(), 10).close()
    reader = SpoolReader(f"{tmp_path}/1.spool")
    found = []
    for _ in range(5):
        for frame in reader.frames():
            found.append(frame.time_ns)
            if len(found) % 3 == 0:
                break
    reader.close()
    assert found == list(range(10))
