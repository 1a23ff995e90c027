"""`pyd build` as a process against a fake daemon, and the archive as it is made: what no comparison with docker shows."""

from __future__ import annotations

import base64
import io
import json
import os
import select
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cli_fakes import answer, json_answer

from pyd_cli.build_context import Stream, Walk, compressed, is_archive
from pyd_cli.dockerignore import Ignore, for_build, parse
from pyd_cli.errors import CliError

Start = Callable[[dict[str, Any]], Any]
Pyd = Callable[..., Any]


def messages(*items: dict[str, Any]) -> bytes:
    return answer("".join(json.dumps(item) + "\r\n" for item in items).encode(), Content_Type="application/json")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    (root / "Dockerfile").write_text("FROM scratch\n")
    return root


def built(*items: dict[str, Any]) -> dict[str, Any]:
    return {"POST /build": messages(*items)}


DONE = ({"stream": "Step 1/1 : FROM scratch\n"}, {"aux": {"ID": "sha256:abc"}}, {"stream": "Successfully built abc\n"})


@pytest.mark.parametrize("command", [["build"], ["image", "build"], ["builder", "build"]], ids=" ".join)
def test_it_shows_the_stream_and_writes_the_id(fake_daemon: Start, pyd: Pyd, context: Path, command: list[str]) -> None:
    daemon = fake_daemon(built(*DONE))
    done = pyd(*command, "--iidfile", str(context.parent / "id"), str(context), host=daemon.host)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Sending build context to pyd daemon ")
    assert done.stdout.endswith("Step 1/1 : FROM scratch\nSuccessfully built abc\n")
    assert (context.parent / "id").read_text() == "sha256:abc"


def test_quiet_is_the_id_alone(fake_daemon: Start, pyd: Pyd, context: Path) -> None:
    daemon = fake_daemon(built({"stream": "sha256:abc\n"}))
    done = pyd("build", "-q", str(context), host=daemon.host)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sha256:abc\n", "")
    assert "q=1" in daemon.requests[-1][0]


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_a_failed_step_gives_its_status_and_no_id(
    fake_daemon: Start, pyd: Pyd, context: Path, quiet: list[str]
) -> None:
    target = context.parent / "id"
    target.write_text("of an earlier build")
    fault = {"errorDetail": {"code": 7, "message": "returned a non-zero code: 7"}, "error": "x"}
    daemon = fake_daemon(built({"stream": "Step 1/1 : RUN exit 7\n"}, fault))
    done = pyd("build", *quiet, "--iidfile", str(target), str(context), host=daemon.host)
    assert done.returncode == 7
    assert done.stderr.endswith("returned a non-zero code: 7\n")
    assert "RUN exit 7" in (done.stderr if quiet else done.stdout)
    assert not target.exists()


@pytest.mark.parametrize(
    ("fault", "status"), [({"message": "a"}, 1), ({"message": "a", "code": 0}, 1), ({"message": "a", "code": 3}, 3)]
)
def test_a_fault_without_a_status_is_1(
    fake_daemon: Start, pyd: Pyd, context: Path, fault: dict[str, Any], status: int
) -> None:
    daemon = fake_daemon(built({"errorDetail": fault, "error": "a"}))
    done = pyd("build", str(context), host=daemon.host)
    assert (done.returncode, done.stderr) == (status, "a\n")


def test_no_id_for_the_file_is_a_fault(fake_daemon: Start, pyd: Pyd, context: Path) -> None:
    daemon = fake_daemon(built({"stream": "x\n"}))
    done = pyd("build", "--iidfile", "id", str(context), host=daemon.host)
    assert (done.returncode, done.stderr) == (1, "Server did not provide an image ID. Cannot write id\n")


