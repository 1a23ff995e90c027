"""Images and processes that attack who builds the container: one test for each way that once worked somewhere."""

from __future__ import annotations

import errno
import hashlib
import os
import select
import signal
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance.isolation_stage import IsolationStage, alive, oci_spec, parent_of, until
from pyd_contracts.errors import InvalidArgument, NotFound, PydError
from pyd_shim import kernel

pytestmark = pytest.mark.root

FOURTEEN = 0xA80425FB
_PRIVATE = (
    ("exe", os.O_RDONLY),
    ("root", os.O_RDONLY),
    ("cwd", os.O_RDONLY),
    ("mem", os.O_RDWR),
    ("environ", os.O_RDONLY),
)


def refused(stage: IsolationStage, spec: dict[str, Any]) -> PydError:
    """The error of a create that must be refused."""
    with pytest.raises(PydError) as caught:
        stage.create(spec=spec)
    assert stage.walk() == set()
    return caught.value


# --- links where directories are expected (CVE-2026-41579, CVE-2019-19921) ---------------------------------------------


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_instead_of_a_directory(stage: IsolationStage, name: str, absolute: bool) -> None:
    outside = stage.place.work / "outside"
    outside.mkdir()
    (stage.place.tree / name).rmdir()
    target = str(outside) if absolute else "../" * 20 + str(outside).lstrip("/")
    (stage.place.tree / name).symlink_to(target)

    error = refused(stage, oci_spec(["true"]))

    assert isinstance(error, InvalidArgument)
    assert f"/{name} must be an ordinary directory" in str(error)
    assert list(outside.iterdir()) == []


def test_a_link_instead_of_dev_without_a_mount_there(stage: IsolationStage) -> None:
    outside = stage.place.work / "outside"
    outside.mkdir()
    (stage.place.tree / "dev").rmdir()
    (stage.place.tree / "dev").symlink_to("../" * 20 + str(outside).lstrip("/"))
    spec = oci_spec(["true"])
    spec["mounts"] = [each for each in spec["mounts"] if not each["destination"].startswith("/dev")]

    container = stage.start(spec=spec)

    assert stage.wait(container).exit_code == 0
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("destination", ["/proc/self/attr", "/proc", "//proc", "/proc/", "/a/../proc/sys", "/./proc/1"])
def test_no_volume_in_proc(stage: IsolationStage, destination: str) -> None:
    spec = oci_spec(["true"])
    spec["mounts"].append(
        {"destination": destination, "type": "bind", "source": str(stage.place.work), "options": ["rbind"]}
    )

    assert isinstance(refused(stage, spec), InvalidArgument)


def test_a_root_that_cannot_be_mounted_is_told_as_such(stage: IsolationStage) -> None:
    stage.place.tree.rename(stage.place.work / "elsewhere")

    for _ in range(10):  # the init ends at any moment of what the shim does meanwhile: its word must never be lost
        assert "mount the root file system" in str(refused(stage, oci_spec(["true"])))


@pytest.mark.parametrize("destination", ["/link/inside", "/link"])
def test_where_volumes_go(stage: IsolationStage, destination: str) -> None:
    outside, volume = stage.place.work / "outside", stage.place.work / "volume"
    outside.mkdir()
    volume.mkdir()
    (stage.place.tree / "link").symlink_to("../" * 20 + str(outside).lstrip("/"))
    spec = oci_spec(["true"])
    spec["mounts"].append({"destination": destination, "type": "bind", "source": str(volume), "options": ["rbind"]})

    try:
        container = stage.start(spec=spec)
    except InvalidArgument:
        assert stage.walk() == set()  # refused is as good as harmless
    else:
        assert stage.wait(container).exit_code == 0
    assert list(outside.iterdir()) == []
    assert str(volume) not in Path("/proc/self/mountinfo").read_text()


# --- the null device that is none (CVE-2025-31133, CVE-2025-52565) -----------------------------------------------------


