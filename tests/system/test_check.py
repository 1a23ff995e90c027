"""`pyd system check`: says what is amiss, and with --repair puts it right; nothing is fetched, nothing in use is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients import IMAGE, Client, docker_program
from engine_under_test import BIN, Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker]


def check(daemon: Daemon, *flags: str) -> tuple[int, dict[str, Any]]:
    """Exit status and report."""
    command = [str(BIN / "pyd"), "-H", daemon.url, "system", "check", "-f", "json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def findings(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["What"], each["About"]) for each in report["Findings"]]


@pytest.fixture
def one(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> tuple[Daemon, Client]:
    """A daemon of the test's own, with an image and a container."""
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("create", "--name", "kept", IMAGE, "echo", "kept")
    return daemon, docker


def test_a_host_in_order_is_clean(one: tuple[Daemon, Client]) -> None:
    daemon, docker = one
    docker("run", "--name", "other", "--storage-opt", "driver=vfs", IMAGE, "true")

    status, report = check(daemon)

    assert (status, report["Clean"], report["Findings"]) == (0, True, [])
    assert (report["Images"], report["Containers"]) == (1, 2)
    assert report["Blobs"] >= 2
    assert (report["Snapshots"]["overlay"], report["Snapshots"]["vfs"]) == (3, 3)
    done = subprocess.run([BIN / "pyd", "-H", daemon.url, "system", "check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.rstrip().endswith("clean")) == (0, True)


def test_what_nobody_needs_goes_and_what_is_needed_stays(one: tuple[Daemon, Client]) -> None:
    daemon, docker = one
    stranger = daemon.data / "content/blobs/sha256" / ("5" * 64)
    entry = daemon.data / "storage/overlay/999"
    (entry / "f").mkdir(parents=True)
    (entry / "meta").symlink_to("1 active nobody -")
    daemon.stop()
    daemon.start()  # which takes the blob, for no image has it
    stranger.write_bytes(b"nobody's")
    (daemon.data / "containers" / ("a" * 64)).mkdir()

    status, report = check(daemon)
    assert status == 1
    assert findings(report) == [
        ("blob", f"sha256:{'5' * 64}"),  # that its bytes are not those of its name
        ("blob", f"sha256:{'5' * 64}"),  # and that nobody needs it
        ("snapshot", "overlay nobody"),
        ("directory", f"{daemon.data}/containers/{'a' * 64}"),
    ]

    status, report = check(daemon, "--repair")
    assert status == 0
    assert all(each["Done"] for each in report["Findings"])
    assert check(daemon)[1]["Clean"]
    assert not entry.exists()
    assert docker("start", "-a", "kept").stdout == "kept\n"


def test_damage_is_found_and_marked(one: tuple[Daemon, Client], image_archive: Path) -> None:
    daemon, docker = one
    blobs = daemon.data / "content/blobs/sha256"
    layer = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    with layer.open("r+b") as file:
        file.seek(100)
        file.write(b"damaged by a disk")

    status, report = check(daemon)
    assert status == 1
    assert findings(report) == [("blob", f"sha256:{layer.name}")]

    status, report = check(daemon, "--repair")
    assert report["Findings"][0]["Done"].startswith("set aside")
    assert ("image", IMAGE) in findings(report), "the image that needs it is named"
    assert "pull or load it again" in report["Findings"][-1]["Text"]
    assert status == 1, "somebody has to do something"
    assert docker("start", "-a", "kept").stdout == "kept\n", "what is unpacked still runs"
    docker("load", "-q", "-i", image_archive)
    assert check(daemon)[1]["Clean"]


def layers_of(daemon: Daemon) -> list[Path]:
    """Directories of committed entries of overlay, in the order in which they were made."""
    found = [path for path in (daemon.data / "storage/overlay").iterdir() if (path / "meta").is_symlink()]
    return sorted(
        (path for path in found if " committed " in os.readlink(path / "meta")), key=lambda each: int(each.name)
    )


@pytest.mark.parametrize("what", [".", "f"])
@pytest.mark.parametrize("restarted", [False, True])
def test_lost_layers_are_found_and_unpacked_again(one: tuple[Daemon, Client], what: str, restarted: bool) -> None:
    """All of them; containers that were made of them work again, too."""
    daemon, docker = one
    docker("run", "--name", "changed", IMAGE, "sh", "-c", "echo more > /more")
    docker("commit", "changed", "two:1")
    docker("run", "--name", "of-two", "two:1", "cat", "/more")
    layers = layers_of(daemon)
    assert len(layers) == 4  # the image's, the commit's, and what containers of each stand on
    for path in layers:
        shutil.rmtree(path / what)
    if restarted:
        daemon.stop()
        daemon.start()

    refused = docker("run", "--rm", "two:1", "cat", "/more", check=False) if not restarted else None
    assert refused is None or "Unable to find image" not in refused.stderr
    status, report = check(daemon, "--repair")

    assert (status, report["Clean"]) == (0, False)
    assert all(each["Done"] for each in report["Findings"])
    assert check(daemon)[1]["Clean"]
    assert docker("run", "--rm", "two:1", "cat", "/more").stdout == "more\n"
    assert docker("start", "-a", "of-two").stdout == "more\n"
    assert docker("start", "-a", "kept").stdout == "kept\n"


@pytest.mark.parametrize("what", ["empty", "gone"])
def test_without_its_metadata_nothing_is_swept_away(one: tuple[Daemon, Client], what: str) -> None:
    daemon, docker = one
    daemon.stop()
    path = daemon.data / "metadata.db"
    whole = path.read_bytes()
    path.unlink()
    if what == "empty":
        path.touch()

    with pytest.raises(AssertionError, match="there is something in .* that it knew of"):
        daemon.start()

    path.write_bytes(whole)
    daemon.start()
    assert docker("start", "-a", "kept").stdout == "kept\n"
    assert check(daemon)[1]["Clean"]


def test_a_lost_root_file_system_is_told(one: tuple[Daemon, Client]) -> None:
    daemon, _ = one
    daemon.stop()
    (container,) = os.listdir(daemon.data / "containers")
    for path in (daemon.data / "storage/overlay").iterdir():
        if (path / "meta").is_symlink() and container in os.readlink(path / "meta"):
            shutil.rmtree(path)
    daemon.start()

    status, report = check(daemon, "--repair")

    assert status == 1
    assert findings(report) == [("container", "kept")]
