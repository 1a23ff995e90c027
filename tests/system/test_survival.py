"""What outlives the daemon, and what a daemon makes of what it finds: killed, stopped, cut off in the middle."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import host_state
from clients import IMAGE, Client, docker_program, until
from engine_under_test import BIN, Daemon, instance_of
from mortal import EVERY, Mortal, calls, killed_in, kinds

pytestmark = [pytest.mark.root, pytest.mark.docker]

COUNTING = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done"


@pytest.fixture(scope="module")
def one(new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path) -> Mortal:
    """The daemon of this module: each test leaves it running, and without containers."""
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("run", "--rm", IMAGE, "true")
    return Mortal(daemon, docker)


def leftovers(daemon: Daemon) -> list[str]:
    """What on this host belongs to containers of *daemon*."""
    mine = re.compile(rf"pyd-{instance_of(daemon.data)}.*[0-9a-f]{{64}}|{re.escape(str(daemon.run))}.*[0-9a-f]{{64}}")
    # The packet filter's lines carry the ids of networks; those stay.
    found = [line for line in host_state.take(daemon.run) if mine.search(line) and not line.startswith("nft ")]
    return found + [entry.name for entry in (daemon.data / "containers").iterdir()]


@pytest.fixture(autouse=True)
def nothing_left(one: Mortal) -> Iterator[None]:
    """At the end there are neither containers nor traces of any, and the daemon works."""
    yield
    if one.daemon.process is None:
        one.daemon.start()
    left = one.docker("ps", "-aq").stdout.split()
    for container in left:
        one.docker("rm", "-f", container)
    with suppress(AssertionError):
        until(lambda: not leftovers(one.daemon), "traces of containers are gone", seconds=10)
    assert leftovers(one.daemon) == []
    assert one.docker("run", "--rm", IMAGE, "echo", "works").stdout == "works\n"


def test_a_writing_container_survives_the_daemons_death(one: Mortal) -> None:
    docker = one.docker
    container = docker(
        "run", "-d", "-i", IMAGE, "sh", "-c", f"({COUNTING}) & read line; kill %1; exit 23"
    ).stdout.strip()
    until(lambda: "line 5\n" in docker("logs", container).stdout, "it writes")
    one.daemon.kill()
    written = max((one.daemon.data / "containers" / container / "logs").glob("*.spool*"))
    size = written.stat().st_size
    until(lambda: written.stat().st_size > size + 100, "it writes on without a daemon")
    one.daemon.start()
    assert one.state(container) == "running 0"
    lines = docker("logs", container).stdout.splitlines()
    assert lines == [f"line {i}" for i in range(1, len(lines) + 1)]
    assert docker("exec", container, "echo", "exec works").stdout == "exec works\n"
    with docker.start("wait", container) as waiting, docker.start("attach", container) as attached:
        assert attached.stdin is not None
        assert attached.stdout is not None
        assert attached.stdout.readline().startswith("line ")
        attached.stdin.write("end\n")
        attached.stdin.flush()
        assert attached.wait(20) == 23
        assert waiting.communicate(timeout=20)[0] == "23\n"
    assert one.state(container) == "exited 23"
    lines = docker("logs", container).stdout.splitlines()
    assert lines == [f"line {i}" for i in range(1, len(lines) + 1)]


def test_an_end_while_the_daemon_was_away(one: Mortal) -> None:
    docker = one.docker
    container = docker("run", "-d", IMAGE, "sh", "-c", "sleep 0.3; echo last words; exit 9").stdout.strip()
    pid = int(docker("inspect", "-f", "{{.State.Pid}}", container).stdout)
    one.daemon.kill()
    until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")
    one.daemon.start()
    assert one.state(container) == "exited 9"
    assert docker("wait", container).stdout == "9\n"
    assert docker("logs", container).stdout == "last words\n"
    docker("start", container)
    assert docker("wait", container).stdout == "9\n"


def test_sigterm_leaves_containers_running(one: Mortal) -> None:
    container = one.docker("run", "-d", IMAGE, "sleep", "100").stdout.strip()
    pid = one.docker("inspect", "-f", "{{.State.Pid}}", container).stdout
    one.daemon.stop()
    assert Path(f"/proc/{pid.strip()}").exists()
    one.daemon.start()
    assert one.docker("inspect", "-f", "{{.State.Pid}}", container).stdout == pid
    one.docker("stop", "-t", "0", container)
    assert one.state(container) == "exited 137"


def test_rm_is_honoured_by_the_next_daemon(one: Mortal) -> None:
    ended = one.docker("run", "-d", "--rm", IMAGE, "sleep", "100").stdout.strip()
    lasting = one.docker("run", "-d", "--rm", IMAGE, "sleep", "100").stdout.strip()
    pid = int(one.docker("inspect", "-f", "{{.State.Pid}}", ended).stdout)
    one.daemon.kill()
    os.kill(pid, signal.SIGKILL)  # while there is no daemon to see it
    until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")
    one.daemon.start()
    until(lambda: one.docker("ps", "-aq", "--no-trunc").stdout.split() == [lasting], f"{ended} is removed")
    one.docker("kill", lasting)
    until(lambda: one.docker("ps", "-aq").stdout == "", "the last is removed when it ends")


def test_restart_policies_after_the_daemons_death(one: Mortal, name: str) -> None:
    for policy in ("always", "no"):
        one.docker("run", "-d", "--name", f"{name}-{policy}", "--restart", policy, IMAGE, "sleep", "100")
    pids = [
        int(one.docker("inspect", "-f", "{{.State.Pid}}", f"{name}-{policy}").stdout) for policy in ("always", "no")
    ]
    one.daemon.kill()
    for pid in pids:
        subprocess.run(["kill", "-9", str(pid)], check=True)
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "it has ended")  # type: ignore[misc]
    one.daemon.start()
    until(lambda: one.state(f"{name}-always") == "running 0", "it is started again")
    assert one.state(f"{name}-no") == "exited 137"


def test_a_second_daemon_on_the_same_directory_is_refused(one: Mortal, tmp_path: Path) -> None:
    for flags, what in (
        (("--run-root", tmp_path / "run"), "data root"),
        (("--data-root", tmp_path / "data"), "run root"),
    ):
        command = [BIN / "pydd", "--config", one.daemon.config, "-H", f"unix://{tmp_path}/s", *flags]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30)
        assert done.returncode == 2
        assert f"the {what} " in done.stderr.splitlines()[-1]
        assert one.daemon.process is not None
        assert f"in use by the daemon with pid {one.daemon.process.pid}" in done.stderr
    assert one.docker("version", "-f", "{{.Server.Os}}").stdout == "linux\n"


def test_starting_when_the_socket_was_left_behind(one: Mortal) -> None:
    one.daemon.kill()
    assert one.daemon.socket.exists()
    one.daemon.start()


def test_a_client_killed_in_the_middle_harms_nothing(one: Mortal) -> None:
    for _ in range(3):
        with one.docker.start("run", "--rm", "-i", IMAGE, "cat") as client:
            until(lambda: one.docker("ps", "-q").stdout != "", "it runs")
            client.kill()
        until(lambda: one.docker("ps", "-aq").stdout == "", "its input has ended, so it has too, and is removed")


@pytest.mark.slow
@pytest.mark.timeout(1800 if EVERY else 240)
def test_killed_at_any_moment_of_create_and_start(one: Mortal, name: str) -> None:
    """Afterwards there is a container or none, but nothing in between; and the name can be used again."""
    dice = random.Random(20)
    for round_ in range(15):
        with one.docker.start("run", "-d", "--name", name, IMAGE, "sleep", "100") as client:
            with suppress(subprocess.TimeoutExpired):
                client.wait(dice.uniform(0.02, 0.30))
            one.reborn()
            client.communicate(timeout=20)
        check(one, name, f"round {round_}")


def check(one: Mortal, name: str, where: str) -> None:
    """Whatever there is of container *name* is whole; takes it away."""
    states = one.docker("ps", "-a", "--filter", f"name=^/{name}$", "--format", "{{.State}}").stdout.split()
    assert states in ([], ["created"], ["running"], ["exited"]), where
    if states == ["running"]:
        assert one.docker("exec", name, "echo", "alive").stdout == "alive\n", where
    if states in (["created"], ["exited"]):
        one.docker("start", name)
        assert one.state(name) == "running 0", where
    if states:
        one.docker("rm", "-f", name)
    else:
        one.docker("run", "--rm", "--name", name, IMAGE, "true")
    until(lambda: not leftovers(one.daemon), f"traces are gone ({where}): {leftovers(one.daemon)}", seconds=10)


@pytest.mark.slow
@pytest.mark.timeout(1800 if EVERY else 240)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed here (scripts/provision)")
@pytest.mark.parametrize(
    ("call", "numbers"),
    [("mkdir,mkdirat", (1, 2, 4)), ("sendmsg,sendto", (1, 3, 5, 8)), ("pwrite64", (1, 3, 6, 10)), ("recvmsg", (2, 5))],
)
def test_killed_at_a_system_call(one: Mortal, name: str, call: str, numbers: tuple[int, ...]) -> None:
    """The same, at exact places: the n-th call of a kind after the request has come."""
    for kind in kinds(call):
        for number in calls(numbers):
            cut_off = killed_in(one, kind, number, "run", "-d", "--name", name, IMAGE, "sleep", "100")
            check(one, name, f"{kind} number {number}")
            if EVERY and not cut_off:
                break


_MESSAGES = "sendmsg,sendto"
_WRITES = "pwrite64,unlink,unlinkat,rmdir,rename"


@pytest.mark.slow
@pytest.mark.timeout(1800 if EVERY else 240)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed here (scripts/provision)")
@pytest.mark.parametrize(
    ("words", "places"),
    [
        (("stop", "-t", "0"), {_MESSAGES: (1, 2), _WRITES: (1, 4, 12)}),
        (("kill",), {_MESSAGES: (1,), _WRITES: (2, 8)}),
        (("restart", "-t", "0"), {_MESSAGES: (2, 4), _WRITES: (3, 15)}),
        (("rm", "-f"), {_MESSAGES: (1,), _WRITES: (2, 7, 15, 22)}),
        (("pause",), {_MESSAGES: (1,), _WRITES: (1, 3)}),
        (("exec", "NAME", "sleep", "0.1"), {_MESSAGES: (1, 3), "recvmsg": (1,)}),
        (("rename", "NAME", "NAME-2"), {_WRITES: (1, 3)}),
        (("commit", "NAME", "made"), {_WRITES: (1, 4, 9)}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_killed_while_something_is_done_to_a_container(
    one: Mortal, name: str, words: tuple[str, ...], places: dict[str, tuple[int, ...]]
) -> None:
    """Afterwards it is as before or as asked for, and everything can be done to it."""
    line = [word.replace("NAME", name) for word in words] if "NAME" in words else [*words, name]
    for call, chosen in places.items():
        for kind in kinds(call):
            for number in calls(chosen):
                cut_off = killed_while(one, name, kind, number, line)
                if EVERY and not cut_off:
                    break


def killed_while(one: Mortal, name: str, call: str, number: int, line: list[str]) -> bool:
    where = f"{' '.join(line)}: {call} number {number}"
    one.docker("run", "-d", "--name", name, IMAGE, "sleep", "100")
    cut_off = killed_in(one, call, number, *line)
    names = one.docker("ps", "-a", "--filter", f"name=^/{name}", "--format", "{{.Names}}").stdout.split()
    assert len(names) == 1 or (not names and line[0] == "rm"), where
    if names == [f"{name}-2"]:
        one.docker("rename", names[0], name)
    if names and one.state(name).startswith("paused"):
        one.docker("unpause", name)
    check(one, name, where)
    return cut_off


def test_many_at_once_and_a_kill(one: Mortal) -> None:
    clients = [one.docker.start("run", "-d", IMAGE, "sleep", "100") for _ in range(6)]
    until(lambda: one.docker("ps", "-aq").stdout.count("\n") >= 2, "some are there")
    one.reborn()
    for client in clients:
        client.communicate(timeout=30)
    for line in one.docker("ps", "-a", "--format", "{{.ID}} {{.State}}").stdout.splitlines():
        container, state = line.split()
        assert state in {"created", "running", "exited"}
        if state == "running":
            assert one.docker("exec", container, "echo", "alive").stdout == "alive\n"