def test_a_refusal_is_shown_while_the_context_is_sent(fake_daemon: Start, pyd: Pyd, context: Path) -> None:
    """The daemon reads no further and keeps the connection: whoever waits to have sent all waits for ever."""
    with (context / "large").open("wb") as file:
        file.truncate(64 << 20)

    def refuse(client: socket.socket, _body: bytes) -> None:
        with client:
            client.sendall(json_answer({"message": "no such thing"}, "400 Bad Request"))
            gone = select.poll()
            gone.register(client, 0)  # nothing is read: only the client's close ends it
            gone.poll(60_000)

    daemon = fake_daemon({})
    daemon._serve = lambda client, head: (
        refuse(client, b"") if b"/build?" in head else type(daemon)._serve(daemon, client, head)
    )
    done = pyd("build", str(context), host=daemon.host)
    assert (done.returncode, done.stderr) == (1, "Error response from daemon: no such thing\n")


@pytest.mark.parametrize("context_url", ["http://a.example/b.tar", "https://a.example/r.git#b:c", "git@h:r.git"])
def test_an_address_is_the_daemons_to_fetch(fake_daemon: Start, pyd: Pyd, context_url: str) -> None:
    daemon = fake_daemon(built(*DONE))
    done = pyd("build", "-f", "d/Dockerfile", context_url, host=daemon.host)
    assert done.returncode == 0
    assert "Sending" not in done.stdout
    line, body = daemon.requests[-1]
    query = parse_qs(line.partition("?")[2])
    assert (query["remote"], query["dockerfile"], body) == ([context_url], ["d/Dockerfile"], b"")


def test_all_known_credentials_go_with_it(fake_daemon: Start, pyd: Pyd, context: Path, tmp_path: Path) -> None:
    helper = tmp_path / "bin" / "docker-credential-fake"
    helper.parent.mkdir()
    helper.write_text(
        '#!/bin/sh\n[ "$1" = list ] && echo \'{"stored.example":"s"}\' && exit\nread -r key\n'
        '[ "$key" = stored.example ] || { echo credentials not found; exit 1; }\n'
        'echo \'{"Username":"s","Secret":"t"}\'\n'
    )
    helper.chmod(0o755)
    auth = base64.b64encode(b"u:p").decode()
    (tmp_path / ".docker").mkdir()
    content = {"auths": {"plain.example": {"auth": auth}, "stored.example": {}}, "credsStore": "fake"}
    (tmp_path / ".docker/config.json").write_text(json.dumps(content))
    daemon = fake_daemon(built(*DONE))
    path = f"{helper.parent}:{os.environ['PATH']}"
    assert pyd("build", str(context), host=daemon.host, PATH=path).returncode == 0
    field = next(line for line in daemon.heads[-1].splitlines() if line.startswith("X-Registry-Config: "))
    assert json.loads(base64.urlsafe_b64decode(field.partition(": ")[2])) == {
        "plain.example": {"serveraddress": "plain.example", "username": "u", "password": "p"},
        "stored.example": {"serveraddress": "stored.example", "username": "s", "password": "t"},
    }


MINE = {"http_proxy": "mine"}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"default": {"httpProxy": "p:1", "noProxy": "n"}}, {"HTTP_PROXY": "p:1", "NO_PROXY": "n", "no_proxy": "n"}),
        ({"default": {"httpProxy": "p:1"}, "HOST": {"ftpProxy": "p:2"}}, {"FTP_PROXY": "p:2", "ftp_proxy": "p:2"}),
        ({"default": {"httpProxy": ""}}, {}),
        ({"other": {"httpProxy": "p:1"}}, {}),
        ("nonsense", {}),
    ],
)
def test_proxies_of_the_configuration_are_told(
    fake_daemon: Start, pyd: Pyd, context: Path, tmp_path: Path, table: Any, expected: dict[str, str]
) -> None:
    daemon = fake_daemon(built(*DONE))
    (tmp_path / ".docker").mkdir()
    content = json.dumps({"proxies": table}).replace("HOST", daemon.host)
    (tmp_path / ".docker/config.json").write_text(content)
    assert pyd("build", "--build-arg", "http_proxy=mine", str(context), host=daemon.host).returncode == 0
    query = parse_qs(daemon.requests[-1][0].partition("?")[2].partition(" ")[0])
    assert json.loads(query["buildargs"][0]) == MINE | expected


