"""Where contexts and recipes of builds come from, with the docker client and with pyd; and which image a recipe stands on."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from busybox_image import ARCHITECTURES
from clients import docker_program
from engine_under_test import BIN, Daemon
from stub_registry import OCI_INDEX, serve

pytestmark = [pytest.mark.root, pytest.mark.docker]

Build = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def daemon(new_pydd: Callable[..., Daemon], image_archive: Path) -> Daemon:
    """With the busybox image."""
    daemon = new_pydd()
    api = daemon.api()
    try:
        api.call("POST", "/images/load?quiet=1", image_archive.read_bytes(), {"Content-Type": "application/x-tar"})
    finally:
        api.close()
    return daemon


@pytest.fixture(params=["docker", "pyd"])
def build(request: pytest.FixtureRequest, daemon: Daemon, client_environment: dict[str, str]) -> Build:
    program = docker_program() if request.param == "docker" else BIN / "pyd"
    environment = {**client_environment, "DOCKER_BUILDKIT": "0"}

    def run(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [program, "-H", daemon.url, "build", "--network", "none", *words]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=60, env=environment, check=False
        )

    return run


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A directory with files, links, and what is left out."""
    path = tmp_path / "context"
    (path / "sub").mkdir(parents=True)
    (path / "sub/script").write_text("#!/bin/sh\necho ran\n")
    (path / "sub/script").chmod(0o755)
    (path / "link").symlink_to("sub/script")
    (path / "secret").write_text("secret")
    os.mkfifo(path / "fifo")
    (path / ".dockerignore").write_text("secret\n")
    return path


RECIPE = "FROM busybox\nCOPY . /context/\nRUN cd /context && sh link && ls\n"


def listed(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the recipe's last step printed: whether the script ran, and what came along."""
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    return sorted(lines[lines.index("ran") : next(i for i, line in enumerate(lines) if line.startswith("Removing"))])


def test_a_directory(build: Build, context: Path) -> None:
    (context / "Dockerfile").write_text(RECIPE)
    assert listed(build("--no-cache", context)) == ["Dockerfile", "fifo", "link", "ran", "sub"]


def test_a_recipe_from_standard_input_for_a_directory(build: Build, context: Path) -> None:
    assert listed(build("--no-cache", "-f", "-", context, stdin=RECIPE)) == ["fifo", "link", "ran", "sub"]


def test_a_recipe_from_elsewhere(build: Build, context: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe").write_text(RECIPE)
    assert listed(build("--no-cache", "-f", tmp_path / "recipe", context)) == ["fifo", "link", "ran", "sub"]


@pytest.mark.parametrize("build", ["pyd"], indirect=True)  # docker's client cannot open it
def test_a_recipe_that_is_a_link_to_elsewhere(build: Build, context: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe").write_text(RECIPE)
    (context / "Dockerfile").symlink_to(tmp_path / "recipe")
    assert listed(build("--no-cache", context)) == ["Dockerfile", "fifo", "link", "ran", "sub"]


def test_a_recipe_that_is_left_out_is_read_and_not_copied(build: Build, context: Path) -> None:
    (context / "Dockerfile").write_text(RECIPE)
    (context / ".dockerignore").write_text("secret\nDockerfile\n.dockerignore\n")
    assert listed(build("--no-cache", context)) == ["fifo", "link", "ran", "sub"]


def test_a_recipe_alone(build: Build) -> None:
    done = build("-", stdin="FROM busybox\nRUN echo alone\n")
    assert done.returncode == 0, done.stderr
    assert "Successfully built" in done.stdout


def test_what_is_left_out_is_not_there_to_be_copied(build: Build, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nCOPY secret /\n")
    done = build(context)
    assert done.returncode == 1
    assert "secret: file does not exist" in done.stderr


def test_the_platform_that_a_recipe_asks_for(build: Build, daemon: Daemon, client_environment: dict[str, str]) -> None:
    own, other = ARCHITECTURES[platform.machine()], "s390x"
    with serve() as registry:
        descriptors = []
        for architecture in (own, other):
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as tar:
                tar.addfile(tarfile.TarInfo(f"of-{architecture}"))
            digest, _ = registry.image(layer.getvalue(), architecture, architecture=architecture)
            kind, content = registry.manifests[digest]
            described = {"os": "linux", "architecture": architecture}
            descriptors.append({"mediaType": kind, "digest": digest, "size": len(content), "platform": described})
        registry.manifest(OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}, "1")
        name = f"{registry.host}/many:1"
        assert build("-", "-t", "own", stdin=f"FROM {name}\nLABEL a=b\n").returncode == 0
        done = build("-", "-t", "other", stdin=f"FROM --platform=linux/{other} {name}\nLABEL a=b\n")
        assert done.returncode == 0, done.stderr
        both = build(
            "-", stdin=f"FROM --platform=linux/{own} {name}\nFROM --platform=linux/{other} {name}\nCOPY --from=0 / /\n"
        )
        assert both.returncode == 1
        assert f"wanted for linux/{own} and for linux/{other}" in both.stderr
    shown = subprocess.run(
        [docker_program(), "-H", daemon.url, "inspect", "-f", "{{.Architecture}}", "own", "other"],
        capture_output=True, text=True, env=client_environment, check=True,
    )  # fmt: skip
    assert shown.stdout.split() == [own, other]
