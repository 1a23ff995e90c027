"""The zygote: sealed, alone, replaceable; and it leaves nothing behind."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import sys
from pathlib import Path

import pytest
from shim_rig import PACKAGE, Rig, processes, until

from pyd_contracts.errors import DriverFault, Unavailable
from pyd_shim import launch
from pyd_shim.launch import Zygote, seal_executable


def interpreter() -> Path:
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


def assert_unwritable(path: str) -> None:
    """Opening for writing fails, or writing does. The byte written is the one that is there: nothing can be harmed."""
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError:
        return
    try:
        first = os.pread(fd, 1, 0)
        with pytest.raises(OSError, match=r"not permitted|Read-only"):
            os.pwrite(fd, first, 0)
    finally:
        os.close(fd)


@pytest.mark.root
def test_the_running_interpreter_cannot_be_written_even_when_it_has_ended(host: Rig) -> None:
    host.zygote.start()
    before = hashlib.sha256(interpreter().read_bytes()).digest()
    kept = os.open(f"/proc/{host.zygote.pid}/exe", os.O_RDONLY)
    try:
        assert_unwritable(f"/proc/self/fd/{kept}")
        host.zygote.close()
        assert_unwritable(f"/proc/self/fd/{kept}")  # no longer busy (ETXTBSY): the hole of CVE-2019-5736
    finally:
        os.close(kept)
    assert hashlib.sha256(interpreter().read_bytes()).digest() == before


def test_the_second_seal_is_a_memfd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_executable: str, _run: Path) -> int:
        raise OSError(1, "not permitted")

    monkeypatch.setattr(launch, "_seal_by_overlay", refuse)
    fd, how = seal_executable(str(interpreter()), tmp_path)
    try:
        assert how == "memfd"
        assert os.fstat(fd).st_size == interpreter().stat().st_size
        assert_unwritable(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


@pytest.mark.root
def test_before_lowerdir_plus_the_seal_is_an_overlay_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those kernels take the option as they take any, and refuse the mount."""
    tried: list[str] = []
    string, create = launch.kernel.fsconfig_string, launch.kernel.fsconfig_create
    monkeypatch.setattr(
        launch.kernel, "fsconfig_string", lambda fd, key, value: (tried.append(key), string(fd, key, value))
    )

    def refuse(fd: int) -> None:
        if tried[-1] == "lowerdir+":
            raise OSError(22, "Invalid argument")
        create(fd)

    monkeypatch.setattr(launch.kernel, "fsconfig_create", refuse)
    fd, how = seal_executable(str(interpreter()), tmp_path)
    try:
        assert (how, tried) == ("overlay", ["lowerdir+", "lowerdir+", "lowerdir"])
        assert_unwritable(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_an_interpreter_that_cannot_be_sealed_is_told(
    host: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(launch, "seal_executable", lambda _executable, _run: (-1, "none"))

    with caplog.at_level(logging.WARNING):
        host.zygote.start()

    assert "CVE-2019-5736" in caplog.text
    assert host.zygote.pid is not None


@pytest.mark.root
def test_it_has_one_thread_no_environment_and_nobody_may_look_into_it(host: Rig) -> None:
    host.zygote.start()
    where = Path(f"/proc/{host.zygote.pid}")

    assert "Threads:\t1\n" in (where / "status").read_text()
    assert [name.partition(b"=")[0] for name in (where / "environ").read_bytes().split(b"\0") if name] == [b"PATH"]
    assert (where / "cwd").readlink() == Path("/")
    pid = os.fork()
    if pid == 0:  # as somebody else's root would be: same ids at best, no capability over it
        try:
            os.setresuid(65534, 65534, 65534)
            os.readlink(where / "exe")
        except PermissionError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_another_zygote_takes_over_after_a_kill(host: Rig, caplog: pytest.LogCaptureFixture) -> None:
    first = host.box()
    first.run("read x; exit 3", stdin=True)
    killed = host.zygote.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(
        lambda: processes(os.getpid())[killed] == "Z", "it is dead; a request it took with it fails and can be repeated"
    )

    second = host.box()
    second.run("exit 4")
    second.wait()

    assert host.zygote.pid not in (None, killed)
    first.attach().sendall(b"\n")
    first.wait()
    assert '"exit_code": 3' in (first.state / "exit.json").read_text()
    assert '"exit_code": 4' in (second.state / "exit.json").read_text()


def test_no_zombie_is_left(host: Rig) -> None:
    boxes = [host.box() for _ in range(3)]
    for box in boxes:
        box.run("true")
    for box in boxes:
        box.wait()
        assert box.shim.wait_gone(10)
    zygote = host.zygote.pid
    assert zygote is not None

    until(lambda: "Z" not in processes(zygote).values() and len(processes(zygote)) <= 1, "only a spare is left")


def test_closing_ends_the_zygote_and_its_spare_and_no_shim(host: Rig) -> None:
    box = host.box()
    box.run("read x", stdin=True)
    zygote = host.zygote.pid
    assert zygote is not None
    until(lambda: len(processes(zygote)) >= 2, "a spare is ready")
    spares = set(processes(zygote)) - {box.pid}

    host.zygote.close()
    host.zygote.close()

    assert host.zygote.pid is None
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in spares), "the spare is gone")
    assert box.query()["status"] == "running"


def test_a_killed_spare_is_replaced(host: Rig) -> None:
    host.zygote.start()
    zygote = host.zygote.pid
    assert zygote is not None
    until(lambda: processes(zygote), "a spare is ready")
    for pid in processes(zygote):
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "it is dead")  # type: ignore[misc]

    box = host.box()
    box.run("exit 2")
    box.wait()

    assert '"exit_code": 2' in (box.state / "exit.json").read_text()


def test_a_shim_nobody_wants_any_more_ends(host: Rig) -> None:
    box = host.box()
    until((box.bundle / "shim.sock").exists, "it listens")
    box.shim.close()

    until(lambda: not (box.bundle / "shim.sock").exists(), "its socket is gone")


def test_a_launcher_that_cannot_be_imported_is_told(host: Rig) -> None:
    with pytest.raises(DriverFault, match="no_such_package"):
        Zygote(["no_such_package.launcher"], host.work, logging.getLogger("pyd.test")).start()

    (host.work / PACKAGE / "broken.py").write_text("raise SystemExit(3)\n")
    with pytest.raises((DriverFault, Unavailable)):
        Zygote([f"{PACKAGE}.broken"], host.work, logging.getLogger("pyd.test")).start()