@pytest.mark.parametrize("mounted", [True, False])
def test_a_link_instead_of_the_null_device(stage: IsolationStage, mounted: bool) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    (stage.place.tree / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    spec = oci_spec(["sh", "-c", "stat -c %t:%T /proc/version; echo hacked >/proc/version; exit 0"])
    spec["linux"]["maskedPaths"] = ["/proc/version"]
    if not mounted:
        spec["mounts"] = [each for each in spec["mounts"] if not each["destination"].startswith("/dev")]

    said, _ = stage.output(spec=spec)

    assert said[1] == b"1:3\n"
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_a_file_instead_of_the_null_device(stage: IsolationStage) -> None:
    (stage.place.tree / "dev/null").write_text("not a device")
    spec = oci_spec(["true"])
    spec["mounts"] = [each for each in spec["mounts"] if not each["destination"].startswith("/dev")]

    assert "not the null device" in str(refused(stage, spec))


def test_a_link_instead_of_the_console(stage: IsolationStage) -> None:
    (stage.place.work / "volume").mkdir()
    victim = stage.place.work / "victim"
    victim.write_text("untouched")
    (stage.place.work / "volume/console").symlink_to("../" * 20 + str(victim).lstrip("/"))
    spec = oci_spec(["sh", "-c", "echo written >/dev/console"], terminal=True)
    dev = next(each for each in spec["mounts"] if each["destination"] == "/dev")
    dev.update(type="bind", source=str(stage.place.work / "volume"), options=["rbind"])

    try:
        container = stage.start(spec=spec, terminal=True)
    except PydError:
        pass  # refused is as good as harmless
    else:
        stage.wait(container)
    assert victim.read_text() == "untouched"


# --- descriptors and working directories (CVE-2024-21626) ---------------------------------------------------------------


@pytest.mark.parametrize("where", ["/proc/self/fd/{}", "/proc/1/fd/{}", "/link"])
def test_no_working_directory_on_the_host(stage: IsolationStage, where: str) -> None:
    container = stage.start("sleep", "100")
    for number in range(20):
        path = where.format(number)
        if path == "/link":
            link = stage.place.tree / "link"
            link.unlink(missing_ok=True)
            link.symlink_to(f"/proc/self/fd/{number}")
        with pytest.raises(PydError):
            stage.create(spec=oci_spec(["true"], cwd=path))
        with pytest.raises(PydError):
            stage.execute(container, "sh", "-c", "ls", cwd=path)
    assert stage.walk() == {container}


def test_a_working_directory_that_is_not_there(stage: IsolationStage) -> None:
    container = stage.start("sleep", "100")

    with pytest.raises(NotFound, match="/not/there"):
        stage.execute(container, "true", cwd="/not/there")
    with pytest.raises(PydError, match="/bin/busybox"):
        stage.execute(container, "true", cwd="/bin/busybox")


def test_an_error_after_all_descriptors_are_closed_is_told(stage: IsolationStage) -> None:
    container = stage.start("sleep", "100")
    (stage.place.tree / "bin/bad").write_bytes(b"\x7fELF nonsense")
    (stage.place.tree / "bin/bad").chmod(0o755)

    with pytest.raises(InvalidArgument, match=r"exec /bin/bad: exec format error"):
        stage.execute(container, "bad")


# --- the host's Python in the image's files (lazy imports, codecs, NSS) -------------------------------------------------


def _plant(tree: Path) -> None:
    code = 'open("/owned", "a").write(__name__ + "\\n")\n'
    library = tree / sysconfig.get_path("stdlib").lstrip("/")
    names = ["json.py", "subprocess.py", "linecache.py", "traceback.py", "warnings.py", "pwd.py", "grp.py", "codeop.py"]
    names += ["encodings/idna.py", "encodings/punycode.py", "encodings/latin_1.py", "pyd_shim/message.py"]
    for name in names:
        for top in (library, tree, tree / "root"):
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code)
    (tree / "etc/nsswitch.conf").write_text("passwd: evil files\ngroup: evil files\n")
    for folder in ("lib", "usr/lib", "lib64"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
        (tree / folder / "libnss_evil.so.2").write_bytes(b"\x7fELF")


def test_nothing_of_the_image_is_imported_on_any_path(stage: IsolationStage) -> None:
    tree = stage.place.tree
    _plant(tree)
    (tree / "bin/script").write_text("#!/no/such\n")
    (tree / "bin/script").chmod(0o755)
    container = stage.start("sleep", "100")
    bad: list[dict[str, Any]] = [
        {"user": {"username": "nobody-here"}},
        {"user": {"username": "bücher:grüße"}},
        {"user": {"username": "user:ü\udcff"}},
        {"args": ["no-such-ünïcode"]},
        {"args": ["/bin/noexec"]},
        {"args": ["script"]},
        {"cwd": "/etc/passwd"},
        {"cwd": "/proc/self/fd/0"},
        {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}], "args": ["none"]},
        {"oomScoreAdj": -1000, "args": ["none"]},
    ]
    for changes in bad:
        spec = oci_spec(["true"])
        spec["process"].update(changes)
        with pytest.raises(PydError):
            stage.start(spec=spec)
        if "oomScoreAdj" not in changes:
            process = {name: value for name, value in changes.items() if name != "args"}
            with pytest.raises(PydError):
                stage.execute(container, *changes.get("args", ["true"]), **process)
    said, _ = stage.output("sh", "-c", "echo fine")

    assert said == {1: b"fine\n"}
    assert not (tree / "owned").exists()
    assert not Path("/owned").exists()
    for each in stage.walk() - {container}:
        stage.end(each)


