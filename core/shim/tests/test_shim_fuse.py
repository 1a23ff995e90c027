"""File systems in user space: served from outside, gone with their mount, and plain words when they do not answer."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pyd_shim import fuse

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no /dev/fuse here"),
]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is looked through first."""
    monkeypatch.setattr(fuse, "_PATH", f"{tmp_path}:{fuse._PATH}")
    return tmp_path


def _program(programs: Path, name: str, script: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    (programs / name).chmod(0o755)


def test_a_program_that_ends_is_told_with_its_own_words(programs: Path) -> None:
    _program(programs, "broken", 'echo "no layer called $3" >&2; exit 1')
    descriptors = len(os.listdir("/proc/self/fd"))

    with pytest.raises(OSError, match=r"broken ended: no layer called a=b\\,c,d") as refused:
        fuse.mount("fuse.broken", "x", ["a=b,c", "ro", "d"])

    assert refused.value.filename == "x"
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_there_must_be_such_a_program(programs: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))

    with pytest.raises(FileNotFoundError, match="there is no program missing in"):
        fuse.mount("fuse.missing", "x", [])

    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_program_has_nothing_of_ours_but_the_connection(programs: Path) -> None:
    _program(
        programs, "looking", f"ls -l /proc/self/fd | sed 's/.*-> //' > {programs}/seen; env > {programs}/env; exit 1"
    )

    with pytest.raises(OSError, match="looking ended: without a word"):
        fuse.mount("fuse.looking", "x", [])

    seen = (programs / "seen").read_text()
    assert seen.count("/dev/fuse") == 1
    assert len(seen.splitlines()) <= 7  # a heading, the connection, three streams, and what sh and ls opened
    assert "HOME" not in (programs / "env").read_text()


def test_a_real_one_serves_and_ends_with_its_mount(tmp_path: Path) -> None:
    if not any(os.access(f"{folder}/fuse-overlayfs", os.X_OK) for folder in fuse._PATH.split(":")):
        pytest.skip("fuse-overlayfs is not installed")
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/file").write_text("content")
    options = [f"lowerdir={tmp_path}/lower", f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work"]

    mount = fuse.mount("fuse.fuse-overlayfs", "x", options)
    assert os.listdir(f"/proc/self/fd/{mount}") == ["file"]
    assert _serving(tmp_path)
    os.close(mount)

    deadline = time.monotonic() + 20
    while _serving(tmp_path):
        assert time.monotonic() < deadline, "its process is still there"
        time.sleep(0.01)


def test_read_only_is_read_only(tmp_path: Path) -> None:
    if not any(os.access(f"{folder}/fuse-overlayfs", os.X_OK) for folder in fuse._PATH.split(":")):
        pytest.skip("fuse-overlayfs is not installed")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    mount = fuse.mount("fuse.fuse-overlayfs", "x", [f"lowerdir={tmp_path}/one:{tmp_path}/two", "ro"])
    try:
        with pytest.raises(OSError, match="Read-only"):
            os.mkdir("new", dir_fd=mount)
    finally:
        os.close(mount)


def _serving(place: Path) -> bool:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                os.fsencode(place) in (folder / "cmdline").read_bytes()
                and (folder / "comm").read_text() == "fuse-overlayfs\n"
            ):
                return True
        except OSError:
            continue
    return False
