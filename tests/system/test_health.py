"""Health checks in containers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from clients import Client, docker_program, until
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker]

Box = Callable[..., str]
QUICK = ("--health-interval", "100ms", "--health-retries", "2", "--health-timeout", "5s")


def health(docker: Client, container: str) -> Any:
    return json.loads(docker("inspect", "-f", "{{json .State.Health}}", container).stdout)


def status(docker: Client, container: str) -> str:
    return str(health(docker, container)["Status"])


def test_it_becomes_healthy_and_unhealthy_as_the_command_says(docker: Client, box: Box) -> None:
    container = box("sleep", "1000", flags=("--health-cmd", "echo looked; test -e /ok", *QUICK))
    until(lambda: status(docker, container) == "unhealthy", "unhealthy")
    assert "(unhealthy)" in docker("ps", "--filter", "health=unhealthy", "--format", "{{.Status}}").stdout
    docker("exec", container, "touch", "/ok")
    until(lambda: status(docker, container) == "healthy", "healthy")
    found = health(docker, container)
    assert found["FailingStreak"] == 0
    assert (found["Log"][-1]["ExitCode"], found["Log"][-1]["Output"]) == (0, "looked\n")
    assert len(found["Log"]) <= 5
    assert "(healthy)" in docker("ps", "--filter", f"id={container}", "--format", "{{.Status}}").stdout
    words = ("events", "--since", "5m", "--until", "0s", "--filter", f"container={container}")

    def told() -> str:
        return docker(*words).stdout

    until(lambda: "health_status: healthy" in told(), "the event")
    assert "health_status: unhealthy" in told()


def test_a_probe_that_takes_too_long_is_ended(docker: Client, box: Box) -> None:
    flags = ("--health-cmd", "echo begun; exec sleep 987", "--health-interval", "100ms", "--health-timeout", "300ms")
    container = box("sleep", "1000", flags=(*flags, "--health-retries", "1"))
    until(lambda: status(docker, container) == "unhealthy", "unhealthy")
    last = health(docker, container)["Log"][-1]
    assert last["ExitCode"] == -1
    assert last["Output"] == "Health check exceeded timeout (300ms): begun\n"
    docker("pause", container)
    docker("unpause", container)
    docker("pause", container)
    until(lambda: docker("top", container).stdout.count("sleep 987") <= 1, "the end of the probes")


def test_a_probe_that_cannot_run_says_why(docker: Client, box: Box, pydd: Daemon, warm: str) -> None:
    api = pydd.api()
    try:
        check = {"Test": ["CMD", "/no/such/program"], "Interval": 100_000_000, "Retries": 1}
        body = {"Image": warm, "Cmd": ["sleep", "1000"], "Healthcheck": check}
        container = str(api.json("POST", "/containers/create", body)["Id"])
    finally:
        api.close()
    try:
        docker("start", container)
        until(lambda: status(docker, container) == "unhealthy", "unhealthy")
        assert "/no/such/program" in health(docker, container)["Log"][-1]["Output"]
    finally:
        docker("rm", "-f", container)


def test_paused_and_stopped_containers_are_not_probed(docker: Client, box: Box) -> None:
    container = box("sleep", "1000", flags=("--health-cmd", "true", *QUICK))
    until(lambda: status(docker, container) == "healthy", "healthy")
    docker("pause", container)
    probes = health(docker, container)["Log"]
    docker("unpause", container)
    until(lambda: health(docker, container)["Log"][-1] != probes[-1], "another probe")
    docker("stop", "-t", "0", container)
    probes = health(docker, container)["Log"]
    docker("start", container)
    until(lambda: status(docker, container) == "healthy", "healthy again")
    assert health(docker, container)["Log"][0]["Start"] > probes[-1]["Start"]


def test_no_healthcheck(docker: Client, box: Box) -> None:
    container = box("sleep", "1000", flags=("--no-healthcheck",))
    assert health(docker, container) is None
    assert (
        docker("ps", "-q", "--no-trunc", "--filter", "health=none", "--filter", f"id={container}").stdout.strip()
        == container
    )


def test_probing_goes_on_after_the_daemons_death(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Any
) -> None:
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("run", "-d", "--name", "probed", "--health-cmd", "test -e /ok", *QUICK, "busybox", "sleep", "1000")
    until(lambda: status(docker, "probed") == "unhealthy", "unhealthy")
    daemon.kill()
    daemon.start()
    assert status(docker, "probed") == "unhealthy"
    docker("exec", "probed", "touch", "/ok")
    until(lambda: status(docker, "probed") == "healthy", "healthy")
    docker("rm", "-f", "probed")
    daemon.close()
