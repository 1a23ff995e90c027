"""Output that is kept: bounded, whole within its bound, readable while it grows and goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import Client
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

Box = Callable[..., str]
MANY = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done"


def kept(pydd: Daemon, container: str) -> int:
    """Bytes of a container's spool on disk."""
    return sum(each.stat().st_size for each in Path(pydd.data, "containers", container, "logs").glob("*.spool*"))


def test_output_is_kept_to_the_bound_of_its_options(pydd: Daemon, docker: Client, box: Box) -> None:
    container = box("sh", "-c", MANY, flags=("--log-opt", "max-size=10k", "--log-opt", "max-file=3"))
    docker("wait", container)
    deadline = time.monotonic() + 60  # what its log driver has not got yet is kept beyond the bound
    while kept(pydd, container) > 40 << 10:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    lines = docker("logs", container).stdout.splitlines()
    assert lines[-1] == "line 20000"
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    assert numbers == list(range(numbers[0], 20001))
    assert docker("logs", "--tail", "3", container).stdout.split() == [
        "line",
        "19998",
        "line",
        "19999",
        "line",
        "20000",
    ]
    tail = docker("logs", "--tail", "300", container).stdout.splitlines()
    assert (len(tail), tail[0]) == (300, "line 19701")


def test_who_follows_misses_nothing_that_is_there(docker: Client, box: Box) -> None:
    container = box("sh", "-c", f"read x; {MANY}", flags=("-i", "--log-opt", "max-size=1m", "--log-opt", "max-file=3"))
    with docker.start("logs", "-f", container) as reader:
        docker("attach", container, stdin="go\n")
        out, _ = reader.communicate(timeout=60)
    assert out.splitlines() == [f"line {number}" for number in range(1, 20001)]


def test_what_is_written_within_the_bound_is_read_whole(docker: Client, box: Box) -> None:
    line = "x" * 99
    container = box("sh", "-c", f"yes {line} | head -n 300000")
    docker("wait", container)
    out = docker("logs", container, timeout=120).stdout
    assert len(out) == 300_000 * 100
    assert out.count(line) == 300_000


def test_details(docker: Client, box: Box) -> None:
    flags = ("--label", "a=1", "-e", "B=2", "--log-opt", "labels=a", "--log-opt", "env=B")
    container = box("echo", "said", flags=flags)
    docker("wait", container)
    assert docker("logs", "--details", container).stdout == "B=2,a=1 said\n"
    assert docker("logs", container).stdout == "said\n"
