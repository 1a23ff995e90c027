"""Limits, what containers use, and changing both while they run."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clients import IMAGE, Client, docker_program, until
from engine_under_test import OCI, Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

Box = Callable[..., str]
BUSY = ("sh", "-c", "while :; do :; done")


def inside(docker: Client, container: str, v1: str, v2: str) -> str:
    """A limit as the container's own control group shows it."""
    script = f"cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}"
    return docker("exec", container, "sh", "-c", script).stdout.strip()


def statistics(pydd: Daemon, container: str, query: str = "?stream=0") -> Any:
    api = pydd.api()
    try:
        return json.loads(api.call("GET", f"/containers/{container}/stats{query}"))
    finally:
        api.close()


# --- statistics --------------------------------------------------------------------------------------------------


def test_the_figures_of_a_busy_container(pydd: Daemon, docker: Client, box: Box) -> None:
    container = box(*BUSY, flags=("-m", "64m", "--pids-limit", "50"))
    found = statistics(pydd, container)
    used = found["cpu_stats"]["cpu_usage"]["total_usage"] - found["precpu_stats"]["cpu_usage"]["total_usage"]
    assert used > 0
    assert found["cpu_stats"]["system_cpu_usage"] > found["precpu_stats"]["system_cpu_usage"]
    assert found["preread"] < found["read"]
    assert found["memory_stats"]["limit"] == 64 << 20
    assert 0 < found["memory_stats"]["usage"] < 64 << 20
    assert found["pids_stats"] == {"current": 1, "limit": 50}
    assert found["networks"]["eth0"]["rx_bytes"] >= 0
    assert (found["id"], found["name"][0]) == (container, "/")
    one = statistics(pydd, container, "?stream=0&one-shot=1")
    assert one["precpu_stats"]["cpu_usage"]["total_usage"] == 0


def test_a_container_that_does_not_run_has_no_figures(pydd: Daemon, docker: Client, box: Box) -> None:
    container = box("true")
    docker("wait", container)
    found = statistics(pydd, container)
    assert (found["read"], found["memory_stats"], found["pids_stats"]) == ("0001-01-01T00:00:00Z", {}, {})


def test_bytes_on_the_network_are_counted(pydd: Daemon, docker: Client, box: Box) -> None:
    container = box("sleep", "1000")
    before = statistics(pydd, container, "?stream=0&one-shot=1")["networks"]["eth0"]
    docker("exec", container, "sh", "-c", "ping -c 3 -W 1 $(ip route | grep default | cut -d' ' -f3)")
    after = statistics(pydd, container, "?stream=0&one-shot=1")["networks"]["eth0"]
    assert after["tx_packets"] >= before["tx_packets"] + 3
    assert after["rx_bytes"] > before["rx_bytes"]


def test_watchers_share_samples_and_end_with_the_container(docker: Client, box: Box) -> None:
    container = box(*BUSY)
    with docker.start("stats", "--no-trunc", "--format", "{{.ID}} {{.MemPerc}}", container) as client:
        assert client.stdout is not None
        seen = ""
        while container not in seen:
            seen += client.stdout.readline()
        docker("rm", "-f", container)
        client.kill()
        client.communicate(timeout=30)
    assert statistics_gone(docker, container)


def statistics_gone(docker: Client, container: str) -> bool:
    return "No such container" in docker("stats", "--no-stream", container, check=False).stderr


# --- update ------------------------------------------------------------------------------------------------------


def test_limits_change_while_it_runs(cli: Client, docker: Client, box: Box) -> None:
    container = box("sleep", "1000", flags=("-m", "64m", "--cpu-shares", "512"))
    assert (
        cli("update", "-m", "100m", "--memory-swap", "300m", "--pids-limit", "33", container).stdout.strip()
        == container
    )
    assert inside(docker, container, "memory/memory.limit_in_bytes", "memory.max") == str(100 << 20)
    assert inside(docker, container, "pids/pids.max", "pids.max") == "33"
    shown = docker(
        "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}} {{.HostConfig.PidsLimit}}", container
    )
    assert shown.stdout.split() == [str(100 << 20), "512", "33"]