def test_the_build_cache_is_pruned(fake_daemon: Start, pyd: Pyd) -> None:
    freed = {"CachesDeleted": ["a", "b"], "SpaceReclaimed": 2048}
    daemon = fake_daemon({"POST /build/prune": json_answer(freed)})
    argv = ("builder", "prune", "-a", "--keep-storage", "1k", "--filter", "until=24h")
    done = pyd(*argv, host=daemon.host, stdin="y\n")
    assert done.stdout == (
        "WARNING! This will remove all build cache. Are you sure you want to continue? [y/N] "
        "Deleted build cache objects:\na\nb\n\nTotal reclaimed space: 2.048kB\n"
    )
    query = daemon.requests[-1][0]
    assert "all=1" in query
    assert "keep-storage=1024" in query
    assert pyd("builder", "prune", host=daemon.host).stdout.endswith("[y/N] ")


def everything(root: Path, ignore: str = "") -> list[bytes]:
    return list(Walk(str(root), Ignore(parse(ignore))).archive())


def test_the_archive_is_made_while_it_is_read(context: Path) -> None:
    with (context / "large").open("wb") as file:
        file.truncate(8 << 20)
    stream = Stream(Walk(str(context), Ignore([])).archive())
    sizes = []
    while data := stream.read():
        sizes.append(len(data))
    assert stream.sent == sum(sizes) > 8 << 20
    assert max(sizes) < 3 * 65536


def test_a_file_that_shrinks_is_named(context: Path) -> None:
    victim = context / "victim"
    victim.write_bytes(b"x" * 300_000)
    pieces = Walk(str(context), Ignore([])).archive()
    for piece in pieces:
        if len(piece) == 65536:
            break
    victim.write_bytes(b"")
    with pytest.raises(CliError, match=r"victim: shrank from 300000 to 65536 bytes$"):
        list(pieces)


def test_a_file_that_vanishes_is_named(context: Path) -> None:
    (context / "z").write_text("z")
    pieces = Walk(str(context), Ignore([])).archive()
    next(pieces)
    (context / "z").unlink()
    with pytest.raises(CliError, match=r"/z: no such file or directory$"):
        list(pieces)


def test_a_file_that_grows_is_sent_as_it_was(context: Path) -> None:
    (context / "z").write_bytes(b"x" * 100_000)
    pieces = Walk(str(context), Ignore([])).archive()
    sent = []
    for piece in pieces:
        sent.append(piece)
        if len(piece) == 65536:
            with (context / "z").open("ab") as file:
                file.write(b"y" * 100_000)
    with tarfile.open(fileobj=io.BytesIO(b"".join(sent))) as archive:
        assert archive.getmember("z").size == 100_000


def test_what_may_not_be_read_is_named(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (context / "secret").write_text("x")
    real = os.open

    def guarded(path: Any, *rest: Any) -> int:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", guarded)
    with pytest.raises(CliError, match=r"^error checking context: no permission to read from '.*/secret'$"):
        everything(context)
    everything(context, "secret")


def test_gzip(context: Path) -> None:
    whole = b"".join(everything(context))
    packed = b"".join(compressed(Stream(iter([whole]))))
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        assert archive.getnames() == ["Dockerfile"]
    assert is_archive(packed[:512])
    assert is_archive(whole[:512])
    assert not is_archive(b"FROM scratch\n" * 100)
    assert not is_archive(b"")


def test_the_recipe_is_sent_whatever_is_left_out(context: Path) -> None:
    (context / ".dockerignore").write_text("**\n")
    ignore = for_build(str(context), "Dockerfile")
    assert not ignore.leaves_out("Dockerfile")
    assert not ignore.leaves_out(".dockerignore")
    assert ignore.leaves_out("a/b")


def test_left_out_directories_are_not_walked(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (context / "heap" / "deep").mkdir(parents=True)
    walked: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: walked.append(str(path)) or real(path))
    everything(context, "heap")
    everything(context, "heap\n!other/x")
    assert walked == [str(context)] * 2
    everything(context, "heap\n!heap/deep/x")
    assert str(context / "heap" / "deep") in walked
