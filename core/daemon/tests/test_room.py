"""Space to start with: the reserve, and who is told what when there is none."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyd_contracts.errors import PermissionDenied, ResourceExhausted
from pyd_daemon import room
from pyd_daemon.room import RESERVE, make_room, set_aside

LOG = logging.getLogger("pyd.test")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A file system whose free bytes and inodes the test says; the reserve counts."""
    said = SimpleNamespace(free=100 << 20, inodes=1000, flags=0)

    def statvfs(_path: Path) -> Any:
        held = (tmp_path / RESERVE).stat().st_size if (tmp_path / RESERVE).exists() else 0
        return SimpleNamespace(
            f_bavail=max(0, said.free - held), f_frsize=1, f_files=1000, f_favail=said.inodes, f_flag=said.flags
        )

    monkeypatch.setattr(room.os, "statvfs", statvfs)  # type: ignore[attr-defined]
    return said


def test_it_is_made_while_there_is_plenty(disk: Any, tmp_path: Path) -> None:
    set_aside(tmp_path, LOG)
    set_aside(tmp_path, LOG)
    assert (tmp_path / RESERVE).stat().st_blocks * 512 >= 8 << 20
    (tmp_path / RESERVE).unlink()
    disk.free = 16 << 20
    set_aside(tmp_path, LOG)
    assert os.listdir(tmp_path) == []


def test_it_is_given_up_when_there_is_nothing_else(disk: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    set_aside(tmp_path, LOG)
    disk.free = 8 << 20
    make_room(tmp_path, LOG)
    assert os.listdir(tmp_path) == []
    assert "the reserve is given up" in caplog.text
    make_room(tmp_path, LOG)


@pytest.mark.parametrize(("free", "inodes", "what"), [(1000, 1000, "space"), (100 << 20, 0, "inodes")])
def test_without_it_the_daemon_does_not_start(disk: Any, tmp_path: Path, free: int, inodes: int, what: str) -> None:
    disk.free, disk.inodes = free, inodes
    with pytest.raises(ResourceExhausted, match=f"has no {what} left; free some"):
        make_room(tmp_path, LOG)


def test_a_read_only_file_system(disk: Any, tmp_path: Path) -> None:
    disk.flags = os.ST_RDONLY
    with pytest.raises(PermissionDenied, match="read-only"):
        make_room(tmp_path, LOG)
