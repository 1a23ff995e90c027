"""What the virtual machine is for: pure cgroup v2 with real limits, kernel features, the project's own Python."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.root]

CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    group = CGROUPS / f"pyd-test-{os.getpid()}"
    group.mkdir()
    yield group
    (group / "cgroup.kill").write_text("1")
    until(lambda: "populated 0" in (group / "cgroup.events").read_text())
    group.rmdir()


def until(fact: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for *fact*."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def inside(group: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run *command* in *group*; it must not leave a process that holds its output."""
    entering = ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *command]
    return subprocess.run(entering, capture_output=True, text=True, timeout=60)


def test_only_the_unified_hierarchy_is_there() -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    assert [(point, kind) for _, point, kind, *_ in mounts if kind.startswith("cgroup")] == [(str(CGROUPS), "cgroup2")]
    enabled = (CGROUPS / "cgroup.subtree_control").read_text().split()
    assert {"cpu", "io", "memory", "pids"} <= set(enabled)


def test_the_projects_own_python_runs() -> None:
    code = "import pyd_contracts, pyd_engine, pluggy; print(pyd_contracts.__file__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()).is_file()


def test_memory_limit_ends_what_exceeds_it(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("64M")
    run = inside(cgroup, "dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1")
    assert run.returncode == -9
    assert "oom_kill 1" in (cgroup / "memory.events").read_text()


def test_pids_limit_refuses_the_process_too_many(cgroup: Path) -> None:
    (cgroup / "pids.max").write_text("2")
    run = inside(cgroup, "/bin/sh", "-c", "exec >/dev/null 2>&1; sleep 60 & sleep 60 & sleep 60 & wait")
    assert run.returncode != 0
    assert "max 0" not in (cgroup / "pids.events").read_text()


def test_cpu_limit_throttles(cgroup: Path) -> None:
    (cgroup / "cpu.max").write_text("20000 100000")
    inside(cgroup, "timeout", "1", "busybox", "sh", "-c", "while :; do :; done")
    throttled = dict(line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    assert int(throttled["nr_throttled"]) > 0


def test_freeze_stops_and_kill_ends_a_group(cgroup: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    (cgroup / "cgroup.procs").write_text(str(sleeper.pid))
    (cgroup / "cgroup.freeze").write_text("1")
    until(lambda: "frozen 1" in (cgroup / "cgroup.events").read_text())
    (cgroup / "cgroup.kill").write_text("1")
    assert sleeper.wait(10) == -9


def test_an_overlay_can_be_mounted_on_the_temporary_directory(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower" / "file").write_text("below")
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, tmp_path / "merged"], check=True)
    try:
        (tmp_path / "merged" / "file").write_text("above")
    finally:
        subprocess.run(["umount", tmp_path / "merged"], check=True)
    assert (tmp_path / "lower" / "file").read_text() == "below"
    assert (tmp_path / "upper" / "file").read_text() == "above"
