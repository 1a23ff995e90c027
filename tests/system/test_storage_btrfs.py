"""One daemon whose data is on a btrfs of its own, with btrfs as the default driver: what a user does, and what is left."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import host_state
from clients import IMAGE, Client, docker_program
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker]

_SUBVOL_CREATE = 0x5000940E  # BTRFS_IOC_SUBVOL_CREATE, linux/btrfs.h


@dataclass(frozen=True, slots=True)
class Ground:
    """The daemon, its client, and the file system below."""

    daemon: Daemon
    docker: Client
    disk: Path

    def subvolumes(self) -> list[str]:
        """The paths of all subvolumes there are."""
        listed = subprocess.run(["btrfs", "subvolume", "list", self.disk], capture_output=True, text=True, check=True)
        return sorted(line.split(" path ")[1] for line in listed.stdout.splitlines())


@pytest.fixture(scope="module")
def ground(
    new_pydd: Callable[..., Daemon],
    client_environment: dict[str, str],
    image_archive: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ground]:
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("mkfs.btrfs is not installed (package btrfs-progs)")
    place = tmp_path_factory.mktemp("btrfs")
    image, disk = place / "image", place / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(1 << 30)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", image, disk], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop mount of btrfs here: {done.stderr.strip()}")
    try:
        daemon = new_pydd('[storage]\ndefault = "btrfs"\n', data=disk / "data")
        docker = Client((docker_program(), "-H", daemon.url), client_environment)
        docker("load", "-q", "-i", image_archive)
        docker("run", "--rm", IMAGE, "true")  # what is made once is there
        yield Ground(daemon, docker, disk)
        daemon.close()
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def docker(ground: Ground) -> Iterator[Client]:
    """The client; whatever a test does, afterwards the host and the file system are as they were."""
    subvolumes, before = ground.subvolumes(), host_state.take(ground.daemon.run)
    yield ground.docker
    if left := ground.docker("ps", "-aq").stdout.split():
        ground.docker("rm", "-f", "-v", *left)
    found = host_state.settle(before, ground.daemon.run)
    assert not found, "the host is not as it was:\n" + "\n".join(found[:40])
    assert ground.subvolumes() == subvolumes


def test_the_driver_is_named(docker: Client) -> None:
    assert docker("info", "-f", "{{.Driver}}").stdout.strip() == "btrfs"
    assert '["Backing Filesystem","btrfs"]' in docker("info", "-f", "{{json .DriverStatus}}").stdout
    container = docker("create", IMAGE, "true").stdout.strip()
    assert docker("inspect", "-f", "{{.Driver}}", container).stdout.strip() == "btrfs"


def test_a_container_keeps_what_it_writes_and_shows_it(docker: Client, tmp_path: Path) -> None:
    script = "echo one >/new; rm /bin/vi; chmod 700 /root; cat /new"
    container = docker("run", "-d", IMAGE, "sh", "-c", script).stdout.strip()
    assert docker("wait", container).stdout.strip() == "0"
    assert docker("logs", container).stdout == "one\n"

    assert docker("diff", container).stdout.splitlines() == ["C /bin", "D /bin/vi", "A /new", "C /root"]
    (tmp_path / "file").write_text("from the host")
    docker("cp", tmp_path / "file", f"{container}:/etc/file")
    docker("cp", f"{container}:/etc/file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "from the host"
    docker("start", "-a", container)
    assert docker("diff", container).stdout.splitlines() == [
        "C /bin", "D /bin/vi", "C /etc", "A /etc/file", "A /new", "C /root",
    ]  # fmt: skip
    docker("rm", container)


def test_a_commit_is_an_image_that_runs(docker: Client, name: str) -> None:
    docker("run", "--name", name, IMAGE, "sh", "-c", "mkdir -p /a/b; echo two >/a/b/c; rm /bin/vi")
    docker("commit", name, f"{name}:made")

    shown = docker("run", "--rm", f"{name}:made", "sh", "-c", "cat /a/b/c; ls /bin/vi || echo gone").stdout

    assert shown == "two\ngone\n"
    docker("rm", name)
    docker("rmi", f"{name}:made")


def test_a_size_is_a_limit(docker: Client) -> None:
    command = ("dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=96")

    limited = docker("run", "--rm", "--storage-opt", f"size={64 << 20}", IMAGE, *command, check=False)

    assert limited.returncode == 1
    assert "quota exceeded" in limited.stderr.lower()
    docker("run", "--rm", IMAGE, *command)


def test_subvolumes_that_a_container_makes_go_with_it(docker: Client) -> None:
    container = docker("run", "-d", IMAGE, "sleep", "1000").stdout.strip()
    pid = docker("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
    folder = f"/proc/{pid}/root/root"
    for name in ("one", "two"):  # one in the other
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.ioctl(fd, _SUBVOL_CREATE, bytearray(struct.pack("q4088s", 0, name.encode())), True)
        os.close(fd)
        folder += f"/{name}"
    docker("exec", container, "sh", "-c", "echo inside >/root/one/two/file; rm /bin/vi")

    changed = docker("diff", container).stdout.splitlines()

    assert {"A /root/one", "A /root/one/two", "A /root/one/two/file", "D /bin/vi"} <= set(changed)
    docker("rm", "-f", container)


def test_containers_outlive_the_daemon(ground: Ground) -> None:
    docker, before = ground.docker, ground.subvolumes()
    container = docker("run", "-d", IMAGE, "sleep", "1000").stdout.strip()
    docker("exec", container, "sh", "-c", "echo before >/file")

    ground.daemon.kill()
    ground.daemon.start()

    assert docker("exec", container, "cat", "/file").stdout == "before\n"
    docker("restart", "-t", "0", container)
    assert docker("exec", container, "cat", "/file").stdout == "before\n"
    docker("rm", "-f", container)
    assert ground.subvolumes() == before


def test_without_an_image_there_is_no_subvolume(ground: Ground, image_archive: Path) -> None:
    docker, before = ground.docker, ground.subvolumes()
    docker("rmi", "-f", IMAGE)
    assert ground.subvolumes() == []

    docker("load", "-q", "-i", image_archive)
    docker("run", "--rm", IMAGE, "true")

    assert len(ground.subvolumes()) == len(before)
