"""Commands as processes against a fake daemon: what is asked, what is printed, and the exit status."""

from __future__ import annotations

import base64
import json
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import answer, json_answer

Start = Callable[[dict[str, Any]], Any]
Pyd = Callable[..., Any]

VERSION = {"Version": "1.0", "ApiVersion": "1.41", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"}
INFO = {
    "Containers": 1,
    "Drivers": [
        {
            "Kind": "storage",
            "Name": "overlay",
            "Distribution": "pyd-storage-overlay",
            "Version": "0.1.0",
            "State": "ready",
            "Reason": "",
            "Capabilities": ["quota"],
            "Default": True,
        },
        {
            "Kind": "network",
            "Name": "macvlan",
            "Distribution": "pyd-network-macvlan",
            "Version": "0.1.0",
            "State": "declined",
            "Reason": "no macvlan in this kernel\x1b[31m",
        },
    ],
    "Config": [{"Key": "storage.default", "Value": "overlay", "Origin": "default"}],
}


def frame(stream: int, payload: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(payload)) + payload


def test_version_takes_one_request(fake_daemon: Start, pyd: Pyd) -> None:
    daemon = fake_daemon({"GET /version": json_answer(VERSION)})
    done = pyd("version", host=daemon.host)
    assert done.returncode == 0
    assert " API version:       1.41 (downgraded from 1.50)\n" in done.stdout
    assert "  API version:      1.41 (minimum version 1.24)\n" in done.stdout
    assert [line for line, _ in daemon.requests] == ["GET /version"]


def test_version_without_a_daemon_shows_ours_and_fails(pyd: Pyd) -> None:
    done = pyd("version")
    assert done.returncode == 1
    assert done.stdout.startswith("Client:\n")
    assert done.stderr == ("Cannot connect to the pyd daemon at unix:///nonexistent/pyd.sock. Is the daemon running?\n")


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["-l", "loud", "ps"], 1, "Unable to parse logging level: loud\n"),
        (["foo"], 1, "pyd: unknown command: pyd foo\n\nRun 'pyd --help' for more information\n"),
        (
            ["ps", "x"],
            1,
            "pyd: 'pyd ps' accepts no arguments\n\nUsage:  pyd ps [OPTIONS]\n\nRun 'pyd ps --help' for more",
        ),
        (
            ["ps", "--foo"],
            125,
            "unknown flag: --foo\n\nUsage:  pyd ps [OPTIONS]\n\nRun 'pyd ps --help' for more information\n",
        ),
        (
            ["run", "img"],
            125,
            "pyd: Cannot connect to the pyd daemon at unix:///nonexistent/pyd.sock. Is the daemon running?\n\nRun",
        ),
        (["run", "-it", "img"], 1, "the input device is not a TTY\n"),
        (["ps", "--format", "{{"], 1, "Cannot connect to the pyd daemon at"),
        (["inspect", "--format", "{{", "x"], 64, "template parsing error: template: :1: unclosed action\n"),
        (["-H", "foo://x", "ps"], 1, "unable to resolve the endpoint of the daemon: invalid address 'foo://x'"),
    ],
)
def test_faults_that_need_no_daemon(pyd: Pyd, argv: list[str], code: int, message: str) -> None:
    done = pyd(*argv)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(message)


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["help"], ["help", "run"], ["run", "--help"], ["network", "--help"], ["volume", "create", "--help"]],
)
def test_help(pyd: Pyd, argv: list[str]) -> None:
    done = pyd(*argv)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage:  pyd ")


