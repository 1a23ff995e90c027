"""Health checks: what is run, when, and what its ends mean."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pyd_engine.containers.config import ContainerConfig, HealthConfig
from pyd_engine.containers.container import Container, Health, Phase, Probe, RunState
from pyd_engine.containers.health import judged, probe_command
from pyd_engine.containers.host_config import HostConfig

SECOND = 1_000_000_000


def container(**health: Any) -> Container:
    return Container(
        id="a" * 64, name="c", created_ns=0, image="", image_ref="", path="true", args=(),
        config=ContainerConfig(cmd=("true",), healthcheck=HealthConfig(test=("CMD", "true"), **health)),
        host_config=HostConfig(), storage="overlay", isolation="namespaces",
        state=RunState(phase=Phase.RUNNING, started_ns=100 * SECOND),
    )  # fmt: skip


def probe(code: int, at: int = 100) -> Probe:
    return Probe(start_ns=at * SECOND, end_ns=at * SECOND, exit_code=code, output="")


@pytest.mark.parametrize(
    ("test", "command"),
    [
        (None, None), ((), None), (("NONE",), None), (("CMD",), None), (("CMD", "a", "b c"), ("a", "b c")),
        (("CMD-SHELL", "a | b"), ("/bin/sh", "-c", "a | b")),
    ],
)  # fmt: skip
def test_the_command(test: tuple[str, ...] | None, command: tuple[str, ...] | None) -> None:
    assert probe_command(ContainerConfig(healthcheck=HealthConfig(test=test))) == command


def test_the_shell_is_the_images() -> None:
    config = ContainerConfig(healthcheck=HealthConfig(test=("CMD-SHELL", "x")), shell=("/bin/ash", "-e", "-c"))
    assert probe_command(config) == ("/bin/ash", "-e", "-c", "x")


def after(subject: Container, *codes: int, at: int = 100) -> Health:
    health = Health(status="starting")
    for code in codes:
        health = judged(subject, health, probe(code, at))
    return health


def test_failures_in_a_row_count() -> None:
    assert after(container(), 1, 1).status == "starting"
    assert after(container(), 1, 1, 1).status == "unhealthy"
    assert after(container(), 1, 1, 1, 0) == Health(
        status="healthy", failing_streak=0, log=(probe(1), probe(1), probe(1), probe(0))
    )
    assert after(container(retries=1), 0, -1).status == "unhealthy"
    assert after(container(), 0, 1, 1).failing_streak == 2


def test_the_start_period_forgives_until_the_first_success() -> None:
    young = container(start_period=60 * SECOND)
    assert after(young, 1, 1, 1, 1) == msgspec.structs.replace(
        after(young, 1, 1, 1, 1), failing_streak=0, status="starting"
    )
    assert after(young, 1, 1, 1, at=161).status == "unhealthy"
    assert after(young, 0, 1, 1, 1).status == "unhealthy"


def test_five_probes_are_kept() -> None:
    assert len(after(container(), *range(9)).log) == 5
