"""A btrfs for one test: an image file on a loop device that goes with the mount (LO_FLAGS_AUTOCLEAR)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest


@pytest.fixture
def new_btrfs(tmp_path: Path) -> Iterator[Callable[[str, int], Path]]:
    """Makes file systems: ``new_btrfs("name", size)`` gives where one of *size* bytes (sparse) is mounted for the test."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("mkfs.btrfs is not installed (package btrfs-progs)")
    with ExitStack() as undo:

        def make(name: str, size: int) -> Path:
            image, point = tmp_path / f"{name}.image", tmp_path / name
            point.mkdir()
            with image.open("wb") as file:
                file.truncate(size)
            undo.callback(image.unlink)
            subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True, capture_output=True)
            command = ["mount", "-o", "loop", str(image), str(point)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no loop mount of btrfs here: {done.stderr.strip()}")
            undo.callback(subprocess.run, ["umount", str(point)], check=True)
            return point

        yield make


@pytest.fixture
def btrfs(new_btrfs: Callable[[str, int], Path]) -> Path:
    """A new btrfs of 512 MiB."""
    return new_btrfs("btrfs", 512 << 20)
