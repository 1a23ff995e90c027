"""Containers from the command line: run, stdio, terminals, signals, and everything until they are removed.

Every test runs with the docker client and with pyd's own.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import Client, until
from terminal import DETACH, Terminal

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

Box = Callable[..., str]
COUNTING = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done")


def field(cli: Client, container: str, template: str) -> str:
    """One field of `inspect`."""
    return cli("inspect", "--format", template, container).stdout.strip()


# --- run ---------------------------------------------------------------------------------------------------------


def test_exit_status_and_both_outputs(cli: Client, warm: str) -> None:
    done = cli("run", "--rm", warm, "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_program_killed_by_a_signal_gives_128_and_its_number(cli: Client, warm: str) -> None:
    assert cli("run", "--rm", warm, "sh", "-c", "sh -c 'kill -9 $$'; exit $?", check=False).returncode == 137


def test_without_a_command_the_image_decides(cli: Client, warm: str) -> None:
    assert cli("run", "--rm", "-i", warm, stdin="echo $0\n").stdout == "sh\n"


def test_stdin_goes_through_whole(cli: Client, warm: str) -> None:
    sent = os.urandom(5_000_000).hex()[:5_000_000]
    done = cli("run", "--rm", "-i", warm, "sh", "-c", "tee /dev/stderr | sha256sum", stdin=sent)
    assert done.stdout.split()[0] == hashlib.sha256(sent.encode()).hexdigest()
    assert hashlib.sha256(done.stderr.encode()).digest() == hashlib.sha256(sent.encode()).digest()


def test_options_that_shape_the_process(cli: Client, warm: str, name: str) -> None:
    script = 'echo "$A $B"; pwd; id -u; id -g; hostname; echo $0 "$@"'
    flags = ("--name", name, "-e", "A=1", "--env=B=two words", "-w", "/made/here", "-u", "65534:7", "--hostname", "h.x")
    done = cli("run", "--rm", *flags, "--entrypoint", "sh", warm, "-c", script, "arg0", "x y", "z")
    assert done.stdout.splitlines() == ["1 two words", "/made/here", "65534", "7", "h.x", "arg0 x y z"]


def test_environment_from_a_file_and_from_the_caller(cli: Client, warm: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# a comment\nFROM_FILE=yes\nHOME\n")
    done = cli("run", "--rm", "--env-file", tmp_path / "env", "-e", "TZ", warm, "sh", "-c", "echo $FROM_FILE $HOME $TZ")
    assert done.stdout.split() == ["yes", cli.environment["HOME"], "UTC"]


def test_user_by_name_has_its_groups(cli: Client, warm: str) -> None:
    assert cli("run", "--rm", "-u", "nobody", warm, "id", "-u").stdout == "65534\n"
    assert "123" in cli("run", "--rm", "--group-add", "123", warm, "id", "-G").stdout.split()


def test_bind_mounts_read_write_and_read_only(cli: Client, warm: str, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the host\n")
    mounts = ("-v", f"{tmp_path}:/rw", "--mount", f"type=bind,source={tmp_path},target=/ro,readonly")
    done = cli(
        "run", "--rm", *mounts, warm, "sh", "-c", "cat /ro/given; echo new >/rw/new; echo no >/ro/no", check=False
    )
    assert (done.returncode, done.stdout) == (1, "from the host\n")
    assert "Read-only file system" in done.stderr
    assert (tmp_path / "new").read_text() == "new\n"
    assert not (tmp_path / "no").exists()


def test_a_bind_with_v_makes_its_source_and_one_with_mount_does_not(cli: Client, warm: str, tmp_path: Path) -> None:
    cli("run", "--rm", "-v", f"{tmp_path}/made/here:/x", warm, "touch", "/x/file")
    assert (tmp_path / "made/here/file").exists()
    done = cli("run", "--rm", "--mount", f"type=bind,src={tmp_path}/absent,dst=/x", warm, "true", check=False)
    assert done.returncode == 125
    assert f"bind source path does not exist: {tmp_path}/absent" in done.stderr


def test_tmpfs_and_read_only_root(cli: Client, warm: str) -> None:
    script = "grep -q ' /scratch tmpfs rw.*size=65536k' /proc/mounts && echo x >/scratch/x && ! echo x >/x"
    done = cli("run", "--rm", "--read-only", "--tmpfs", "/scratch:size=64m", warm, "sh", "-c", script)
    assert "Read-only file system" in done.stderr


def test_cidfile_holds_the_id_and_is_not_overwritten(cli: Client, warm: str, tmp_path: Path) -> None:
    file = tmp_path / "id"
    created = cli("create", "--cidfile", file, warm, "true").stdout.strip()
    assert file.read_text() == created
    again = cli("run", "--rm", "--cidfile", file, warm, "true", check=False)
    assert again.returncode == 125
    assert "ontainer ID file found" in again.stderr
    cli("rm", created)


def test_create_then_start_attached(cli: Client, warm: str, name: str) -> None:
    cli("create", "--name", name, "-i", warm, "sh", "-c", "cat; exit 3")
    done = cli("start", "-a", "-i", name, stdin="typed\n", check=False)
    assert (done.returncode, done.stdout) == (3, "typed\n")
    cli("rm", name)


def test_signals_to_the_client_reach_the_program(cli: Client, warm: str) -> None:
    script = "trap 'echo got it; exit 42' INT; echo ready; while :; do sleep 0.05; done"
    with cli.start("run", "--rm", warm, "sh", "-c", script) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGINT)
        assert client.stdout.readline() == "got it\n"
        assert client.wait(20) == 42


def test_limits_are_set(cli: Client, warm: str) -> None:
    script = "ulimit -n; cat /proc/self/oom_score_adj; grep -c . /proc/self/cgroup >/dev/null"
    done = cli(
        "run", "--rm", "--ulimit", "nofile=99:99", "--oom-score-adj", "77", "-m", "64m", warm, "sh", "-c", script
    )
    assert done.stdout.split() == ["99", "77"]


def test_memory_limit_kills_and_says_so(cli: Client, warm: str, box: Box) -> None:
    container = box("tail", "/dev/zero", flags=("-m", "16m", "--memory-swap", "16m"))
    assert cli("wait", container).stdout == "137\n"
    assert field(cli, container, "{{.State.OOMKilled}}") == "true"


# --- terminals ---------------------------------------------------------------------------------------------------


def test_a_shell_on_a_terminal(cli: Client, warm: str) -> None:
    with cli.terminal("run", "--rm", "-it", warm, "sh", rows=40, columns=100) as terminal:
        terminal.expect("# ")
        terminal.type("tty; stty size; echo $((6*7))\n")
        shown = terminal.expect("42\r\n")
        assert b"tty; stty size" in shown, "the terminal echoes"
        assert b"/dev/pts/0\r\n40 100\r\n" in shown
        terminal.expect("# ")
        terminal.resize(33, 77)
        until(lambda: _size(terminal.type, terminal.expect) == b"33 77", "the new size inside")
        terminal.type("exit 9\n")
        assert terminal.wait() == 9


def _size(press: Callable[[str], None], expect: Callable[[str], bytes]) -> bytes:
    press("echo s=$(stty size)=\n")
    expect("\r\ns=")
    return expect("=")[:-1]


def test_ctrl_c_interrupts_the_program_in_front(cli: Client, warm: str) -> None:
    with cli.terminal("run", "--rm", "-it", warm, "sh") as terminal:
        terminal.expect("# ")
        terminal.type("cat; echo over\n")
        until(lambda: _typed(terminal), "cat runs and says what is typed")
        terminal.type(b"\x03")
        terminal.expect("# ")
        terminal.type("echo $?=\n")
        terminal.expect("\r\n130=")
        terminal.expect(
            "# "
        )  # before, ctrl-d is an empty line's end to a terminal that the shell has not taken back yet
        terminal.type(b"\x04")
        assert terminal.wait() == 0


def _typed(terminal: Terminal) -> bool:
    terminal.type("x\n")
    terminal.expect("x\r\n")
    return b"x\r\nx\r\n" in terminal.output


def test_detach_leaves_it_running_and_attach_comes_back(cli: Client, warm: str, name: str, box: Box) -> None:
    with cli.terminal("run", "--name", name, "-it", warm, "sh") as terminal:
        terminal.expect("# ")
        terminal.type("kept=here\n")
        terminal.expect("# ")
        terminal.type(DETACH)
        assert terminal.wait() == 0
    assert field(cli, name, "{{.State.Running}}") == "true"
    with cli.terminal("attach", name) as terminal:
        terminal.type("echo $kept=\n")
        terminal.expect("here=")
        terminal.type("exit 4\n")
        assert terminal.wait() == 4
    cli("rm", name)


def test_detach_keys_of_ones_own(cli: Client, name: str, box: Box) -> None:
    box("sh", flags=("--name", name, "-it"))
    with cli.terminal("attach", "--detach-keys", "ctrl-a,x", name) as terminal:
        terminal.type(DETACH)
        terminal.type("echo still=\n")
        terminal.expect("\r\nstill=")
        terminal.type(b"\x01x")
        terminal.wait()
    assert field(cli, name, "{{.State.Running}}") == "true"


def test_exec_on_a_terminal(cli: Client, box: Box) -> None:
    container = box("sleep", "100")
    with cli.terminal("exec", "-it", container, "sh", rows=20, columns=50) as terminal:
        terminal.expect("# ")
        terminal.type("stty size; exit 8\n")
        terminal.expect("20 50\r\n")
        assert terminal.wait() == 8


# --- in the background -------------------------------------------------------------------------------------------


def test_the_life_of_a_service(cli: Client, warm: str, name: str) -> None:
    container = cli("run", "-d", "--name", name, warm, *COUNTING).stdout.strip()
    assert len(container) == 64
    with cli.start("logs", "-f", name) as following:
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in range(3)] == ["line 1\n", "line 2\n", "line 3\n"]
        assert cli("exec", "-i", name, "sh", "-c", "cat; echo in $HOSTNAME", stdin="typed, ").stdout == (
            f"typed, in {container[:12]}\n"
        )
        cli("stop", "-t", "0", name)
        assert following.wait(20) == 0
    assert field(cli, name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"
    assert cli("rm", name).stdout.strip() == name
    assert cli("inspect", name, check=False).returncode == 1


def test_logs_tail_since_timestamps(cli: Client, box: Box) -> None:
    container = box("sh", "-c", "for i in 1 2 3; do echo l$i; done; echo e >&2; sleep 1.2; echo late")
    cli("wait", container)
    assert cli("logs", container).stdout == "l1\nl2\nl3\nlate\n"
    assert cli("logs", container).stderr == "e\n"
    assert cli("logs", "--tail", "1", container).stdout == "late\n"
    assert cli("logs", "-n", "0", container).stdout == ""
    stamps = [line.split()[0] for line in cli("logs", "-t", container).stdout.splitlines()]
    assert stamps == sorted(stamps)
    assert len(stamps) == 4
    assert stamps[0].startswith(time.strftime("%Y-%m-%dT"))
    assert stamps[0].endswith("Z")
    assert cli("logs", "--since", stamps[3], container).stdout == "late\n"
    assert cli("logs", "--until", stamps[2], container).stdout == "l1\nl2\nl3\n"


def test_stop_asks_first(cli: Client, box: Box) -> None:
    polite = box("sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done")
    until(lambda: "up" in cli("logs", polite).stdout, "the trap is set")
    cli("stop", polite)
    assert cli("wait", polite).stdout == "5\n"
    assert cli("logs", polite).stdout == "up\nbye\n"


def test_stop_signal_of_the_container(cli: Client, box: Box) -> None:
    container = box(
        "sh", "-c", "trap 'exit 6' USR1; echo up; while :; do sleep 0.05; done", flags=("--stop-signal", "USR1")
    )
    until(lambda: "up" in cli("logs", container).stdout, "the trap is set")
    cli("stop", container)
    assert field(cli, container, "{{.State.ExitCode}}") == "6"


def test_kill_with_signals(cli: Client, box: Box) -> None:
    container = box("sh", "-c", "trap 'echo usr1' USR1; echo up; while :; do sleep 0.05; done")
    until(lambda: "up" in cli("logs", container).stdout, "the trap is set")
    cli("kill", "-s", "USR1", container)
    until(lambda: "usr1" in cli("logs", container).stdout, "the signal has arrived")
    cli("kill", container)
    assert cli("wait", container).stdout == "137\n"
    again = cli("kill", container, check=False)
    assert again.returncode == 1
    assert "is not running" in again.stderr


def test_restart_keeps_files_and_adds_to_the_log(cli: Client, box: Box) -> None:
    container = box("sh", "-c", "echo run $(cat /count; echo x >>/count); exec sleep 100", flags=("--init",))
    until(lambda: "run" in cli("logs", container).stdout, "the first run has begun")
    cli("restart", "-t", "1", container)
    until(lambda: "run x" in cli("logs", container).stdout, "the second run sees the first one's file")
    assert cli("logs", container).stdout == "run\nrun x\n"


def test_pause_and_unpause(cli: Client, box: Box) -> None:
    container = box(*COUNTING)
    cli("pause", container)
    assert field(cli, container, "{{.State.Status}}") == "paused"
    before = cli("logs", container).stdout
    refused = cli("exec", container, "true", check=False)
    assert refused.returncode != 0
    assert "paused" in refused.stderr
    assert cli("logs", container).stdout == before
    cli("unpause", container)
    until(lambda: cli("logs", container).stdout != before, "it goes on")


def test_rename(cli: Client, box: Box, name: str) -> None:
    container = box("sleep", "100", flags=("--name", f"{name}-old"))
    cli("rename", f"{name}-old", name)
    assert field(cli, name, "{{.Id}} {{.Name}}") == f"{container} /{name}"
    assert cli("inspect", f"{name}-old", check=False).returncode == 1


def test_wait_for_several(cli: Client, box: Box) -> None:
    containers = [box("sh", "-c", f"sleep 0.{i}; exit {i}") for i in (3, 1)]
    assert cli("wait", *containers).stdout == "3\n1\n"


def test_attach_passes_output_on_and_the_status(cli: Client, box: Box) -> None:
    container = box("sh", "-c", "read go; echo out; echo err >&2; exit 11", flags=("-i",))
    with cli.start("attach", container) as client:
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()  # and stays open: the end of a client's input is the end of its attachment
        assert client.wait(20) == 11
        assert client.stdout is not None
        assert client.stderr is not None
        assert (client.stdout.read(), client.stderr.read()) == ("out\n", "err\n")


def test_top_shows_the_processes(cli: Client, box: Box) -> None:
    container = box("sh", "-c", "sleep 98 & sleep 99")
    until(lambda: cli("top", container).stdout.count("sleep 9") >= 2, "both are there")


def test_rm_refuses_what_runs(cli: Client, box: Box) -> None:
    container = box("sleep", "100")
    refused = cli("rm", container, check=False)
    assert refused.returncode == 1
    assert "container is running" in refused.stderr
    cli("rm", "-f", container)
    assert cli("ps", "-aq", "--no-trunc", "--filter", f"id={container}").stdout == ""


def test_restart_policy_on_failure(cli: Client, box: Box) -> None:
    container = box("sh", "-c", "echo again; exit 1", flags=("--restart", "on-failure:2"))
    until(lambda: field(cli, container, "{{.State.Status}}{{.RestartCount}}") == "exited2", "two restarts")
    assert cli("logs", container).stdout == "again\n" * 3


# --- exec --------------------------------------------------------------------------------------------------------


def test_exec_options(cli: Client, box: Box) -> None:
    container = box("sleep", "100", flags=("-e", "FROM=container"))
    script = "echo $FROM $MORE; pwd; id -u"
    done = cli("exec", "-e", "MORE=exec", "-w", "/tmp", "-u", "65534", container, "sh", "-c", script)
    assert done.stdout.splitlines() == ["container exec", "/tmp", "65534"]
    big = "x" * 300_000
    assert cli("exec", "-i", container, "cat", stdin=big).stdout == big


@pytest.mark.parametrize(
    ("command", "status"),
    [(("sh", "-c", "exit 5"), 5), (("not-there",), 127), (("/etc/passwd",), 126), (("sh", "-c", "kill -9 $$"), 137)],
)
def test_exec_status(cli: Client, box: Box, command: tuple[str, ...], status: int) -> None:
    assert cli("exec", box("sleep", "100"), *command, check=False).returncode == status


def test_exec_in_the_background(cli: Client, box: Box) -> None:
    container = box("sleep", "100")
    cli("exec", "-d", container, "sh", "-c", "echo done >/tmp/done; sleep 100")
    until(lambda: cli("exec", container, "cat", "/tmp/done", check=False).stdout == "done\n", "it has run")


def test_exec_needs_a_running_container(cli: Client, box: Box) -> None:
    container = box("true")
    cli("wait", container)
    done = cli("exec", container, "true", check=False)
    assert done.returncode == 1
    assert "is not running" in done.stderr


# --- looking -----------------------------------------------------------------------------------------------------


def test_ps_filters_and_formats(cli: Client, box: Box, name: str) -> None:
    up = box("sleep", "100", flags=("--name", name, "--label", f"of={name}"))
    down = box("sh", "-c", "exit 3", flags=("--label", f"of={name}"))
    cli("wait", down)

    def ids(*flags: str) -> set[str]:
        return set(cli("ps", "-q", "--no-trunc", "--filter", f"label=of={name}", *flags).stdout.split())

    assert ids() == {up}
    assert ids("-a") == {up, down}
    assert ids("--filter", "status=exited") == {down}
    assert ids("-a", "--filter", "exited=3") == {down}
    assert ids("-a", "--filter", f"name={name}") == {up}
    assert ids("-a", "--filter", f"before={down}") == {up}
    assert ids("-a", "--last", "1") == {down}
    line = cli("ps", "--filter", f"id={up}", "--format", "{{.ID}}|{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}").stdout
    assert line == f'{up[:12]}|{name}|busybox:latest|"sleep 100"|running\n'
    head, row = cli("ps", "-a", "--filter", f"id={down}").stdout.splitlines()
    assert head.split()[:3] == ["CONTAINER", "ID", "IMAGE"]
    assert "Exited (3)" in row


def test_inspect_fields(cli: Client, box: Box, name: str, tmp_path: Path) -> None:
    container = box(
        "sleep", "100", flags=("--name", name, "-v", f"{tmp_path}:/data:ro", "-e", "A=b", "--label", "k=v", "--rm")
    )
    wanted = {
        "{{.Id}}": container,
        "{{.Name}}": f"/{name}",
        "{{.Path}} {{json .Args}}": 'sleep ["100"]',
        "{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}": "running true 0",
        "{{.Config.Image}} {{.Config.Hostname}}": f"busybox:latest {container[:12]}",
        "{{index .Config.Labels `k`}}": "v",
        "{{.HostConfig.AutoRemove}} {{.HostConfig.NetworkMode}}": "true bridge",
        "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}{{end}}": f"bind {tmp_path} /data false",
    }
    assert {template: field(cli, container, template) for template in wanted} == wanted
    assert "A=b" in field(cli, container, "{{json .Config.Env}}")
    assert os.path.exists(f"/proc/{field(cli, container, '{{.State.Pid}}')}/ns/pid")
    assert field(cli, container, "{{.NetworkSettings.Networks.bridge.IPAddress}}").count(".") == 3


def test_events_tell_the_story(cli: Client, warm: str, name: str) -> None:
    words = ("--filter", f"container={name}", "--format", "{{.Action}}")
    began = f"{time.time():.6f}"
    with cli.start("events", "--since", began, *words) as stream:
        cli("run", "--rm", "--name", f"other-{name}", warm, "true")  # filtered out
        cli("run", "--rm", "--name", name, warm, "true")
        assert stream.stdout is not None
        seen: list[str] = []
        while not seen or seen[-1] != "destroy":
            seen.append(stream.stdout.readline().strip())
        stream.kill()
    story = [each for each in seen if each not in {"attach", "connect", "disconnect"}]
    assert story == ["create", "start", "die", "destroy"]
    assert cli("events", "--since", began, "--until", f"{time.time():.6f}", *words).stdout.split() == seen
