"""The spool: what is written is read, forwards and from the tail, and a torn end hinders nobody."""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from pyd_shim.segments import Policy, segments
from pyd_shim.spool import OVERHEAD, Frame, SpoolReader, SpoolWriter, tail_offset


def fill(path: Path, *frames: tuple[int, int, bytes]) -> None:
    writer = SpoolWriter(str(path))
    for frame in frames:
        writer.write(*frame)
    assert writer.lost == 0
    writer.close()


def read(path: Path, offset: int = 0) -> list[Frame]:
    reader = SpoolReader(str(path), offset)
    found = list(reader.frames())
    reader.close()
    return found


def tail(path: Path, lines: int) -> bytes:
    """The last lines, as a reader of logs uses `tail_offset`."""
    offset, skip, _found = tail_offset(str(path), lines)
    data = b"".join(frame.data for frame in read(path, offset))
    for _ in range(skip):
        data = data.partition(b"\n")[2]
    return data


def test_frames_come_back_as_they_were(tmp_path: Path) -> None:
    frames = [(1, 1, b"one\n"), (2, 2, b""), (2**63, 1, os.urandom(200_000)), (3, 2, b"\0\xff")]
    fill(tmp_path / "spool", *frames)

    assert read(tmp_path / "spool") == [Frame(*frame) for frame in frames]


def test_the_file_is_private_and_grows(tmp_path: Path) -> None:
    fill(tmp_path / "spool", (1, 1, b"first"))
    fill(tmp_path / "spool", (2, 1, b"second"))

    assert [frame.data for frame in read(tmp_path / "spool")] == [b"first", b"second"]
    assert (tmp_path / "spool").stat().st_mode & 0o007 == 0


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "spool").symlink_to(tmp_path / "target")

    with pytest.raises(OSError, match="symbolic links"):
        SpoolWriter(str(tmp_path / "spool"))


def test_a_reader_reads_on(tmp_path: Path) -> None:
    writer = SpoolWriter(str(tmp_path / "spool"))
    reader = SpoolReader(str(tmp_path / "spool"))
    assert list(reader.frames()) == []

    writer.write(1, 1, b"first")
    assert [frame.data for frame in reader.frames()] == [b"first"]
    offset = reader.offset
    writer.write(2, 1, b"second")

    assert [frame.data for frame in reader.frames()] == [b"second"]
    assert [frame.data for frame in read(tmp_path / "spool", offset)] == [b"second"]
    reader.close()
    writer.close()


def test_every_torn_end_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    fill(path, (1, 1, b"whole\n"), (2, 1, b"torn away\n"))
    whole = path.read_bytes()
    first = OVERHEAD + len(b"whole\n")

    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        assert [frame.data for frame in read(path)] == [b"whole\n"]
        assert tail(path, 5) == b"whole\n"


def test_an_end_that_looks_whole_is_seen_through(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    fill(path, (1, 1, b"whole\n"))
    with path.open("ab") as file:  # a torn frame whose last bytes read as a length that leads into the frame before
        file.write(struct.pack(">QBxxxI", 2, 1, 100) + b"\0\0\0\x04")

    assert tail(path, 5) == b"whole\n"


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 7, 50, 10_000])
def test_tail_equals_the_last_lines_of_all(tmp_path: Path, lines: int) -> None:
    random_ = random.Random(lines)
    pieces = [bytes(random_.choices(b"ab\n", k=random_.randrange(40))) for _ in range(60)]
    fill(tmp_path / "spool", *[(number, 1, piece) for number, piece in enumerate(pieces)])
    expected = b"".join(b"".join(pieces).splitlines(keepends=True)[-lines:]) if lines else b""

    assert tail(tmp_path / "spool", lines) == expected


def test_tail_counts_a_last_line_without_a_newline(tmp_path: Path) -> None:
    fill(tmp_path / "spool", (1, 1, b"one\ntwo\nthr"), (2, 1, b"ee"))

    assert tail(tmp_path / "spool", 1) == b"three"
    assert tail(tmp_path / "spool", 2) == b"two\nthree"


def test_tail_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"")

    assert tail_offset(str(tmp_path / "spool"), 10) == (0, 0, 0)


class _Disk:
    """os.writev on a disk with so much room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._writev = os.writev

    def writev(self, fd: int, buffers: Sequence[bytes]) -> int:
        data = b"".join(buffers)[: self.room]
        if not data:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(data)
        return self._writev(fd, [data])


@pytest.mark.parametrize("room", [0, 1, 15, 16, 20, OVERHEAD + 9])
def test_a_full_disk_loses_frames_and_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    path = tmp_path / "spool"
    writer = SpoolWriter(str(path))
    writer.write(1, 1, b"before\n")
    disk = _Disk(room)
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", disk.writev)
        writer.write(2, 1, b"does not fit\n")
    writer.write(3, 2, b"after\n")
    writer.close()

    assert writer.lost == len(b"does not fit\n")
    assert [frame.data for frame in read(path)] == [b"before\n", b"after\n"]
    assert tail(path, 5) == b"before\nafter\n"


# --- segments ----------------------------------------------------------------------------------------------------


def test_output_is_bounded_by_the_policy_beside_it(tmp_path: Path) -> None:
    Policy(segment=4096, keep=12288).write(str(tmp_path))
    writer = SpoolWriter(str(tmp_path / "1.spool"))
    for number in range(1000):
        writer.write(number, 1, f"line {number:04d} ".encode() + b"x" * 80 + b"\n")
    writer.close()
    found = segments(str(tmp_path))
    assert found[0].segment > 0
    assert sum((tmp_path / each.name).stat().st_size for each in found) <= 12288 + 4096
    assert all((tmp_path / each.name).stat().st_size <= 4096 for each in found)
    text = b"".join(frame.data for each in found for frame in read(tmp_path / each.name)).decode()
    numbers = [int(line.split()[1]) for line in text.splitlines()]
    assert numbers == list(range(numbers[0], 1000))
    assert len(numbers) > 50


def test_a_write_longer_than_a_segment_is_cut(tmp_path: Path) -> None:
    Policy(segment=4096, keep=1 << 20).write(str(tmp_path))
    writer = SpoolWriter(str(tmp_path / "1.spool"))
    data = os.urandom(20_000)
    writer.write(1, 2, data)
    writer.close()
    parts = [frame for each in segments(str(tmp_path)) for frame in read(tmp_path / each.name)]
    assert b"".join(part.data for part in parts) == data
    assert {part.stream for part in parts} == {2}


def test_runs_share_the_bound(tmp_path: Path) -> None:
    Policy(segment=4096, keep=8192).write(str(tmp_path))
    for run in (1, 2, 10):
        writer = SpoolWriter(str(tmp_path / f"{run}.spool"))
        for _ in range(100):
            writer.write(run, 1, b"x" * 100)
        writer.close()
    assert {each.run for each in segments(str(tmp_path))} == {10}
