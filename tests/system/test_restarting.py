"""Who is started again, and who is not: restarts by hand, signals that mean a stop, and containers that never stay up."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from clients import IMAGE, Client, until

pytestmark = [pytest.mark.root, pytest.mark.docker]
Box = Callable[..., str]
TRAPS = "trap 'exit 3' TERM; trap 'exit 4' HUP; echo ready; while :; do sleep 0.05; done"


def field(docker: Client, container: str, template: str) -> str:
    return docker("inspect", "-f", template, container).stdout.strip()


def ready(docker: Client, container: str, times: int = 1) -> None:
    until(lambda: docker("logs", container).stdout.count("ready") == times, "the container's own word")


def starts(docker: Client, container: str) -> int:
    """How often it was started, as the events tell."""
    flags = (
        "--since",
        "0",
        "--until",
        str(int(time.time()) + 1),
        "--filter",
        f"container={container}",
        "--filter",
        "event=start",
    )
    return len(docker("events", *flags, "--format", "{{.Action}}").stdout.split())


def test_a_restart_is_no_end(docker: Client, box: Box) -> None:
    container = box("sleep", "100", flags=("--rm",))
    docker("restart", "-t", "0", container)
    assert field(docker, container, "{{.State.Status}} {{.HostConfig.AutoRemove}}") == "running true"
    docker("kill", container)
    until(lambda: not docker("ps", "-aq", "--filter", f"id={container}").stdout.strip(), "it is gone with its end")


@pytest.mark.parametrize("flags", [(), ("--stop-signal", "HUP")])
def test_the_stop_signal_is_a_stop(docker: Client, box: Box, flags: tuple[str, ...]) -> None:
    container = box("sh", "-c", TRAPS, flags=("--restart", "always", *flags))
    ready(docker, container)
    docker("kill", "-s", "HUP" if flags else "TERM", container)
    until(lambda: field(docker, container, "{{.State.Status}}") == "exited", "it ended")
    docker("run", "--rm", "--network", "none", IMAGE, "sleep", "1")  # ten times the pause before a restart
    assert field(docker, container, "{{.State.Status}} {{.State.ExitCode}}") == f"exited {4 if flags else 3}"
    assert starts(docker, container) == 1


def test_any_other_signal_is_none(docker: Client, box: Box) -> None:
    """A server that is told to reload, and dies of it, is started again."""
    container = box("sh", "-c", TRAPS, flags=("--restart", "always"))
    ready(docker, container)
    docker("kill", "-s", "HUP", container)
    until(lambda: field(docker, container, "{{.State.Status}} {{.RestartCount}}") == "running 1", "the restart")


def test_a_paused_one_sees_its_stop_signal(docker: Client, box: Box) -> None:
    container = box("sh", "-c", TRAPS)
    ready(docker, container)
    docker("pause", container)
    docker("kill", "-s", "TERM", container)
    assert docker("wait", container).stdout.strip() == "3"


def test_what_waits_for_its_restart(docker: Client, box: Box) -> None:
    container = box("sh", "-c", "exit 3", flags=("--restart", "always"))
    until(lambda: field(docker, container, "{{.RestartCount}}") == "5", "pauses that are long enough")
    said = f"Container {container} is restarting, wait until the container is running"
    for words in (("exec", container, "true"), ("pause", container), ("top", container)):
        assert said in docker(*words, check=False).stderr
    assert "container is restarting" in docker("rm", container, check=False).stderr
    docker("kill", container)
    assert field(docker, container, "{{.State.Status}}") == "exited"


def test_one_that_never_stays_up_can_be_stopped_at_any_moment(docker: Client, box: Box) -> None:
    """Of its few milliseconds of life it spends most being started or taken down."""
    container = box("sh", "-c", "exit 3", flags=("--restart", "always"))
    for _ in range(4):
        docker("stop", container)
        begun = starts(docker, container)
        docker("run", "--rm", "--network", "none", IMAGE, "sleep", "0.3")
        assert field(docker, container, "{{.State.Status}}") == "exited"
        assert starts(docker, container) == begun
        docker("start", container)
    docker("rm", "-f", container)