def test_every_command_of_the_catalog_can_be_loaded_and_explained(pyd: Pyd) -> None:
    program = (
        "from pyd_cli.catalog import GROUPS\n"
        "from pyd_cli.helptext import command_help\n"
        "for group, entries in GROUPS.items():\n"
        "    for name, entry in entries.items():\n"
        "        if not entry.group:\n"
        "            command = entry.load()\n"
        "            assert command.short == entry.short.partition('\\n')[0] or name in ('login', 'logout') "
        "or entry.module in ('prune', 'inspect', 'volume', 'stats', 'import_'), (name, command.short)\n"
        "            assert command_help(command, 'pyd ' + name).startswith('Usage:  pyd'), name\n"
        "print('all')\n"
    )
    import os
    import subprocess
    import sys

    source = Path(__file__).parent.parent / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == ("all\n", "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("pyd net", {"network"}),
        ("pyd volume c", {"create"}),
        ("pyd ps --fo", {"--format"}),
        ("pyd -H x run --cap", {"--cap-add", "--cap-drop"}),
    ],
)
def test_shell_completion(pyd: Pyd, words: str, offered: set[str]) -> None:
    place = str(words.count(" "))
    done = pyd(_PYD_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=place)
    assert {line.partition(",")[2] for line in done.stdout.split()} == offered
    assert done.stderr == ""


def started(daemon_replies: dict[str, Any], output: bytes, status: int) -> dict[str, Any]:
    """Answers for a `run` whose container writes `output` and ends with `status`."""

    def attach(client: socket.socket, _: bytes) -> None:
        client.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + output)

    return {
        "POST /containers/create": json_answer({"Id": "c1", "Warnings": ["mind the gap"]}, "201 Created"),
        "POST /containers/c1/attach": attach,
        "POST /containers/c1/wait": json_answer({"StatusCode": status}),
        "POST /containers/c1/start": answer(status="204 No Content"),
        **daemon_replies,
    }


def test_run_attaches_and_waits_before_it_starts(fake_daemon: Start, pyd: Pyd) -> None:
    daemon = fake_daemon(started({}, frame(1, b"out\n") + frame(2, b"err\n"), 7))
    done = pyd("run", "--rm", "--name", "n1", "img", "cmd", host=daemon.host)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "WARNING: mind the gap\nerr\n")
    lines = [line for line, _ in daemon.requests]
    assert lines == [
        "HEAD /_ping",
        "POST /v1.41/containers/create?name=n1",
        "POST /v1.41/containers/c1/attach?stream=1&stdout=1&stderr=1",
        "POST /v1.41/containers/c1/wait?condition=removed",
        "POST /v1.41/containers/c1/start",
    ]
    assert json.loads(daemon.requests[1][1])["HostConfig"]["AutoRemove"] is True


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ("stat /x: no such file or directory", 127),
        ('exec: "/etc/passwd": permission denied', 126),
        ("driver failed", 125),
    ],
)
def test_status_of_a_container_that_cannot_start(fake_daemon: Start, pyd: Pyd, message: str, code: int) -> None:
    refused = {"POST /containers/c1/start": json_answer({"message": message}, "400 Bad Request")}
    daemon = fake_daemon(started(refused, b"", 0))
    done = pyd("run", "img", host=daemon.host)
    assert done.returncode == code
    expected = f"pyd: Error response from daemon: {message}\n\nRun 'pyd run --help' for more information\n"
    assert done.stderr.endswith(expected)


def test_stdin_reaches_the_container_and_ends_there(fake_daemon: Start, pyd: Pyd) -> None:
    def cat(client: socket.socket, _: bytes) -> None:
        client.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        data = b""
        while piece := client.recv(65536):
            data += piece
        client.sendall(frame(1, data.upper()))

    daemon = fake_daemon(started({"POST /containers/c1/attach": cat}, b"", 0))
    done = pyd("run", "-i", "img", host=daemon.host, stdin="typed")
    assert (done.returncode, done.stdout) == (0, "TYPED")


