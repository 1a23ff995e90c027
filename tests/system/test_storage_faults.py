"""The daemon and its workers killed at their calls of the kernel while layers come and go, and a disk that fills up.

Afterwards `pyd system check` finds nothing amiss, and everything works. ``PYD_EVERY=1`` tries every call and not a choice.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from busybox_image import ARCHITECTURES
from clients import IMAGE, Client, docker_program
from engine_under_test import BIN, Daemon
from mortal import calls, dying, kinds
from stub_registry import serve

pytestmark = [pytest.mark.root, pytest.mark.docker]

CALLS = "mkdir,mkdirat,rename,renameat,renameat2,symlink,symlinkat,mknodat,rmdir,unlink,unlinkat,fsync,pwrite64,fchown"


def checked(daemon: Daemon, *flags: str) -> str:
    """What `pyd system check` prints when all is in order."""
    command = [str(BIN / "pyd"), "-H", daemon.url, "system", "check", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def layered_archive(folder: Path, sizes: list[int], name: str) -> Path:
    """An image of several layers, each with some files, as `docker save` writes it."""
    layers = []
    for number, size in enumerate(sizes):
        buffer = BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for each in range(3):
                info = tarfile.TarInfo(f"layer-{number}/file-{each}")
                content = os.urandom(size // 3)
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
        layers.append(buffer.getvalue())
    config = {
        "architecture": ARCHITECTURES[platform.machine()], "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]},
    }  # fmt: skip
    manifest = [{"Config": "c.json", "RepoTags": [name], "Layers": [f"{n}.tar" for n in range(len(layers))]}]
    path = folder / f"{name.partition(':')[0]}.tar"
    with tarfile.open(path, "w") as tar:
        members = {"c.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
        members |= {f"{number}.tar": layer for number, layer in enumerate(layers)}
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return path


# --- killed ----------------------------------------------------------------------------------------------------------


def killed_in(daemon: Daemon, docker: Client, kind: str, number: int, *words: str | Path) -> bool:
    """Run a command during which whichever process of the daemon makes its n-th call dies; whether one did. It is up again."""
    with dying(daemon, kind, number) as death, docker.start(*words) as client:
        client.communicate(timeout=60)
    return death.came


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed here (scripts/provision)")
@pytest.mark.parametrize("doing", ["load", "create", "commit", "rm", "rmi"])
def test_killed_at_a_call(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path, tmp_path: Path, doing: str
) -> None:
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    archive = layered_archive(tmp_path, [3000, 3000, 3000], "layered:1")
    docker("load", "-q", "-i", image_archive)
    words: dict[str, tuple[str | Path, ...]] = {
        "load": ("load", "-q", "-i", archive),
        "create": ("create", "--name", "made", IMAGE, "true"),
        "commit": ("commit", "changed", "committed:1"),
        "rm": ("rm", "made"),
        "rmi": ("rmi", "layered:1"),
    }
    docker("run", "--name", "changed", IMAGE, "sh", "-c", "mkdir /new; echo x > /new/file; rm /bin/yes")
    kills = 0
    for kind in kinds(CALLS):
        for number in calls((1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 28)):
            if doing == "rmi":
                docker("load", "-q", "-i", archive)
            if doing == "rm":
                docker("create", "--name", "made", IMAGE, "true", check=False)
            if doing == "create":
                docker("rm", "-f", "made", check=False)
            killed = killed_in(daemon, docker, kind, number, *words[doing])
            said = checked(daemon)
            assert said.endswith("clean\n"), f"{doing}, {kind} number {number}"
            docker("rmi", "-f", "layered:1", "committed:1", check=False)
            assert checked(daemon).endswith("clean\n"), (
                f"{doing}, {kind} number {number}, after the images were removed"
            )
            assert docker("run", "--rm", IMAGE, "echo", "works").stdout == "works\n"
            kills += killed
            if not killed:
                break
    assert kills, "nothing was killed: the calls are others than thought"


# --- full ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    image, point = tmp_path / "disk", tmp_path / "small"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, point], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no loop devices here: {mounted.stderr.strip()}")
    yield point
    subprocess.run(["umount", "--lazy", point], check=True)  # a test that failed has left a daemon there


def test_a_disk_that_fills_up(
    small: Path,
    new_pydd: Callable[..., Daemon],
    client_environment: dict[str, str],
    image_archive: Path,
    tmp_path: Path,
) -> None:
    daemon = new_pydd(data=small / "data")
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("create", "--name", "before", IMAGE, "echo", "still here")

    # while an image is loaded
    big = layered_archive(tmp_path, [9 << 20] * 5, "big:1")
    done = docker("load", "-q", "-i", big, check=False)
    assert done.returncode != 0
    assert "no space left on device" in done.stderr + done.stdout
    assert checked(daemon).endswith("clean\n"), "what did not become an image is gone"

    # while one is pulled
    with serve() as registry:
        layer = BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            info = tarfile.TarInfo("fill")
            info.size = 40 << 20
            tar.addfile(info, BytesIO(os.urandom(info.size)))
        registry.image(layer.getvalue(), "1", architecture=ARCHITECTURES[platform.machine()])
        done = docker("pull", f"{registry.host}/full:1", check=False)
        assert done.returncode != 0
        assert "no space left on device" in done.stderr
    assert checked(daemon).endswith("clean\n")

    # while a container writes
    done = docker("run", "--name", "writer", IMAGE, "dd", "if=/dev/urandom", "of=/fill", "bs=64k", check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr

    # while one is made: it is made, or it is not and says why
    for number in range(200):
        done = docker("create", "--name", f"more-{number}", IMAGE, "true", check=False)
        if done.returncode:
            break
    assert done.returncode, "a full disk holds hundreds of containers"
    assert "no space left on device" in done.stderr or "disk is full" in done.stderr, done.stderr

    # nothing is corrupt, and with some room it works again, also with a new daemon
    docker("rm", "writer")
    docker("rm", *[f"more-{made}" for made in range(number)], check=False)
    assert checked(daemon).endswith("clean\n")
    assert docker("start", "-a", "before").stdout == "still here\n"
    daemon.kill()
    daemon.start()
    assert checked(daemon).endswith("clean\n")
    assert docker("run", "--rm", IMAGE, "echo", "works").stdout == "works\n"
    daemon.close()
