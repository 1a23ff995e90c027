"""What a container's processes are and see, looked at from the host and from inside: the first process and an exec."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance.isolation_stage import IsolationStage, oci_spec, until

pytestmark = pytest.mark.root

DEFAULT = "00000000a80425fb"
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["swapon", "reboot"], "action": "SCMP_ACT_ERRNO"}],
}
Change = Callable[[dict[str, Any]], object]


def say(stage: IsolationStage, script: str, *changes: Change) -> str:
    """What a script says inside, both streams; it must succeed."""
    spec = oci_spec(["sh", "-c", script])
    for change in changes:
        change(spec)
    said, state = stage.output(spec=spec)
    text = b"".join(said.values()).decode()
    assert state.exit_code == 0, text
    return text


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def sleeper(stage: IsolationStage, kind: str, *, terminal: bool = False, **process: Any) -> int:
    """The pid of a sleeping program that runs as the container's first process or as an exec."""
    args = ["sleep", "100"]
    spec = oci_spec(args, terminal=terminal)
    spec["process"].update({name: value for name, value in process.items() if name != "seccomp"})
    if "seccomp" in process:
        spec["linux"]["seccomp"] = process["seccomp"]
    container = stage.start(spec=spec, terminal=terminal)
    pid = stage.created[container].pid
    if kind == "exec":
        _, _, pid = stage.execute(container, *args, terminal=terminal, **process)
    until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "the program runs")
    return pid


both = pytest.mark.parametrize("kind", ["init", "exec"])


@both
def test_capabilities_and_filters(stage: IsolationStage, kind: str) -> None:
    found = status(sleeper(stage, kind, seccomp=PROFILE))

    assert [found[f"Cap{name}"] for name in ("Eff", "Prm", "Bnd")] == [DEFAULT] * 3
    assert [found[f"Cap{name}"] for name in ("Inh", "Amb")] == ["0" * 16] * 2
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "0")


@both
def test_a_user_has_no_capabilities(stage: IsolationStage, kind: str) -> None:
    process: dict[str, Any] = {"user": {"username": "user"}, "noNewPrivileges": True, "seccomp": PROFILE}
    if kind == "init":
        process["capabilities"] = {"bounding": oci_spec(["x"])["process"]["capabilities"]["bounding"]}
    else:
        process["capabilities"] = {"bounding": ["CAP_CHOWN"]}

    found = status(sleeper(stage, kind, **process))

    assert [found[f"Cap{name}"] for name in ("Eff", "Prm", "Inh", "Amb")] == ["0" * 16] * 4
    assert found["CapBnd"] == (DEFAULT if kind == "init" else "0000000000000001")
    assert (found["Uid"].split(), found["Gid"].split()) == (["1000"] * 4, ["1000"] * 4)
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "1")


@both
@pytest.mark.parametrize("terminal", [False, True])
def test_only_three_descriptors(stage: IsolationStage, kind: str, terminal: bool) -> None:
    pid = sleeper(stage, kind, terminal=terminal)

    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    infos = [Path(f"/proc/{pid}/fdinfo/{fd}").read_text() for fd in "012"]
    flags = [int(line.split()[1], 8) for info in infos for line in info.splitlines() if line.startswith("flags:")]
    assert len(flags) == 3
    assert not any(each & os.O_NONBLOCK for each in flags)


@both
def test_nothing_is_inherited(stage: IsolationStage, kind: str) -> None:
    pid = sleeper(stage, kind, env=["PATH=/bin", "ONE=1", "HOME=/here", "ONE=2", "EMPTY="])
    found = status(pid)

    assert [found[f"Sig{name}"] for name in ("Ign", "Blk", "Cgt")] == ["0" * 16] * 3
    assert found["Umask"] == "0022"
    assert found["Threads"] == "1"
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")[:-1]
    assert environment == [b"PATH=/bin", b"ONE=2", b"HOME=/here", b"EMPTY="]
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert os.getpgid(pid) == os.getsid(pid) == pid


def test_it_is_process_one_and_sees_no_other(stage: IsolationStage) -> None:
    assert say(stage, "echo $$; echo /proc/[0-9]*") == "1\n/proc/1\n"


def test_the_mount_table_is_ours_alone(stage: IsolationStage) -> None:
    points = [line.split()[4] for line in say(stage, "cat /proc/self/mountinfo").splitlines()]
    spec = oci_spec(["true"])
    expected = {"/"} | {each["destination"] for each in spec["mounts"]}
    expected |= {*spec["linux"]["maskedPaths"], *spec["linux"]["readonlyPaths"]}

    strangers = [point for point in points if point not in expected and not point.startswith("/sys/fs/cgroup/")]
    assert strangers == []
    assert points.count("/") == 1