def test_what_is_refused_changes_nothing(docker: Client, box: Box) -> None:
    container = box("sleep", "1000", flags=("-m", "64m", "--cpus", "0.5"))
    for words, said in (
        (("-m", "1m"), "Minimum memory limit allowed is 6MB"),
        (("-m", "200m"), "update the memoryswap at the same time"),
        (("--cpu-quota", "5000"), "as NanoCPUs has already been set"),
        (("--cpuset-cpus", "4000"), "not available"),
        (("--restart", "nope"), "invalid restart policy"),
    ):
        done = docker("update", *words, container, check=False)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert inside(docker, container, "memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)


def test_a_stopped_container_starts_with_its_new_limits(docker: Client, box: Box) -> None:
    container = box("sleep", "1000")
    docker("stop", "-t", "0", container)
    docker("update", "--pids-limit", "44", "--restart", "on-failure:3", container)
    docker("start", container)
    assert inside(docker, container, "pids/pids.max", "pids.max") == "44"
    policy = docker("inspect", "-f", "{{json .HostConfig.RestartPolicy}}", container).stdout
    assert json.loads(policy) == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_updates_at_once_are_all_done(docker: Client, box: Box) -> None:
    container = box("sleep", "1000")
    threads = [
        threading.Thread(target=docker, args=("update", "--pids-limit", str(100 + number), container))
        for number in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    shown = docker("inspect", "-f", "{{.HostConfig.PidsLimit}}", container).stdout.strip()
    assert inside(docker, container, "pids/pids.max", "pids.max") == shown
    events = (
        "events",
        "--since",
        "5m",
        "--until",
        "0s",
        "--filter",
        f"container={container}",
        "--filter",
        "event=update",
    )
    until(lambda: docker(*events, "-f", "type=container").stdout.count("container update") == 8, "the events")


# --- real-time ---------------------------------------------------------------------------------------------------------

_NO_REAL_TIME = not Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists()
without = pytest.mark.skipif(
    _NO_REAL_TIME, reason="this kernel has no real-time groups (CONFIG_RT_GROUP_SCHED, cgroup v1)"
)


def may_be_real_time(docker: Client, container: str) -> bool:
    """Whether the kernel lets a process of the container be one that goes before all others (sched(7), SCHED_FIFO)."""
    pid = int(docker("inspect", "-f", "{{.State.Pid}}", container).stdout)
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    return True


@pytest.fixture(scope="module")
def real_time(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> Iterator[Client]:
    """The client of a daemon whose containers may have 0.2 s of each second."""
    share = "cpu-rt-runtime = 200000\n"
    daemon = new_pydd(f"[isolation.namespaces]\n{share}[isolation.oci]\n{share}")
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    yield docker
    daemon.close()


@without
@pytest.mark.parametrize("runtime", ["namespaces", *OCI])
def test_real_time(real_time: Client, runtime: str) -> None:
    flags = ("--runtime", runtime, "--network", "none", IMAGE, "sleep", "100")
    plain = real_time("run", "-d", *flags).stdout.strip()
    assert not may_be_real_time(real_time, plain)
    wanted = ("--cpu-rt-runtime", "50000", "--cpu-rt-period", "500000")
    container = real_time("run", "-d", *wanted, *flags).stdout.strip()
    assert may_be_real_time(real_time, container)
    assert inside(real_time, container, "cpu/cpu.rt_runtime_us", "") == "50000"
    assert inside(real_time, container, "cpu/cpu.rt_period_us", "") == "500000"
    real_time("update", "--cpu-rt-runtime", "20000", "--cpu-rt-period", "200000", container)
    assert inside(real_time, container, "cpu/cpu.rt_runtime_us", "") == "20000"
    assert inside(real_time, container, "cpu/cpu.rt_period_us", "") == "200000"
    done = real_time("update", "--cpu-rt-runtime", "100000", container, check=False)
    assert "no such share of real-time to give" in done.stderr
    assert inside(real_time, container, "cpu/cpu.rt_runtime_us", "") == "20000"
    real_time("rm", "-f", plain, container)


@without
def test_real_time_that_nobody_gave(docker: Client, warm: str) -> None:
    done = docker("run", "--rm", "--cpu-rt-runtime", "50000", warm, "true", check=False)
    assert (done.returncode, "(cpu-rt-runtime in the backend's settings)" in done.stderr) == (125, True), done.stderr


def test_real_time_that_cannot_be(docker: Client, warm: str) -> None:
    done = docker("run", "--rm", "--cpu-rt-runtime", "5000", "--cpu-rt-period", "1000", warm, "true", check=False)
    words = "CPU real-time scheduler" if _NO_REAL_TIME else "cpu real-time runtime cannot be higher than"
    assert (done.returncode, words in done.stderr) == (125, True), done.stderr
