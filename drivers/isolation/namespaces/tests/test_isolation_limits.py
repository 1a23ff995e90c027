"""Limits: read back from the kernel, and seen to hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance.isolation_stage import IsolationStage, oci_spec, until
from pyd_contracts.values import Status
from pyd_shim.cgroups import Group, discover

MIB = 1 << 20


def limited(stage: IsolationStage, *args: str, **resources: Any) -> str:
    """A running container with limits."""
    spec = oci_spec(args)
    spec["linux"]["resources"].update(resources)
    return stage.start(spec=spec)


def group_of(container: str) -> Group:
    """The groups that the kernel says the container is in."""
    layout = discover()
    found = next(each for each in _below("/sys/fs/cgroup") if each.endswith(f"/{container}"))
    parent = os.path.basename(os.path.dirname(found))
    return Group(layout, f"/{parent}/{container}")


def _below(top: str) -> list[str]:
    return [f"{above}/{name}" for above, names, _ in os.walk(top) for name in names]


@pytest.mark.root
def test_limits_are_what_was_asked_for(stage: IsolationStage) -> None:
    container = limited(
        stage, "sleep", "100",
        memory={"limit": 64 * MIB, "reservation": 32 * MIB}, cpu={"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
        pids={"limit": 7},
    )  # fmt: skip
    group = group_of(container)
    if group.layout["pure"]:
        expected = {
            "memory.max": str(64 * MIB), "memory.low": str(32 * MIB), "cpu.weight": "20", "cpu.max": "50000 100000",
            "cpuset.cpus": "0", "pids.max": "7",
        }  # fmt: skip
        if "cpuset" not in Path(f"{group.layout['v2']}/cgroup.controllers").read_text():  # user-mode Linux has none
            assert any("cpuset.cpus" in warning for warning in stage.created[container].warnings)
            del expected["cpuset.cpus"]
        found = {name: Path(f"{group.v2}/{name}").read_text().strip() for name in expected}
    else:
        expected = {
            "memory.limit_in_bytes": str(64 * MIB), "memory.soft_limit_in_bytes": str(32 * MIB), "cpu.shares": "512",
            "cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000", "cpuset.cpus": "0", "pids.max": "7",
        }  # fmt: skip
        found = {n: Path(f"{group.controller(n.partition('.')[0])}/{n}").read_text().strip() for n in expected}

    assert found == expected
    assert stage.created[container].pid in group.pids()
    for line in Path(f"/proc/{stage.created[container].pid}/cgroup").read_text().splitlines():
        assert line.endswith(f"/{container}"), "a hierarchy was not joined"


@pytest.mark.root
def test_the_number_of_processes_is_limited(stage: IsolationStage) -> None:
    spec = oci_spec(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done"])
    spec["linux"]["resources"]["pids"] = {"limit": 5}

    said, state = stage.output(spec=spec)

    assert b"can't fork" in said[2]
    assert state.exit_code != 0


@pytest.mark.root
def test_an_exec_counts_too(stage: IsolationStage) -> None:
    container = limited(stage, "sleep", "100", pids={"limit": 3})

    _, client, _ = stage.execute(container, "sh", "-c", "for i in 1 2 3 4; do sleep 1 & done")

    assert b"can't fork" in client.read()[2]


@pytest.mark.root
def test_out_of_memory_is_told(stage: IsolationStage) -> None:
    container = limited(
        stage, "dd", "if=/dev/zero", "of=/dev/null", "bs=96M", "count=1",
        memory={"limit": 24 * MIB, "swap": 24 * MIB},
    )  # fmt: skip

    state = stage.wait(container)

    assert (state.exit_code, state.oom_killed) == (137, True)
    stage.reopen()
    assert stage.state(container).oom_killed


@pytest.mark.root
def test_a_group_made_inside_does_not_hinder_removal(stage: IsolationStage) -> None:
    container = stage.start("sleep", "100")
    group = group_of(container)
    os.makedirs(f"{group.v2 or group.controller('pids')}/inner/deeper")
    stage.kill(container)
    stage.wait(container)

    stage.backend.isolation_delete(container=container)

    assert not [path for path in _below("/sys/fs/cgroup") if container in path]


@pytest.mark.root
def test_a_frozen_container_stays_frozen_for_the_next_daemon(stage: IsolationStage) -> None:
    container = stage.start("sleep", "100")
    stage.backend.isolation_freeze(container=container, frozen=True)

    stage.lose()

    assert stage.state(container).status is Status.PAUSED
    stage.backend.isolation_freeze(container=container, frozen=False)
    assert stage.state(container).status is Status.RUNNING


@pytest.mark.root
def test_signal_reaches_every_process(stage: IsolationStage) -> None:
    container = stage.start("sh", "-c", "sleep 100 & sleep 100 & sleep 100 & wait; echo all ended; sleep 100")
    group = group_of(container)
    until(lambda: len(group.pids()) == 4, "all run")

    stage.kill(container, 15, everyone=True)

    until(lambda: stage.spooled(container).endswith(b"all ended\n"), "the first process saw them end")


# --- without a kernel: files in a directory are all that is written to ---------------------------------------------------


def _v2(tmp_path: Path, *names: str) -> Group:
    (tmp_path / "c").mkdir()
    for name in names:
        (tmp_path / "c" / name).touch()
    return Group({"v1": [], "v2": str(tmp_path), "pure": True}, "/c")


@pytest.mark.parametrize(
    ("resources", "file", "text"),
    [
        ({"memory": {"limit": 1000}}, "memory.max", "1000"),
        ({"memory": {"limit": 1000, "swap": 3000}}, "memory.swap.max", "2000"),
        ({"memory": {"limit": 1000, "swap": -1}}, "memory.swap.max", "max"),
        ({"memory": {"reservation": 500}}, "memory.low", "500"),
        ({"cpu": {"shares": 2}}, "cpu.weight", "1"),
        ({"cpu": {"shares": 1024}}, "cpu.weight", "39"),
        ({"cpu": {"shares": 262144}}, "cpu.weight", "10000"),
        ({"cpu": {"quota": 50000}}, "cpu.max", "50000 100000"),
        ({"cpu": {"period": 20000}}, "cpu.max", "max 20000"),
        ({"cpu": {"cpus": "0-1"}}, "cpuset.cpus", "0-1"),
        ({"pids": {"limit": -1}}, "pids.max", "max"),
        ({"blockIO": {"weight": 300}}, "io.weight", "300"),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}}, "io.max", "8:0 rbps=1"),
    ],
)
def test_v2_values(tmp_path: Path, resources: dict[str, Any], file: str, text: str) -> None:
    group = _v2(tmp_path, "memory.max", "memory.swap.max", "memory.low", file)

    group.apply(resources)

    assert (tmp_path / "c" / file).read_text() == text


def test_a_limit_without_its_controller_is_a_warning(tmp_path: Path) -> None:
    group = _v2(tmp_path)

    group.apply({"pids": {"limit": 5}})

    assert group.warnings == ["this host has no pids.max: the limit is not applied"]


@pytest.mark.parametrize(
    ("text", "killed"), [("oom 3\noom_kill 1\n", True), ("oom 3\noom_kill 0\n", False), ("", False)]
)
def test_memory_events(tmp_path: Path, text: str, killed: bool) -> None:
    group = _v2(tmp_path)
    (tmp_path / "c/memory.events").write_text(text)

    assert group.oom_killed() is killed


def test_hierarchies_are_found_in_the_mount_table(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "30 25 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
        "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 25 0:28 / /sys/fs/cgroup/name\\040with\\040spaces rw - cgroup cgroup rw,xattr,name=systemd\n"
        "33 25 0:27 /docker/abc /elsewhere rw - cgroup cgroup rw,cpu,cpuacct\n"
        "34 25 0:27 / /second/place rw - cgroup cgroup rw,cpu,cpuacct\n"
        "35 25 0:40 / /tmp rw - tmpfs tmpfs rw\n"
    )

    assert discover(str(table)) == {
        "v1": [
            {"path": "/sys/fs/cgroup/cpu,cpuacct", "controllers": ["cpu", "cpuacct"]},
            {"path": "/sys/fs/cgroup/name with spaces", "controllers": ["name=systemd"]},
        ],
        "v2": "/sys/fs/cgroup/unified",
        "pure": False,
    }


def test_a_cpuset_whose_parent_another_shim_has_just_made(tmp_path: Path) -> None:
    """Between mkdir(2) and the writing of its files."""
    names = ("cpuset.cpus", "cpuset.mems")
    for folder, text in (("", "0-1\n"), ("pyd", "\n"), ("pyd/c", "\n")):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name in names:
            (tmp_path / folder / name).write_text(text)
    layout = {"v1": [{"path": str(tmp_path), "controllers": ["cpuset"]}], "v2": None, "pure": False}

    Group(layout, "/pyd/c").create_v1()

    for folder in ("pyd", "pyd/c"):
        assert [(tmp_path / folder / name).read_text().strip() for name in names] == ["0-1", "0-1"]
