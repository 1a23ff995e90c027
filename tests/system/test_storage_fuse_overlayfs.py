"""A daemon whose default storage driver is fuse-overlayfs: its processes come and go with the mounts, whatever is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import host_state
from clients import IMAGE, Client, docker_program, until
from engine_under_test import Daemon

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.skipif(shutil.which("fuse-overlayfs") is None, reason="fuse-overlayfs is not installed"),
]


def _programs(daemon: Daemon) -> list[int]:
    """The pids of the programs that serve this daemon's containers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == b"fuse-overlayfs" and os.fsencode(daemon.data) in b" ".join(words):
            found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def daemon(new_pydd: Callable[..., Daemon]) -> Iterator[Daemon]:
    daemon = new_pydd('[storage]\ndefault = "fuse-overlayfs"\n')
    yield daemon
    daemon.close()


@pytest.fixture(scope="module")
def client(daemon: Daemon, client_environment: dict[str, str], image_archive: Path) -> Client:
    """The client of a daemon that has the image."""
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("run", "--rm", IMAGE, "true")
    return docker


@pytest.fixture
def docker(daemon: Daemon, client: Client) -> Iterator[Client]:
    """The client; afterwards there is no process, no mount and no file that was not there before."""
    until(lambda: not _programs(daemon), "the programs' end")
    before = host_state.take(daemon.run)
    yield client
    if left := client("ps", "-aq").stdout.split():
        client("rm", "-f", "-v", *left)
    until(lambda: not _programs(daemon), "the programs' end")
    found = host_state.settle(before, daemon.run)
    assert not found, "the host is not as it was:\n" + "\n".join(found[:40])


def test_a_container_has_one_program_outside_of_its_namespaces(daemon: Daemon, docker: Client) -> None:
    container = docker("run", "-d", IMAGE, "sleep", "1000").stdout.strip()

    (program,) = _programs(daemon)
    assert os.readlink(f"/proc/{program}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    assert docker("exec", container, "stat", "-f", "-c", "%T", "/").stdout.strip() in {"fuseblk", "fuse", "UNKNOWN"}
    assert "fuse-overlayfs" in docker("exec", container, "cat", "/proc/mounts").stdout
    assert "fuse-overlayfs" not in docker("exec", container, "ps").stdout
    assert "fuse" not in Path("/proc/self/mountinfo").read_text().replace("fusectl", "")

    docker("kill", container)
    until(lambda: not _programs(daemon), "the program's end")
    docker("rm", container)


def test_what_a_user_does(docker: Client, tmp_path: Path, name: str) -> None:
    docker("run", "--name", name, IMAGE, "sh", "-c", "echo one >/new; rm /bin/vi; chmod 700 /root")
    assert docker("diff", name).stdout.splitlines() == ["C /bin", "D /bin/vi", "A /new", "C /root"]
    docker("cp", f"{name}:/new", tmp_path / "new")
    assert (tmp_path / "new").read_text() == "one\n"
    docker("commit", name, f"{name}:made")
    shown = docker("run", "--rm", f"{name}:made", "sh", "-c", "cat /new; ls /bin/vi || echo gone").stdout
    assert shown == "one\ngone\n"
    docker("rm", name)
    docker("rmi", f"{name}:made")


def test_a_program_that_is_killed_is_told(daemon: Daemon, docker: Client) -> None:
    container = docker("run", "-d", IMAGE, "sleep", "1000").stdout.strip()
    (program,) = _programs(daemon)

    os.kill(program, signal.SIGKILL)
    until(lambda: not _programs(daemon), "the program's end")

    refused = docker("exec", container, "ls", "/", check=False)
    assert refused.returncode != 0
    docker("rm", "-f", container)


def test_containers_and_their_programs_outlive_the_daemon(daemon: Daemon, client: Client) -> None:
    container = client("run", "-d", IMAGE, "sleep", "1000").stdout.strip()
    before = _programs(daemon)

    daemon.kill()
    daemon.start()

    assert _programs(daemon) == before
    client("exec", container, "sh", "-c", "echo still >/here")
    client("restart", "-t", "0", container)
    assert client("exec", container, "cat", "/here").stdout == "still\n"
    client("rm", "-f", container)
    until(lambda: not _programs(daemon), "the program's end")