def test_run_pulls_a_missing_image_with_progress_on_stderr(fake_daemon: Start, pyd: Pyd, tmp_path: Path) -> None:
    tries: list[int] = []

    def create(client: socket.socket, _: bytes) -> None:
        tries.append(1)
        missing = json_answer({"message": "No such image: r.example/img:latest"}, "404 Not Found")
        client.sendall(missing if len(tries) == 1 else json_answer({"Id": "c1"}, "201 Created"))

    messages = [
        {"status": "Pulling from img", "id": "latest"},
        {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "abc"},
        {"status": "Pull complete", "progressDetail": {}, "id": "abc"},
    ]
    pulled = answer("".join(json.dumps(item) + "\r\n" for item in messages).encode())
    daemon = fake_daemon(started({"POST /containers/create": create, "POST /images/create": pulled}, b"", 0))
    config = tmp_path / ".docker"
    config.mkdir()
    auth = base64.b64encode(b"me:secret").decode()
    (config / "config.json").write_text(json.dumps({"auths": {"r.example": {"auth": auth}}}))
    done = pyd("run", "r.example/img", host=daemon.host)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "Unable to find image 'r.example/img:latest' locally\nlatest: Pulling from img\nabc: Pull complete\n"
    )
    head = next(head for head in daemon.heads if "/images/create?fromImage=r.example%2Fimg&tag=latest" in head)
    sent = next(line for line in head.split("\r\n") if line.startswith("X-Registry-Auth: ")).partition(": ")[2]
    expected = {"serveraddress": "r.example", "username": "me", "password": "secret"}
    assert json.loads(base64.urlsafe_b64decode(sent)) == expected


def test_containers_are_told_of_proxies(fake_daemon: Start, pyd: Pyd, tmp_path: Path) -> None:
    daemon = fake_daemon(started({}, b"", 0))
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(json.dumps({"proxies": {"default": {"httpsProxy": "p:1"}}}))
    assert pyd("run", "-e", "A=b", "-e", "https_proxy=", "img", host=daemon.host).returncode == 0
    assert json.loads(daemon.requests[1][1])["Env"] == ["A=b", "https_proxy=", "HTTPS_PROXY=p:1"]


def test_the_id_file_is_written_or_gone(fake_daemon: Start, pyd: Pyd, tmp_path: Path) -> None:
    daemon = fake_daemon(started({}, b"", 0))
    path = tmp_path / "cid"
    assert pyd("run", "--cidfile", str(path), "img", host=daemon.host).returncode == 0
    assert path.read_text() == "c1"
    done = pyd("run", "--cidfile", str(path), "img", host=daemon.host)
    assert (done.returncode, "container ID file found" in done.stderr) == (125, True)
    path.unlink()
    assert pyd("run", "--cidfile", str(path), "--pull", "never", "img").returncode == 125
    assert not path.exists()


