"""Places for new snapshots: asked for, tried, and none left over."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyd_snapshots import places
from pyd_snapshots.places import Places
from pyd_snapshots.removal import FS_IOC_GETFLAGS


def test_each_directory_is_asked_to_have_a_place_of_its_own(tmp_path: Path) -> None:
    Places(str(tmp_path))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        flags = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, b"\0" * 4))[0]
    except OSError:
        pytest.skip("this file system has no such flag")
    finally:
        os.close(fd)
    if not flags & places._FS_TOPDIR_FL:
        pytest.skip("this file system does not keep the flag")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says how long making directories takes."""

    def goes(*spent: int) -> None:
        ticks: Iterator[int] = iter([tick for each in spent for tick in (0, each)])
        monkeypatch.setattr(places.time, "thread_time_ns", lambda: next(ticks))

    return goes


def test_a_slow_place_is_left_for_a_quick_one(tmp_path: Path, clock: Callable[..., None]) -> None:
    mine = Places(str(tmp_path))
    clock(20)
    first = mine.take("1")
    clock(9000, 7000, 60)
    second = mine.take("2")

    assert {first, second} == set(os.listdir(tmp_path))
    assert second.startswith("2+")
    assert (tmp_path / second).stat().st_mode & 0o777 == 0o700


def test_where_all_places_are_slow_one_is_taken(tmp_path: Path, clock: Callable[..., None]) -> None:
    mine = Places(str(tmp_path))
    clock(20)
    mine.take("1")
    clock(*[9000] * places._TRIES)
    taken = mine.take("2")

    assert len(os.listdir(tmp_path)) == 2
    assert (tmp_path / taken).is_dir()


def test_a_disk_that_is_full_at_a_later_try(
    tmp_path: Path, clock: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Places(str(tmp_path))
    clock(20)
    mine.take("1")
    clock(9000, 9000)
    real, left = os.mkdir, iter([True])

    def mkdir(path: str, mode: int) -> None:
        if not next(left, False):
            raise OSError(errno.ENOSPC, "full")
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    assert (tmp_path / mine.take("2")).is_dir()
    with pytest.raises(OSError, match="full"):
        mine.take("3")
    assert len(os.listdir(tmp_path)) == 2
