"""Configuration: faults are told in one line that helps, and drivers are chosen by name."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import IMAGE, Client, docker_program
from engine_under_test import BIN, Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker]


def start(tmp_path: Path, text: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run pydd with a configuration that should not let it run; its roots are below *tmp_path*."""
    config = tmp_path / "pyd.toml"
    config.write_text(
        f'data-root = "{tmp_path}/data"\nrun-root = "{tmp_path}/run"\nhosts = ["unix://{tmp_path}/s.sock"]\n{text}'
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYD_")}
    return subprocess.run(
        [BIN / "pydd", "--config", config, *flags],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[storage]\ndefault = "overlai"\n', ("storage", "overlai", "overlay", "vfs")),
        ('[network]\ndrivers = ["bridge", "macwlan"]\n', ("network", "macwlan", "bridge")),
        ('[isolation]\ndefault = "vm"\n', ("isolation", "vm", "namespaces")),
        ('data-rot = "/x"\n', ("data-rot", "data-root")),
        ('[storage]\ndefalt = "overlay"\n', ("defalt", "default")),
        ("log-level = 7\n", ("log-level", "7")),
        ('log-level = "loud"\n', ("log-level", "loud", "info")),
        ('hosts = "unix:///x"\nhosts = 1\n', ("pyd.toml", "line")),
    ],
    ids=["storage", "network", "isolation", "key", "key-in-table", "type", "choice", "syntax"],
)
@pytest.mark.parametrize("flags", [(), ("--validate",)], ids=["start", "validate"])
def test_a_fault_is_one_line_that_helps(
    tmp_path: Path, text: str, words: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    done = start(tmp_path, text, *flags)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("pydd: ")
    assert [word for word in words if word not in line] == [], line
    assert not (tmp_path / "s.sock").exists()


def test_validate_says_so_and_makes_nothing(tmp_path: Path) -> None:
    done = start(tmp_path, '[storage]\ndefault = "vfs"\n', "--validate")
    assert (done.returncode, done.stderr) == (0, "")
    assert "valid" in done.stdout
    assert os.listdir(tmp_path) == ["pyd.toml"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = subprocess.run([BIN / "pydd", "--config", tmp_path / "no"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert str(tmp_path / "no") in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def vfs(new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path) -> Client:
    """A docker client of a daemon whose default is vfs, with the image."""
    daemon = new_pydd('[storage]\ndefault = "vfs"\n')
    client = Client((docker_program(), "-H", daemon.url), client_environment)
    client("load", "-q", "-i", image_archive)
    return client


def driver(client: Client, *flags: str) -> tuple[str, str]:
    """The driver that inspect names, and the file system that the program sees as /."""
    container = client(
        "create", *flags, IMAGE, "sh", "-c", "sed -n 's/^[^ ]* \\/ \\([^ ]*\\) .*/\\1/p' /proc/mounts"
    ).stdout
    try:
        seen = client("start", "-a", container.strip()).stdout.strip()
        return client("inspect", "-f", "{{.Driver}}", container.strip()).stdout.strip(), seen
    finally:
        client("rm", container.strip())


def test_vfs_by_default(vfs: Client) -> None:
    assert vfs("info", "-f", "{{.Driver}}").stdout == "vfs\n"
    name, seen = driver(vfs)
    assert name == "vfs"
    assert seen != "overlay"


def test_another_driver_for_one_container(vfs: Client, docker: Client, warm: str) -> None:
    assert driver(vfs, "--storage-opt", "driver=overlay") == ("overlay", "overlay")
    assert driver(docker, "--storage-opt", "driver=vfs")[0] == "vfs"
    assert driver(docker) == ("overlay", "overlay")
