"""Fields of a create request that no flag of the docker client sets, or whose effect only a host shows."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clients import Client, until
from engine_under_test import OCI, Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]
Create = Callable[..., str]
Box = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def runtimes_used(docker: Client, warm: str) -> None:
    """Each runtime's own directory is made at its first use, and kept."""
    for runtime in OCI:
        docker("run", "--rm", "--runtime", runtime, warm, "true")


@pytest.fixture
def create(pydd: Daemon, docker: Client, warm: str) -> Iterator[Create]:
    """Makes containers by the API alone: ``create(Cmd=["true"])`` gives the id."""
    made: list[str] = []
    api = pydd.api()

    def create(**body: Any) -> str:
        made.append(str(api.json("POST", "/containers/create", {"Image": warm, **body})["Id"]))
        return made[-1]

    yield create
    api.close()
    if made:
        docker("rm", "-f", "-v", *made)


def shown(docker: Client, what: str, ref: str) -> Any:
    return json.loads(docker("inspect", "-f", f"{{{{json {what}}}}}", ref).stdout)


def test_a_disabled_network_is_loopback_alone(docker: Client, create: Create) -> None:
    container = create(Cmd=["ls", "/sys/class/net"], NetworkDisabled=True)
    assert docker("start", "-a", container).stdout == "lo\n"


def test_what_builds_on_an_image_is_kept_by_it(docker: Client, create: Create, name: str) -> None:
    """ONBUILD is of the image that a commit makes; a container of that image has none of it, as builders expect."""
    container = create(Cmd=["true"], OnBuild=["RUN echo one", "ENV A=1"])
    assert shown(docker, ".Config.OnBuild", container) == ["RUN echo one", "ENV A=1"]
    try:
        docker("commit", container, f"{name}:1")
        assert shown(docker, ".Config.OnBuild", f"{name}:1") == ["RUN echo one", "ENV A=1"]
        assert shown(docker, ".Config.OnBuild", create(Image=f"{name}:1")) is None
    finally:
        docker("rmi", "-f", f"{name}:1", check=False)


def test_the_shell_runs_health_checks_and_is_kept(docker: Client, create: Create, name: str) -> None:
    """What is given to a shell, not to a program: ``--health-cmd``."""
    check = {"Test": ["CMD-SHELL", "echo of a shell"], "Interval": 10**9}
    shell = ["/bin/sh", "-e", "-c", 'echo "before: $0"; eval "$0"']
    container = create(Cmd=["sleep", "100"], Shell=shell, Healthcheck=check)
    docker("start", container)
    until(lambda: shown(docker, ".State.Health.Status", container) == "healthy", "it is healthy")
    assert shown(docker, ".State.Health.Log", container)[0]["Output"] == "before: echo of a shell\nof a shell\n"
    assert shown(docker, ".Config.Shell", container) == shell
    try:
        docker("commit", container, f"{name}:1")
        assert shown(docker, ".Config.Shell", f"{name}:1") == shell
    finally:
        docker("rmi", "-f", f"{name}:1", check=False)


@pytest.mark.parametrize("runtime", OCI)
def test_annotations_reach_the_runtime(pydd: Daemon, docker: Client, box: Box, runtime: str) -> None:
    flags = ("--runtime", runtime, "--annotation", "org.example.key=some value", "--annotation", "bare=")
    container = box("sleep", "100", flags=flags)
    assert shown(docker, ".HostConfig.Annotations", container) == {"org.example.key": "some value", "bare": ""}
    state = [runtime, "--root", str(pydd.run / "isolation/oci/runtimes" / runtime), "state", container]
    told = json.loads(subprocess.run(state, capture_output=True, text=True, check=True).stdout)["annotations"]
    assert (told["org.example.key"], told["bare"]) == ("some value", "")