# --- the window between clone and execve (CVE-2016-9962, CVE-2019-5736) -------------------------------------------------


def _spy(shim: int, seconds: float, answers: int) -> None:
    """Be the container's root as far as the kernel's ptrace rules go, and look into everything the shim makes."""
    kernel.capset(FOURTEEN, FOURTEEN, 0)
    denied, seen = 0, set()
    children = f"/proc/{shim}/task/{shim}/children"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with open(children) as file:
            pids = file.read().split()
        for pid in [*pids, str(shim)]:
            for name, flags in _PRIVATE:
                try:
                    os.close(os.open(f"/proc/{pid}/{name}", flags))
                except OSError as error:
                    denied += error.errno == errno.EACCES and pid != str(shim)
                    continue
                try:
                    if os.readlink(f"/proc/{pid}/exe") == "/bin/busybox":
                        continue  # it is the user's program by now: its own to look at
                except OSError as error:
                    if error.errno != errno.EACCES:
                        continue  # it has ended
                seen.add(name)
    os.write(answers, f"{denied} {','.join(sorted(seen))}".encode())


def test_nobody_looks_into_what_is_not_yet_the_program(stage: IsolationStage) -> None:
    interpreter = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    before = hashlib.sha256(interpreter.read_bytes()).digest()
    container = stage.start("sleep", "100")
    shim = parent_of(stage.created[container].pid)
    readable, writable = os.pipe()
    spy = os.fork()
    if spy == 0:
        try:
            _spy(shim, 1.5, writable)
        finally:
            os._exit(0)
    os.close(writable)
    try:
        ended = os.pidfd_open(spy)
        ran = 0
        while ran < 200 and not _has_ended(ended):
            _, client, _ = stage.execute(container, "true")
            client.read()
            client.close()
            ran += 1
        answer = os.read(readable, 1000).decode()
        os.close(ended)
    finally:
        os.close(readable)
        os.waitpid(spy, 0)
    denied, _, seen = answer.partition(" ")
    assert seen == "", f"could be opened before execve: {seen}"
    assert int(denied) > 0, "the window was never looked into: this test proves nothing"
    assert hashlib.sha256(interpreter.read_bytes()).digest() == before


def _has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


def test_a_program_that_is_the_runtimes_own_executable(stage: IsolationStage) -> None:
    (stage.place.tree / "bin/self").symlink_to("/proc/self/exe")
    (stage.place.tree / "bin/script").write_text("#!/proc/self/exe\n")
    (stage.place.tree / "bin/script").chmod(0o755)
    container = stage.start("sleep", "100")

    for args in (["self"], ["/proc/self/exe"], ["script"]):
        with pytest.raises(PydError):
            stage.execute(container, *args)
        with pytest.raises(PydError):
            stage.start(spec=oci_spec(args))
    for each in stage.walk() - {container}:
        stage.end(each)


# --- supervision ---------------------------------------------------------------------------------------------------------


def test_with_the_shim_dies_everything(stage: IsolationStage) -> None:
    container = stage.start("sh", "-c", "sleep 100 & sleep 100 & sleep 100")
    _, _, exec_pid = stage.execute(container, "sleep", "100")
    init = stage.created[container].pid

    os.kill(parent_of(init), signal.SIGKILL)

    for pid in (init, exec_pid):
        until(lambda pid=pid: not alive(pid), "the process is gone")  # type: ignore[misc]
    assert stage.wait(container).exit_code is None
    assert "supervisor" in stage.state(container).error


def test_a_half_written_record_goes_with_the_next_start(stage: IsolationStage) -> None:
    """The daemon was killed between writing it and giving it its name."""
    container = stage.start("sleep", "100")
    half = stage.place.run / "containers" / ".0123456789abcdef"
    half.write_text('{"bundle":')

    stage.reopen()

    assert not half.exists()
    assert stage.walk() == {container}
