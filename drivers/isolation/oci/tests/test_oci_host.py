"""What shows on the host of containers that a runtime built, and what is seen inside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from pyd_conformance.isolation_stage import IsolationStage, alive, oci_spec, parent_of, refusal, until
from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_contracts.values import Mount, Status, Stdio

pytestmark = pytest.mark.root


def test_inside_there_are_three_descriptors_and_dockers_capabilities(stage: IsolationStage) -> None:
    said, _ = stage.output("sh", "-c", "grep CapEff /proc/self/status; ls /proc/$$/fd; trap")
    assert said == {1: b"CapEff:\t00000000a80425fb\n0\n1\n2\n"}


def test_signals_are_as_the_kernel_has_them(stage: IsolationStage) -> None:
    said, _ = stage.output("grep", "SigIgn", "/proc/self/status")
    assert said == {1: b"SigIgn:\t0000000000000000\n"}


def test_the_root_is_mounted_nowhere_else(stage: IsolationStage) -> None:
    container = stage.start("sleep", "100")
    shim = parent_of(stage.created[container].pid)
    root = str(stage.sandboxes[container].spec["root"]["path"])  # type: ignore[index]
    for pid in ("self", str(shim)):
        assert root not in Path(f"/proc/{pid}/mountinfo").read_text()


def test_the_bundle_is_for_root_only(stage: IsolationStage) -> None:
    container = stage.start("sleep", "100")
    bundle = stage.sandboxes[container].bundle
    assert (bundle / "config.json").stat().st_mode & 0o777 == 0o600


def test_the_runtime_keeps_its_state_where_the_backend_says(stage: IsolationStage) -> None:
    container = stage.start("sleep", "100")
    assert list(stage.place.run.glob(f"runtimes/*/{container}"))
    stage.kill(container)
    stage.wait(container)
    stage.backend.isolation_delete(container=container)
    assert not list(stage.place.run.glob(f"runtimes/*/{container}"))


def test_a_killed_shim_leaves_what_delete_removes(stage: IsolationStage) -> None:
    container = stage.start("sleep", "100")
    pid = stage.created[container].pid
    os.kill(parent_of(pid), signal.SIGKILL)
    stage.wait(container)
    until(lambda: not alive(pid), "its process is gone")
    stage.backend.isolation_delete(container=container)
    assert stage.leftovers(container) == []
    assert not list(stage.place.run.glob(f"runtimes/*/{container}"))


def test_what_a_failed_exec_leaves_does_not_keep_the_container(stage: IsolationStage) -> None:
    container = stage.start("sleep", "100")
    for _ in range(3):
        with pytest.raises(NotFound):
            stage.execute(container, "no-such-program")
    stage.kill(container)
    assert stage.wait(container).exit_code == 137


def test_an_exec_without_an_interpreter(stage: IsolationStage) -> None:
    (stage.place.tree / "bin/broken").write_text("#!/no/such/interpreter\n")
    (stage.place.tree / "bin/broken").chmod(0o755)
    container = stage.start("sleep", "100")
    with pytest.raises(NotFound, match="/no/such/interpreter"):
        stage.execute(container, "broken")


def test_a_program_that_ends_at_once_is_no_fault(stage: IsolationStage) -> None:
    for _ in range(5):
        _, state = stage.output("false")
        assert (state.exit_code, state.error) == (1, "")


def test_limits_beyond_this_hosts_are_told(stage: IsolationStage) -> None:
    spec = oci_spec(["sh", "-c", "ulimit -n"])
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}]
    container = stage.create(spec=spec)
    assert any("ulimit nofile" in each for each in stage.created[container].warnings)
    client = stage.attach(container, stdin=False)
    stage.backend.isolation_start(container=container)
    assert 0 < int(client.read()[1]) < 1 << 40


def test_words_of_the_runtime_name_the_field(stage: IsolationStage) -> None:
    spec = oci_spec(["true"])
    spec["linux"]["sysctl"] = {"kernel.nosuch": "1"}
    said = refusal(InvalidArgument, stage.create, spec=spec)
    assert said.startswith("linux.sysctl: ")
    assert "kernel.nosuch" in said


def test_users_of_the_host_s_processes(stage: IsolationStage) -> None:
    """Without a pid namespace of its own nothing but the control group ends what the program left."""
    spec = oci_spec(["sh", "-c", "sleep 100 & echo $!; exit 4"])
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "pid"]
    container = stage.create(spec=spec)
    client = stage.attach(container, stdin=False)
    stage.backend.isolation_start(container=container)
    assert stage.wait(container).exit_code == 4
    pid = int(client.read()[1])
    until(lambda: not alive(pid), "what it left has ended")
    assert stage.state(container).status is Status.STOPPED


def test_no_runtime_process_stays(stage: IsolationStage) -> None:
    container = stage.start("sleep", "100")
    stage.execute(container, "sleep", "100")
    shim = parent_of(stage.created[container].pid)
    found = subprocess.run(["ps", "-o", "comm=", "--ppid", str(shim)], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["sleep", "sleep"]


def _serving(place: Path) -> list[int]:
    """Processes of fuse-overlayfs that serve something below *place*."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == b"fuse-overlayfs" and os.fsencode(place) in b" ".join(words):
            found.append(int(folder.name))
    return found


@pytest.mark.skipif(shutil.which("fuse-overlayfs") is None, reason="fuse-overlayfs is not installed")
def test_a_file_system_in_user_space_is_served_from_outside_and_ends_with_its_container(
    stage: IsolationStage, tmp_path: Path
) -> None:
    for name in ("f", "w"):
        (tmp_path / name).mkdir()
    options = (f"lowerdir={stage.place.tree}", f"upperdir={tmp_path}/f", f"workdir={tmp_path}/w")
    container = os.urandom(32).hex()
    root = (Mount("fuse.fuse-overlayfs", "fuse-overlayfs", options),)
    spec = oci_spec(["sh", "-c", "echo there > /made; sleep 100"], env=(f"PYD_TEST={container}",))
    sandbox = stage.sandbox(container, spec, Stdio(), root)
    stage.created[container] = stage.backend.isolation_create(container=container, sandbox=sandbox)
    stage.backend.isolation_start(container=container)
    until((tmp_path / "f/made").exists, "it has written")

    (program,) = _serving(tmp_path)
    assert os.readlink(f"/proc/{program}/ns/mnt") == os.readlink("/proc/self/ns/mnt")

    stage.kill(container)
    stage.wait(container)
    stage.backend.isolation_delete(container=container)
    until(lambda: not _serving(tmp_path), "the program has ended")