def test_masked_paths_are_empty_and_read_only_ones_cannot_be_written(stage: IsolationStage) -> None:
    script = """
        for p in /proc/acpi /proc/kcore /proc/keys /proc/timer_list /sys/firmware; do
            [ -e $p ] || continue
            if [ -d $p ]; then ls $p; touch $p/x 2>/dev/null && echo "$p is writable"
            else [ "$(stat -c %t:%T $p)" = 1:3 ] || echo "$p is not the null device"; head -c 1 $p; fi
        done
        for p in /proc/sys/kernel/hostname /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do
            [ -e $p ] && echo x 2>/dev/null >$p && echo "$p is writable"
        done
        touch /sys/x 2>/dev/null && echo "/sys is writable"
        touch /sys/fs/cgroup/x 2>/dev/null && echo "/sys/fs/cgroup is writable"
        for p in /sys/fs/cgroup/*/release_agent; do [ -e $p ] && echo "$p is there"; done
        mount -t tmpfs none /tmp 2>/dev/null && echo "mount works"
        umount /proc/kcore 2>/dev/null && echo "umount works"
        exit 0
    """
    assert say(stage, script) == ""


def test_names_and_control_groups_are_its_own(stage: IsolationStage) -> None:
    said = say(stage, "hostname; cut -d: -f3 /proc/self/cgroup | sort -u; hostname other; hostname").splitlines()

    assert said == ["box", "other"] or said[0] == "box"
    assert socket.gethostname() not in ("box", "other")
    script = "while IFS= read -r line; do echo ${line##*:}; done </proc/self/cgroup"
    assert set(say(stage, script).split()) == {"/"}


def test_devices(stage: IsolationStage) -> None:
    script = """
        for n in null zero full random urandom tty; do [ -c /dev/$n ] || echo "no $n"; done
        for n in fd stdin stdout stderr ptmx; do [ -L /dev/$n ] || echo "no $n"; done
        dd if=/dev/zero of=/dev/null bs=1k count=1 2>/dev/null || echo "zero cannot be read"
        mknod /tmp/disk b 7 0 2>/dev/null && echo "a disk can be made"
        mknod /tmp/mem c 1 1 2>/dev/null && echo "memory can be made"
        exit 0
    """
    assert say(stage, script) == ""


def test_a_read_only_root(stage: IsolationStage) -> None:
    def read_only(spec: dict[str, Any]) -> None:
        spec["root"]["readonly"] = True

    assert "Read-only" in say(stage, "touch /file 2>&1; touch /dev/shm/file", read_only)


def test_a_terminal_is_the_containers_own(stage: IsolationStage) -> None:
    before = set(os.listdir("/dev/pts"))
    container = stage.create(
        "sh",
        "-c",
        "tty; ls /dev/pts; stat -c %t:%T /dev/console; stty size; read x",
        terminal=True,
        stdin=True,
        size=(17, 71),
    )
    client = stage.attach(container, framed=False)
    stage.backend.isolation_start(container=container)
    client.read_until(b"17 71\r\n")

    assert client.raw.decode().split() == ["/dev/pts/0", "0", "ptmx", "88:0", "17", "71"]
    assert set(os.listdir("/dev/pts")) == before
    assert os.getsid(stage.created[container].pid) == stage.created[container].pid
    exec_id, second, _ = stage.execute(container, "sh", "-c", "tty; read x; stty size", terminal=True, stdin=True)
    second.read_until(b"/dev/pts/1\r\n")
    stage.backend.isolation_resize(container=container, process=exec_id, height=5, width=55)
    second.send(b"\n")
    assert second.read()[1].endswith(b"5 55\r\n")


def test_sysctls_are_set_inside_only(stage: IsolationStage) -> None:
    def shm(spec: dict[str, Any]) -> None:
        spec["linux"]["sysctl"] = {"kernel.shmmni": "4321"}

    assert say(stage, "cat /proc/sys/kernel/shmmni", shm) == "4321\n"
    assert Path("/proc/sys/kernel/shmmni").read_text() != "4321\n"


def test_resource_limits_are_set_or_clamped_with_a_warning(stage: IsolationStage) -> None:
    spec = oci_spec(["sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c"])
    spec["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]

    said, _ = stage.output(spec=spec)

    assert said == {1: b"123\n456\n0\n"}
