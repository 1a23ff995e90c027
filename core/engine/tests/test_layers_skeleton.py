"""What every container's root must have, made in trees that resist."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pyd_engine.layers.skeleton import furnish

DIRECTORIES = ("dev/pts", "dev/shm", "proc", "sys", "etc")
FILES = (".dockerenv", "etc/resolv.conf", "etc/hosts", "etc/hostname", "dev/console")


def furnished(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        furnish(fd)
    finally:
        os.close(fd)


def is_complete(root: Path) -> None:
    assert all(stat.S_ISDIR((root / path).lstat().st_mode) for path in DIRECTORIES)
    assert all(stat.S_ISREG((root / path).lstat().st_mode) and not (root / path).stat().st_size for path in FILES)
    assert os.readlink(root / "etc/mtab") == "/proc/mounts"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


def test_an_empty_root(root: Path) -> None:
    furnished(root)
    is_complete(root)


def test_twice_is_once_and_what_else_is_there_stays(root: Path) -> None:
    (root / "etc").mkdir(0o700)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    furnished(root)
    furnished(root)
    is_complete(root)
    assert stat.S_IMODE((root / "etc").stat().st_mode) == 0o700
    assert (root / "etc/passwd").read_text().startswith("root")


def test_files_and_links_of_the_image_give_way(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "hosts").write_text("the host's")
    (root / "etc").mkdir()
    (root / "etc/hosts").symlink_to(outside / "hosts")
    (root / "etc/hostname").write_text("image\n")
    (root / "etc/resolv.conf").symlink_to("../run/nowhere/resolv.conf")
    (root / "etc/mtab").write_text("")
    furnished(root)
    is_complete(root)
    assert (outside / "hosts").read_text() == "the host's"


@pytest.mark.parametrize("place", ["dev", "proc", "sys", "etc"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_where_a_directory_must_be(root: Path, tmp_path: Path, place: str, absolute: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / place).symlink_to(outside if absolute else "../outside")
    furnished(root)
    is_complete(root)
    assert not list(outside.iterdir())


def test_a_directory_where_a_file_must_be_stays(root: Path) -> None:
    (root / "etc/hosts").mkdir(parents=True)
    (root / "etc/hosts/precious").write_text("x")
    furnished(root)
    assert (root / "etc/hosts/precious").read_text() == "x"
