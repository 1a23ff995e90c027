"""Requests that cannot be done: the right status, a sentence that helps, nothing half made, and a daemon that goes on."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from clients import IMAGE, Client, docker_program
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker]

Box = Callable[..., str]


@pytest.fixture(autouse=True)
def nothing_half_made(docker: Client, snapshot: frozenset[str]) -> Iterator[None]:
    """The daemon answers afterwards, has the containers it had, and the host is as it was."""
    before = docker("ps", "-aq").stdout
    yield
    assert docker("ps", "-aq").stdout == before


# --- from the command line ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("not-there",), 127, 'exec: "not-there": executable file not found in $PATH'),
        (("/not/there",), 127, 'exec: "/not/there": '),
        (("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied'),
        (("/etc",), 126, 'exec: "/etc": '),
    ],
)
def test_a_program_that_cannot_run(
    docker: Client, warm: str, words: tuple[str, ...], status: int, message: str
) -> None:
    done = docker("run", "--rm", warm, *words, check=False)
    assert done.returncode == status
    assert message in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--network", "nope"), "network nope not found"),
        (("--storage-opt", "driver=nope"), "nope"),
        (("--mount", "type=bind,src=/not/there,dst=/x"), "bind source path does not exist: /not/there"),
        (("-v", "/tmp:relative"), "mount path must be absolute"),
        (("-u", "nobodyx"), "unable to find user nobodyx: no matching entries in passwd file"),
        (("-w", "relative"), "the working directory 'relative' is invalid, it needs to be an absolute path"),
        (("-w", "/etc/passwd"), "ot a directory"),
        (("--stop-signal", "NOPE"), "nvalid signal: NOPE"),
        (("--name", "a b"), "Invalid container name (a b)"),
        (("--runtime", "nope"), "unknown or invalid runtime name: nope"),
        (("--log-driver", "nope"), "nope"),
        (("-m", "1k"), "inimum memory limit"),
        (("--cpus", "100000"), "CPUs"),
        (("--cap-add", "NOPE"), "NOPE"),
        (("--security-opt", "nope=1"), "nope"),
        (("--sysctl", "kernel.panic=1"), "kernel.panic"),
        (("--device", "/dev/not-there"), "/dev/not-there"),
        (("--pid", "container:not-there"), "not-there"),
        (("--hostname", "-bad"), "nvalid hostname format: -bad"),
    ],
)
def test_an_option_that_cannot_be_done(docker: Client, warm: str, flags: tuple[str, ...], message: str) -> None:
    done = docker("run", "--rm", *flags, warm, "true", check=False)
    assert done.returncode in {125, 126, 127}, done
    assert message in done.stderr
    assert "internal error" not in done.stderr


def test_a_failed_start_without_rm_leaves_a_container_that_says_why(docker: Client, warm: str, name: str) -> None:
    assert docker("run", "--name", name, warm, "not-there", check=False).returncode == 127
    state = json.loads(docker("inspect", name).stdout)[0]["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 127)
    assert "not-there" in state["Error"]
    docker("rm", name)


@pytest.mark.parametrize("words", [("run", "--rm", "Upper/Case"), ("pull", "a b"), ("pull", "x:" + "t" * 200)])
def test_a_bad_reference(docker: Client, words: tuple[str, ...]) -> None:
    done = docker(*words, check=False)
    assert done.returncode in {1, 125}
    assert "invalid reference format" in done.stderr


def test_a_name_that_is_taken(docker: Client, warm: str, box: Box, name: str) -> None:
    holder = box("sleep", "100", flags=("--name", name))
    done = docker("run", "--name", name, warm, "true", check=False)
    assert done.returncode == 125
    assert f'The container name "/{name}" is already in use by container "{holder}"' in done.stderr
    docker("rm", "-f", holder)


# --- over HTTP ---------------------------------------------------------------------------------------------------


def ask(daemon: Daemon, method: str, url: str, body: Any = None, kind: str = "application/json") -> tuple[int, str]:
    """Status and message; *body* is sent as it is if bytes, else as JSON."""
    content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    with closing(daemon.api()) as connection:
        connection.request(method, url, content, {} if content is None else {"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read()
    assert not text.strip() or answer.headers["Content-Type"].startswith("application/json"), text
    document = json.loads(text) if text.strip() else {}
    return answer.status, document.get("message", "") if isinstance(document, dict) else ""


CREATE = "/v1.41/containers/create"


@pytest.mark.parametrize(
    ("method", "url", "body", "status", "message"),
    [
        ("GET", "/v1.41/nope", None, 404, "page not found"),
        ("PUT", "/v1.41/info", None, 405, ""),
        ("GET", "/v9.99/info", None, 400, "client version 9.99 is too new"),
        ("GET", "/v1.2/info", None, 400, "client version 1.2 is too old"),
        ("GET", "/v1.41/containers/nope/json", None, 404, "No such container: nope"),
        ("POST", "/v1.41/containers/nope/start", None, 404, "No such container: nope"),
        ("DELETE", "/v1.41/containers/nope", None, 404, "No such container: nope"),
        ("POST", "/v1.41/exec/nope/start", {}, 404, "No such exec instance"),
        ("GET", "/v1.41/exec/nope/json", None, 404, "No such exec instance"),
        ("GET", "/v1.41/images/nope/json", None, 404, "No such image: nope"),
        ("DELETE", "/v1.41/images/nope", None, 404, "No such image: nope"),
        ("GET", "/v1.41/networks/nope", None, 404, "network nope not found"),
        ("GET", '/v1.41/containers/json?filters={"nope":["x"]}', None, 400, "nvalid filter 'nope'"),
        ("GET", "/v1.41/containers/json?filters=[1", None, 400, "invalid"),
        ("GET", "/v1.41/containers/json?limit=many", None, 400, "many"),
        ("POST", CREATE, {"Image": "nope"}, 404, "No such image: nope:latest"),
        ("POST", CREATE, {"Image": "UPPER"}, 400, "invalid reference format"),
        ("POST", CREATE, b'{"Image": ', 400, "invalid JSON"),
        ("POST", CREATE, b"\xff\xfe", 400, "invalid JSON"),
        ("POST", CREATE, b"[]", 400, "invalid JSON"),
        ("POST", CREATE, b"[" * 100_000, 400, "invalid JSON"),
        ("POST", CREATE, {"Image": 7}, 400, "Image"),
        ("POST", CREATE, {"Image": IMAGE, "WorkingDir": ["/"]}, 400, "WorkingDir"),
        ("POST", CREATE, {"Image": IMAGE, "Env": "A=b"}, 400, "Env"),
        ("POST", CREATE, {"Image": IMAGE, "HostConfig": {"Memory": "1g"}}, 400, "Memory"),
        ("POST", CREATE, {"Image": IMAGE, "HostConfig": {"Memory": 2**70}}, 400, "Memory"),
        ("POST", CREATE, {"Image": IMAGE, "Cmd": ["a\0b"]}, 400, "NUL"),
        ("POST", f"{CREATE}?name=a/b", {"Image": IMAGE}, 400, "Invalid container name"),
        ("POST", "/v1.41/images/create?fromSrc=http://x", None, 501, "not supported"),
        ("POST", "/v1.41/build", b"", 400, "Cannot locate specified Dockerfile: Dockerfile"),
        ("GET", "/v1.41/swarm", None, 503, "not a swarm manager"),
        ("GET", "/v1.41/events?since=x", None, 400, "since"),
    ],
)
def test_status_and_message(
    pydd: Daemon, warm: str, method: str, url: str, body: Any, status: int, message: str
) -> None:
    found, text = ask(pydd, method, url, body)
    assert found == status, text
    assert message in text
    assert "\n" not in text.strip()
    assert "Traceback" not in text


def test_fields_nobody_knows_are_ignored(pydd: Daemon, warm: str) -> None:
    body = {"Image": warm, "Cmd": ["true"], "NotAField": {"deep": [1]}, "HostConfig": {"NorThis": 1}}
    with closing(pydd.api()) as api:
        made = api.json("POST", CREATE, body)
        api.call("DELETE", f"/containers/{made['Id']}")


def test_the_wrong_content_type(pydd: Daemon) -> None:
    status, message = ask(pydd, "POST", CREATE, b"{}", "text/plain")
    assert status == 400
    assert "application/json" in message


def test_a_body_too_large(pydd: Daemon) -> None:
    body = json.dumps({"Image": IMAGE, "Cmd": ["x" * 70_000_000]}).encode()
    try:
        status, message = ask(pydd, "POST", CREATE, body)
    except (BrokenPipeError, ConnectionResetError):
        return  # it hung up in the middle of the body, as it may
    assert status == 413
    assert "larger" in message


def test_a_client_that_hangs_up_in_the_middle(pydd: Daemon) -> None:
    with closing(pydd.api()) as connection:
        connection.putrequest("POST", CREATE)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b'{"Image": ')
    assert ask(pydd, "GET", "/version")[0] == http.client.OK


def test_wrong_states(pydd: Daemon, docker: Client, box: Box) -> None:
    running = box("sleep", "100")
    at = f"/v1.41/containers/{running}"
    assert ask(pydd, "POST", f"{at}/start")[0] == http.client.NOT_MODIFIED
    status, message = ask(pydd, "POST", f"{at}/kill?signal=NOPE")
    assert (status, message.lower()) == (400, "invalid signal: nope")
    assert ask(pydd, "DELETE", at)[0] == http.client.CONFLICT
    assert ask(pydd, "POST", f"{at}/unpause")[0] in {409, 500}
    assert ask(pydd, "POST", f"{at}/exec", {"Cmd": []})[0] == http.client.BAD_REQUEST
    docker("kill", running)
    docker("wait", running)
    assert ask(pydd, "POST", f"{at}/stop")[0] == http.client.NOT_MODIFIED
    assert ask(pydd, "POST", f"{at}/kill")[0] == http.client.CONFLICT
    assert ask(pydd, "POST", f"{at}/pause")[0] == http.client.CONFLICT
    assert ask(pydd, "POST", f"{at}/exec", {"Cmd": ["true"]})[0] == http.client.CONFLICT
    docker("rm", running)


@pytest.mark.parametrize("content", [b"", b"not a tar archive", b"\0" * 10240, os.urandom(4096)])
def test_loading_what_is_no_image(docker: Client, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    images = docker("images", "-aq").stdout
    done = docker("load", "-i", tmp_path / "archive", check=False)
    assert done.returncode != 0
    assert "internal error" not in done.stderr
    assert docker("images", "-aq").stdout == images


# --- a disk that is full -----------------------------------------------------------------------------------------


@pytest.fixture
def small(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[Client, Path]]:
    """A daemon whose data is on a tmpfs of 64 MB; its client, and that directory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
    try:
        daemon = new_pydd(data=disk / "data")
        yield Client((docker_program(), "-H", daemon.url), client_environment), disk
        daemon.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Take all but *leave* bytes."""
    free = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave)
    return ballast


def test_a_full_disk(small: tuple[Client, Path], image_archive: Path) -> None:
    docker, disk = small
    ballast = fill(disk, 1_000_000)
    refused = docker("load", "-q", "-i", image_archive, check=False)
    assert refused.returncode == 1
    assert "no space left on device" in refused.stderr.lower()
    assert docker("images", "-q").stdout == ""
    ballast.unlink()
    docker("load", "-q", "-i", image_archive)
    docker("run", "--rm", IMAGE, "true")

    ballast = fill(disk, 3_000_000)
    for _ in range(2):
        writing = docker("run", "--rm", IMAGE, "dd", "if=/dev/zero", "of=/big", "bs=64k", check=False)
        assert writing.returncode == 1
        assert "No space left on device" in writing.stderr
    talking = docker("run", "--rm", IMAGE, "sh", "-c", "yes | head -c 6000000; exit 3", check=False)
    assert talking.returncode == 3, "a log that cannot be kept does not stop the program"
    ballast.unlink()
    assert docker("run", "--rm", IMAGE, "echo", "works again").stdout == "works again\n"
    assert docker("ps", "-aq").stdout == ""


def test_a_daemon_starts_on_a_disk_that_filled_up(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], tmp_path: Path, image_archive: Path
) -> None:
    """Who else could free it?"""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
    try:
        daemon = new_pydd(data=disk / "data")
        docker = Client((docker_program(), "-H", daemon.url), client_environment)
        docker("load", "-q", "-i", image_archive)
        docker("run", "--name", "big", IMAGE, "dd", "if=/dev/zero", "of=/big", "bs=64k", check=False)
        daemon.stop()
        fill(disk, 0)

        daemon.start()

        assert "the reserve is given up" in daemon.tail()
        docker("rm", "big")
        assert docker("run", "--rm", IMAGE, "echo", "works again").stdout == "works again\n"
        daemon.close()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