@pytest.mark.parametrize("runtime", ["namespaces", *OCI])
def test_the_group_is_below_the_parent_that_was_asked_for(docker: Client, box: Box, name: str, runtime: str) -> None:
    parent = f"/pyd-{name}/inner"
    groups = [
        path
        for path in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/"))
        if (path / "cgroup.procs").exists()
    ]
    try:
        container = box("sleep", "100", flags=("--runtime", runtime, "--cgroup-parent", parent))
        pid = shown(docker, ".State.Pid", container)
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        assert lines
        assert {line.split(":", 2)[2] for line in lines} == {f"{parent}/{container}"}
        docker("rm", "-f", container)
    finally:
        for path in groups:  # a group of the operator's: the engine leaves it
            for each in (path / parent[1:], (path / parent[1:]).parent):
                if each.exists():
                    each.rmdir()


def test_the_resolver_has_the_options_asked_for(docker: Client, warm: str) -> None:
    flags = ("--dns", "192.0.2.53", "--dns-search", "a.example", "--dns-opt", "ndots:3", "--dns-opt", "timeout:1")
    said = docker("run", "--rm", *flags, warm, "cat", "/etc/resolv.conf").stdout
    lines = {line for line in said.splitlines() if not line.startswith("#")}
    assert {"nameserver 192.0.2.53", "search a.example", "options ndots:3 timeout:1"} <= lines


# --- block devices -------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A block device of 8 MiB with nothing on it, whose scheduler knows of weights."""
    (tmp_path / "disk").write_bytes(bytes(8 << 20))
    device = subprocess.run(
        ["losetup", "--find", "--show", "--direct-io=off", tmp_path / "disk"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    try:
        Path(f"/sys/block/{Path(device).name}/queue/scheduler").write_text("bfq")
        yield device
    except OSError as error:
        pytest.skip(f"{device} cannot have the scheduler bfq: {error.strerror}")
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def in_group(docker: Client, container: str, v1: str, v2: str) -> list[str]:
    """Lines of a control file as the container's own group shows it."""
    script = f"cat /sys/fs/cgroup/blkio/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}"
    return docker("exec", container, "sh", "-c", script).stdout.splitlines()


def number(device: str) -> str:
    return Path(f"/sys/block/{Path(device).name}/dev").read_text().strip()


@pytest.mark.parametrize("runtime", ["namespaces", *OCI])
def test_weights_of_block_devices(docker: Client, box: Box, disk: str, runtime: str) -> None:
    flags = ("--runtime", runtime, "--blkio-weight", "300", "--blkio-weight-device", f"{disk}:200")
    container = box("sleep", "100", flags=flags)
    lines = in_group(docker, container, "blkio.bfq.weight_device", "io.bfq.weight")
    assert f"{number(disk)} 200" in lines
    assert (
        "300" in (*lines, *in_group(docker, container, "blkio.bfq.weight", "io.bfq.weight")) or "default 300" in lines
    )
    docker("update", "--blkio-weight", "500", container)
    assert in_group(docker, container, "blkio.bfq.weight", "io.bfq.weight")[0].split()[-1] == "500"


@pytest.mark.parametrize("runtime", ["namespaces", *OCI])
@pytest.mark.parametrize(
    ("flag", "rate", "work"),
    [
        ("read-bps", "1mb", "dd if={} of=/dev/null iflag=direct bs=64k count=32"),
        ("write-bps", "1mb", "dd if=/dev/zero of={} oflag=direct bs=64k count=32"),
        ("read-iops", "16", "dd if={} of=/dev/null iflag=direct bs=4k count=32"),
        ("write-iops", "16", "dd if=/dev/zero of={} oflag=direct bs=4k count=32"),
    ],
)
def test_throttles_of_block_devices(
    docker: Client, warm: str, disk: str, runtime: str, flag: str, rate: str, work: str
) -> None:
    """Twice as much as goes through in a second takes one more than that at least; without the limit it takes none."""
    flags = ("--runtime", runtime, "--device", disk)
    began = time.monotonic()
    docker("run", "--rm", *flags, f"--device-{flag}", f"{disk}:{rate}", warm, "sh", "-c", work.format(disk))
    limited = time.monotonic() - began
    began = time.monotonic()
    docker("run", "--rm", *flags, warm, "sh", "-c", work.format(disk))
    assert limited > 1
    assert limited > time.monotonic() - began