def test_exec_returns_the_commands_status(fake_daemon: Start, pyd: Pyd) -> None:
    def begin(client: socket.socket, _: bytes) -> None:
        client.sendall(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n" + frame(1, b"hi\n"))

    daemon = fake_daemon(
        {
            "POST /containers/c1/exec": json_answer({"Id": "e1"}, "201 Created"),
            "POST /exec/e1/start": begin,
            "GET /exec/e1/json": json_answer({"ExitCode": 4}),
        }
    )
    done = pyd("exec", "-e", "A=1", "c1", "sh", "-c", "x", host=daemon.host)
    assert (done.returncode, done.stdout) == (4, "hi\n")
    sent = json.loads(next(body for line, body in daemon.requests if line.endswith("/containers/c1/exec")))
    assert (sent["Cmd"], sent["Env"], sent["Tty"]) == (["sh", "-c", "x"], ["A=1"], False)


def test_several_objects_and_one_that_is_not_there(fake_daemon: Start, pyd: Pyd) -> None:
    gone = json_answer({"message": "No such container: b"}, "404 Not Found")
    daemon = fake_daemon({"DELETE /containers/a": answer(status="204 No Content"), "DELETE /containers/b": gone})
    done = pyd("rm", "a", "b", host=daemon.host)
    assert (done.returncode, done.stdout) == (1, "a\n")
    assert done.stderr == "Error response from daemon: No such container: b\n"
    done = pyd("rm", "-f", "b", "a", host=daemon.host)
    assert (done.returncode, done.stdout) == (0, "a\n")


def test_inspect_finds_objects_of_any_kind_and_shows_them_untouched(fake_daemon: Start, pyd: Pyd) -> None:
    daemon = fake_daemon(
        {
            "GET /containers/c/json": answer(b'{"Id":"\\u003c1","N":1.0}\n'),
            "GET /volumes/v": json_answer({"Name": "v"}),
        }
    )
    done = pyd("inspect", "c", "v", "x", host=daemon.host)
    assert done.returncode == 1
    assert done.stdout == (
        '[\n    {\n        "Id": "\\u003c1",\n        "N": 1.0\n    },\n    {\n        "Name": "v"\n    }\n]\n'
    )
    assert done.stderr == "Error: No such object: x\n"
    done = pyd("inspect", "-f", "{{.Foo}}", "v", host=daemon.host)
    expected = 'template parsing error: template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"\n'
    assert (done.returncode, done.stdout, done.stderr) == (1, "\n", expected)


def test_info_ends_with_the_drivers(fake_daemon: Start, pyd: Pyd) -> None:
    daemon = fake_daemon({"GET /info": json_answer(INFO)})
    done = pyd("info", host=daemon.host)
    assert done.returncode == 0
    assert "Server:\n Containers: 1\n  Running: 0\n" in done.stdout
    assert " Drivers:\n  KIND      NAME        DISTRIBUTION" in done.stdout
    assert "  storage   overlay *   pyd-storage-overlay   0.1.0     ready\n" in done.stdout
    assert "no macvlan in this kernel\\x1b[31m\n" in done.stdout


def test_info_config_and_plugins(fake_daemon: Start, pyd: Pyd) -> None:
    daemon = fake_daemon({"GET /info": json_answer(INFO)})
    done = pyd("info", "--config", host=daemon.host)
    assert done.stdout == "KEY               VALUE     ORIGIN\nstorage.default   overlay   default\n"
    done = pyd("plugin", "ls", "-q", host=daemon.host)
    assert done.stdout == "storage/overlay\nnetwork/macvlan\n"
    done = pyd("plugin", "ls", "--format", "{{.Name}}: {{.State}} {{.Capabilities}}", host=daemon.host)
    assert done.stdout == "overlay: ready quota\nmacvlan: declined \n"
    done = pyd("plugin", "inspect", "-f", "{{.State}} {{.Reason}}", "overlay", "network/macvlan", host=daemon.host)
    assert done.stdout == "ready \ndeclined no macvlan in this kernel\x1b[31m\n"
    done = pyd("plugin", "inspect", "nosuch", host=daemon.host)
    assert done.returncode == 1
    assert "no driver or plugin 'nosuch' is installed" in done.stderr


def test_another_engine_has_no_such_report(fake_daemon: Start, pyd: Pyd) -> None:
    daemon = fake_daemon({"GET /info": json_answer({"Containers": 0})})
    done = pyd("plugin", "ls", host=daemon.host)
    assert (done.returncode, done.stdout) == (1, "")
    assert "only pydd does" in done.stderr


def test_login_keeps_credentials_for_the_user_alone(fake_daemon: Start, pyd: Pyd, tmp_path: Path) -> None:
    daemon = fake_daemon({"POST /auth": json_answer({"Status": "Login Succeeded"})})
    done = pyd("login", "-u", "me", "--password-stdin", "r.example", host=daemon.host, stdin="secret\n")
    assert (done.returncode, done.stdout) == (0, "Login Succeeded\n")
    path = tmp_path / ".docker" / "config.json"
    assert json.loads(path.read_text()) == {"auths": {"r.example": {"auth": base64.b64encode(b"me:secret").decode()}}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert pyd("logout", "r.example", host=daemon.host).returncode == 0
    assert json.loads(path.read_text()) == {"auths": {}}


def test_a_reader_that_leaves_is_no_traceback(fake_daemon: Start, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    items = [{"Id": f"{number:064d}", "Created": 1} for number in range(5000)]
    daemon = fake_daemon({"GET /containers/json": json_answer(items)})
    source = str(Path(__file__).parent.parent / "src")
    script = f"{sys.executable} -m pyd_cli ps -a --no-trunc | head -n 1"
    environment = {**os.environ, "PYTHONPATH": source, "PYD_HOST": daemon.host, "HOME": str(tmp_path)}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("CONTAINER ID")
    assert done.stderr == ""
