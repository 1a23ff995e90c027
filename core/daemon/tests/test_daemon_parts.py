"""Lock, log, sockets, service manager, host facts: each alone."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyd_contracts.errors import Conflict, InvalidArgument, PermissionDenied
from pyd_daemon import logs
from pyd_daemon.config.hosts import parse_host
from pyd_daemon.host import Host
from pyd_daemon.lifecycle import instance_of
from pyd_daemon.lock import DirectoryLock
from pyd_daemon.notify import Notifier, passed_sockets
from pyd_daemon.sockets import Sockets, socket_group


@pytest.fixture
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", "pyd", "pyd_daemon", "pyd_engine", "pyd_shim")}
    handlers = list(root.handlers)
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)


# --- lock ------------------------------------------------------------------------------------------------------------


def test_a_directory_has_one_holder_and_the_refusal_names_it(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path, "data root")
    with pytest.raises(Conflict, match=f"data root {tmp_path} is in use by the daemon with pid {os.getpid()}; stop"):
        DirectoryLock(tmp_path, "data root")
    lock.release()
    lock.release()
    with DirectoryLock(tmp_path, "data root"):
        pass


def test_the_lock_ends_with_its_process_and_is_not_inherited(tmp_path: Path) -> None:
    code = (
        "import sys, subprocess; from pathlib import Path; from pyd_daemon.lock import DirectoryLock\n"
        "lock = DirectoryLock(Path(sys.argv[1]), 'data root')\n"
        "print(subprocess.Popen(['sleep', '30'], stdout=subprocess.DEVNULL).pid, flush=True)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, check=True)
    try:
        DirectoryLock(tmp_path, "data root").release()
    finally:
        os.kill(int(child.stdout), 9)


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "pyd.lock").symlink_to("/etc/passwd")
    with pytest.raises(InvalidArgument, match="open the lock file"):
        DirectoryLock(tmp_path, "data root")


# --- log -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_logging")
def test_json_lines_are_objects_whatever_a_message_holds() -> None:
    out = io.StringIO()
    log = logs.set_up("info", "json", out)
    log.info("name %s", "a\nb\x1b[0m\udcff", extra={"container": "c1"})
    log.debug("not shown")
    try:
        raise ValueError("x\ny")
    except ValueError:
        log.exception("failed")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert first["message"] == "name a\\x0ab\\x1b[0m\\udcff"
    assert (first["level"], first["logger"], first["container"]) == ("info", "pyd", "c1")
    assert first["time"].endswith("Z")
    assert second["traceback"].endswith("ValueError: x\ny\n")


@pytest.mark.usefixtures("_logging")
def test_text_lines_cannot_be_forged_and_levels_change() -> None:
    out = io.StringIO()
    log = logs.set_up("warning", "text", out)
    log.info("hidden")
    logs.set_level("debug")
    log.getChild("storage").debug("a\n2026 info pyd: forged", extra={"key": "v\r"})
    logging.getLogger("pyd_engine.x").debug("this one too")
    logging.getLogger("asyncio").debug("others' debug lines are not shown")
    line, engine = out.getvalue().splitlines()
    assert engine.endswith("debug pyd_engine.x: this one too")
    assert line.endswith("debug pyd.storage: a\\x0a2026 info pyd: forged key=v\\x0d")


# --- sockets ---------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_socket_has_its_owner_and_mode_and_goes_when_closed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "pyd.sock"
    sockets = Sockets([parse_host(f"unix://{path}")], "daemon", {})
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (0, socket_group("daemon"))
    with pytest.raises(Conflict, match="another daemon is listening there"):
        Sockets([parse_host(f"unix://{path}")], "", {})
    sockets.close()
    assert not path.exists()


@pytest.mark.root
def test_a_stale_socket_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    path = tmp_path / "pyd.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    Sockets([parse_host(f"unix://{path}")], "", {}).close()
    path.write_text("precious")
    with pytest.raises(Conflict, match="a file that is not a socket"):
        Sockets([parse_host(f"unix://{path}")], "", {})
    assert path.read_text() == "precious"


@pytest.mark.root
def test_a_socket_that_was_replaced_since_is_left_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "pyd.sock"
    sockets = Sockets([parse_host(f"unix://{path}")], "", {})
    path.rename(tmp_path / "moved")
    path.write_text("other")
    sockets.close()
    assert path.read_text() == "other"


@pytest.mark.root
def test_a_directory_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(PermissionDenied, match="everybody may write there"):
        Sockets([parse_host(f"unix://{tmp_path}/open/pyd.sock")], "", {})


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r'group = "no-such-group": there is no such group; make it'):
        socket_group("no-such-group")


def test_a_port_in_use_is_named_and_nothing_stays_open() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"listen on tcp://127.0.0.1:{port}: the port is in use"):
            Sockets([parse_host(f"tcp://127.0.0.1:{port}")], "", {})


def test_fd_without_a_passed_socket_says_what_helps() -> None:
    with pytest.raises(InvalidArgument, match="no socket was passed; start the daemon from a systemd socket unit"):
        Sockets([parse_host("fd://")], "", {})


def test_sockets_that_were_passed_are_taken_by_name(tmp_path: Path) -> None:
    code = (
        "import os, json; from pyd_daemon.sockets import Sockets; from pyd_daemon.config.hosts import parse_host\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "s = Sockets([parse_host('fd://api')], '', os.environ)\n"
        "print(json.dumps([[e.getsockname() for e in s.open], 'LISTEN_FDS' in os.environ]))\n"
    )
    path = str(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        environ = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "api"}
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:  # descriptor 3 is the protocol, so the child is laid out by hand
            os.dup2(write, 1)
            os.dup2(listener.fileno(), 3)
            os.execve(sys.executable, [sys.executable, "-c", code], environ)
        os.close(write)
        with open(read, encoding="utf-8") as answer:
            assert json.load(answer) == [[path], False]
        os.waitpid(pid, 0)


def test_variables_meant_for_another_process_are_ignored() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "3"}
    assert passed_sockets(environ) == []
    assert environ == {}


# --- service manager -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    address = f"\0pyd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        environ = {"NOTIFY_SOCKET": address.replace("\0", "@"), "WATCHDOG_USEC": "20000"}
        notifier = Notifier(environ)
        assert environ == {}
        notifier.tell("READY=1", "STATUS=x")
        assert manager.recv(100) == b"READY=1\nSTATUS=x"

        async def watched() -> None:
            task = asyncio.create_task(notifier.watch())
            for _ in range(2):
                assert await asyncio.to_thread(manager.recv, 100) == b"WATCHDOG=1"
            task.cancel()

        asyncio.run(watched())


def test_without_a_service_manager_nobody_is_told_and_nothing_is_watched() -> None:
    notifier = Notifier({})
    notifier.tell("READY=1")
    asyncio.run(asyncio.wait_for(notifier.watch(), 1))


# --- host ------------------------------------------------------------------------------------------------------------


def files(root: Path, **content: str) -> Host:
    for name, text in content.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(root)


def test_limits_of_control_groups_version_2(tmp_path: Path) -> None:
    host = files(
        tmp_path,
        sys__fs__cgroup__cgroup_dot_controllers="cpu memory pids\n",
        sys__fs__cgroup__a__memory_dot_swap_dot_max="max\n",
        proc__self__cgroup="0::/a\n",
    )
    have = host.cgroups
    assert (have.version, have.memory, have.swap, have.cpu_shares, have.cpuset, have.pids) == (
        2,
        True,
        True,
        True,
        False,
        True,
    )


def test_limits_of_control_groups_version_1_and_their_warnings(tmp_path: Path) -> None:
    host = files(
        tmp_path,
        sys__fs__cgroup__memory__memory_dot_limit_in_bytes="1",
        sys__fs__cgroup__cpu__cpu_dot_shares="1",
        proc__self__status="CapEff:\t00000000a80425fb\n",
        proc__sys__net__ipv4__ip_forward="1\n",
    )
    assert (host.cgroups.version, host.cgroups.memory, host.cgroups.swap) == (1, True, False)
    warnings = "\n".join(host.warnings())
    assert "WARNING: No swap limit support" in warnings
    assert "CAP_SYS_RESOURCE" in warnings
    assert "memory limit" not in warnings
    assert "forwarding" not in warnings


def test_os_release_and_file_systems(tmp_path: Path) -> None:
    host = files(tmp_path, etc__os_release='# x\nPRETTY_NAME="Some OS 1"\nVERSION_ID=1\n')
    (tmp_path / "etc/os_release").rename(tmp_path / "etc/os-release")
    assert host.release == {"PRETTY_NAME": "Some OS 1", "VERSION_ID": "1"}
    assert Host().file_system(Path("/proc")) == "proc"


def test_instances_differ_by_data_root(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert instance_of(tmp_path / "link") == instance_of(tmp_path) != instance_of(tmp_path / "x")
    assert len(instance_of(tmp_path)) == 8
