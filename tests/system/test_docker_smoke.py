"""The docker client's first three commands against pydd; when one of these is red, look here before anywhere else."""

from __future__ import annotations

import json

import pytest

import host_state
from clients import Client, Registry
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker]


def test_version_shows_the_server(docker: Client) -> None:
    version = json.loads(docker("version", "--format", "{{json .}}").stdout)
    assert version["Server"]["Os"] == "linux"
    assert version["Server"]["MinAPIVersion"] == "1.24"
    assert tuple(map(int, version["Client"]["ApiVersion"].split("."))) >= (1, 41)


def test_info_counts_and_names_drivers(docker: Client, pydd: Daemon, image: str) -> None:
    info = json.loads(docker("info", "--format", "{{json .}}").stdout)
    assert info["DockerRootDir"] == str(pydd.data)
    assert info["Images"] >= 1
    assert info["Driver"]
    assert {"bridge", "host", "none"} & set(info["Plugins"]["Network"])


def test_run_prints_and_returns_the_programs_status(docker: Client, image: str) -> None:
    docker("run", "--rm", image, "true")  # unpacks the image
    done = docker("run", "--rm", image, "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_run_leaves_nothing(docker: Client, pydd: Daemon, image: str) -> None:
    docker("run", "--rm", image, "true")
    before = host_state.take(pydd.run)
    for _ in range(3):
        docker("run", "--rm", image, "sh", "-c", "sleep 0.05 & ls /proc >/dev/null")
    assert host_state.settle(before, pydd.run) == []


def test_run_with_pyds_own_command_line(pyd: Client, image: str) -> None:
    done = pyd("run", "--rm", image, "echo", "hello")
    assert done.stdout == "hello\n"


@pytest.mark.registry
def test_pull_and_run_by_name(docker: Client, registry: Registry) -> None:
    reference = registry.push("tools/busybox:1")
    docker("pull", "--quiet", reference)
    assert docker("run", "--rm", reference, "echo", "pulled").stdout == "pulled\n"
    docker("rmi", reference)
