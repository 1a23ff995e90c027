"""The contexts that docker's command line sends, and those of pyd: the same archive, the same question."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from build_recorder import Recorder

pytestmark = pytest.mark.docker

SOURCE = Path(__file__).parent.parent / "src"
CLIENTS = (["docker"], [sys.executable, "-m", "pyd_cli"])


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    if shutil.which("docker") is None:
        pytest.skip("not installed here: docker")
    daemon = Recorder(str(tmp_path / "r.sock"))
    yield daemon
    daemon.close()


def call(client: list[str], host: str, argv: list[str], cwd: Path, stdin: bytes = b"") -> tuple[int, str, str]:
    environment = {
        **os.environ, "DOCKER_HOST": host, "PYD_HOST": host, "PYTHONPATH": str(SOURCE), "DOCKER_BUILDKIT": "0",
        "HOME": str(cwd), "GIVEN": "from here",
    }  # fmt: skip
    done = subprocess.run(
        [*client, "build", *argv], cwd=cwd, env=environment, input=stdin, capture_output=True, timeout=60
    )
    notes = ("DEPRECATED: The legacy", "            ")
    errors = [line for line in done.stderr.decode().splitlines() if line and not line.startswith(notes)]
    return done.returncode, done.stdout.decode(), "\n".join(errors)


def both(recorder: Recorder, argv: list[str], cwd: Path, stdin: bytes = b"") -> list[tuple[int, str, str]]:
    return [call(client, recorder.host, argv, cwd, stdin) for client in CLIENTS]


TREE = """
Dockerfile .dockerignore README.md a.txt b.txt ab.txt a+b.txt [x].txt docs/README.md docs/a.md docs/deep/er/a.md docs/deep/b.txt
src/main.go src/main_test.go src/vendor/x.go src/vendor/keep/y.go node_modules/m/index.js node_modules/keep.js
x/node_modules/n.js foo barfoo foo/../foobar dir/foo dir/sub/foo tmp/a tmp/b tmp/.keep .hidden .git/HEAD sub/Dockerfile
empty/.x é.txt build/out/a.o build/in/a.o lib/a.o/file
""".split()

PATTERNS = [
    "",
    "# a comment\n\n   \n",
    "*.md",
    "**/*.md",
    "*/*.md",
    "docs",
    "/docs",
    "docs/",
    "docs/**",
    "docs**",
    "docs/*",
    "./docs/../src",
    "!docs",
    "docs\n!docs/README.md",
    "docs/*\n!docs/deep",
    "docs\n!docs/deep/er/a.md",
    "docs\n!docs/**/a.md",
    "**\n!docs/a.md\n!src",
    "*\n!src\nsrc/vendor\n!src/vendor/keep",
    "*\n!**/*.go",
    "*\n!Dockerfile",
    "**/node_modules",
    "**/node_modules\n!node_modules/keep.js",
    "**foo",
    "**/foo",
    "foo**",
    "dir/**/foo",
    "?.txt",
    "[ab].txt",
    "[a-b].txt",
    "[^a].txt",
    "\\[x\\].txt",
    "a+b.txt",
    "a*.txt\n!ab.txt",
    "  a.txt  ",
    " # no comment",
    "! a.txt",
    "*.txt\n! a.txt",
    ".",
    "/",
    "*",
    "**",
    "**/*",
    "*/*",
    "*/*/*",
    "tmp/*\n!tmp/.keep",
    ".*",
    ".git",
    "Dockerfile\n.dockerignore",
    "**/Dockerfile",
    "é.txt",
    "?.txt\n!é.txt",
    "build/*/a.o",
    "**/*.o",
    "lib/*.o",
    "src//main.go",
    "../x\na.txt",
    "a.txt\r\nb.txt\r",
    "\ufeffa.txt",
    "*.txt\n!*.txt\na.txt",
    "!a.txt\na.txt",
    "**/deep/**",
    "**/deep/*",
    "docs/**/*.md",
    "docs/**/er",
]


def tree(root: Path, names: list[str]) -> None:
    for name in names:
        path = root / name
        if name == "foo":
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            path.write_text("FROM scratch\n" if name.endswith("Dockerfile") else name)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_same_is_left_out(recorder: Recorder, tmp_path: Path, pattern: str) -> None:
    root = tmp_path / "context"
    root.mkdir()
    tree(root, TREE)
    (root / ".dockerignore").write_bytes(pattern.encode())
    assert both(recorder, ["."], root)[0][0] == 0
    theirs, ours = recorder.members(0), recorder.members(1)
    assert [member[0] for member in ours] == [member[0] for member in theirs]
    assert ours == theirs


@pytest.mark.parametrize("pattern", ["[", "a[b", "[]a]", "[a-]", "[-x]", "!", "\\", "[b-a]", "a\n!", "[^]"])
def test_a_pattern_that_makes_no_sense(recorder: Recorder, tmp_path: Path, pattern: str) -> None:
    root = tmp_path / "context"
    root.mkdir()
    tree(root, ["Dockerfile"])
    (root / ".dockerignore").write_text(pattern)
    (theirs, _, said), (ours, _, says) = both(recorder, ["."], root)
    assert (ours, len(recorder.bodies)) == (theirs, 0)
    assert theirs != 0
    assert says
    assert said


def special(root: Path) -> None:
    """Everything that can stand in a directory."""
    tree(root, ["Dockerfile", "d/x", "d/y", "z/last"])
    os.link(root / "d/x", root / "d/hard")
    os.link(root / "d/x", root / "z/hard")
    (root / "link").symlink_to("d/x")
    (root / "dangling").symlink_to("/nonexistent/é")
    (root / "dirlink").symlink_to("d")
    (root / "longlink").symlink_to("l" * 180)
    (root / ("n" * 150)).write_text("long")
    (root / "long" / ("p" * 90) / ("q" * 90)).mkdir(parents=True)
    (root / "long" / ("p" * 90) / ("q" * 90) / "file").write_text("deep")
    (root / "empty").write_text("")
    (root / "exact").write_bytes(b"x" * 1024)
    (root / "old").write_text("old")
    os.utime(root / "old", (0, 0))
    (root / "older").write_text("older")
    os.utime(root / "older", (-1000, -1000))
    os.utime(root / "d/y", ns=(10**18 + 999_999_999, 10**18 + 999_999_999))
    with (root / "sparse").open("wb") as file:
        file.truncate(3_000_000)
        file.seek(1_500_000)
        file.write(b"middle")
    for name, mode in (("setuid", 0o4755), ("setgid", 0o2711), ("sticky", 0o1777), ("none", 0o000)):
        (root / name).write_text(name)
        (root / name).chmod(mode)
    os.mkfifo(root / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(root / "socket"))
    server.close()
    if os.geteuid() == 0:
        os.chown(root / "d/y", 1234, 4321)
        os.mknod(root / "null", 0o20666, os.makedev(1, 3))
        try:
            os.setxattr(
                root / "setgid", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
            )
        except OSError:
            pass  # not on this file system


@pytest.mark.root
def test_every_kind_of_file(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "context"
    root.mkdir()
    monkeypatch.chdir(root)
    special(root)
    assert [status for status, _, _ in both(recorder, ["."], root)] == [0, 0]
    assert recorder.members(1) == recorder.members(0)


LINES: list[list[str]] = [
    ["."],
    ["-t", "a", "--tag", "localhost:5000/b/c:1.2", "."],
    ["--build-arg", "A=1", "--build-arg", "GIVEN", "--build-arg", "UNSET", "--build-arg", "E=", "."],
    ["--label", "l=2", "--label", "bare", "--label", "z=<é&>", "."],
    ["--target", "x", "--platform", "Linux/AMD64", "."],
    ["--no-cache", "--pull", "--force-rm", "--rm=false", "."],
    ["--network", "host", "--add-host", "a:1.2.3.4", "--add-host", "b:::1", "."],
    ["-m", "1g", "--memory-swap", "-1", "--shm-size", "64m", "."],
    ["--cpu-period", "100000", "--cpu-quota", "5", "-c", "7", "--cpuset-cpus", "0-1", "--cpuset-mems", "0", "."],
    ["--ulimit", "nofile=1:2", "--ulimit", "core=0", "--ulimit", "nofile=3", "."],
    ["--cgroup-parent", "/x", "--isolation", "default", "--security-opt", "a=b,c", "--squash", "."],
    ["--isolation", "hyperv", "."],
    ["--cache-from", "a,b", "--cache-from", "c", "."],
    ["--disable-content-trust", "."],
    ["--compress", "."],
    ["-f", "sub/Dockerfile", "."],
    ["-f", "sub/Dockerfile", "sub"],
    ["sub"],
    ["linked"],
    ["-f", "link.Dockerfile", "."],
    ["lower"],
    ["-q", "."],
    ["-q", "--iidfile", "id", "."],
    ["--iidfile", "id", "."],
]


def prepare(root: Path) -> None:
    tree(root, ["Dockerfile", ".dockerignore", "a/b", "sub/Dockerfile", "sub/x", "lower/dockerfile", "empty/x"])
    (root / ".dockerignore").write_text("*.sock\n")
    (root / "empty/x").unlink()
    (root / "linked").symlink_to("sub")
    (root / "link.Dockerfile").symlink_to("sub/Dockerfile")


@pytest.mark.parametrize("argv", LINES, ids=" ".join)
def test_the_same_question(recorder: Recorder, tmp_path: Path, argv: list[str]) -> None:
    root = tmp_path / "context"
    root.mkdir()
    prepare(root)
    results, written = [], []
    for client in CLIENTS:
        results.append(call(client, recorder.host, argv, root))
        written.append((root / "id").read_text() if (root / "id").exists() else None)
        (root / "id").unlink(missing_ok=True)
    theirs, ours = results
    assert ours == (
        theirs[0],
        theirs[1].replace("Docker daemon", "pyd daemon") if "--compress" not in argv else ours[1],
        theirs[2],
    )
    assert written[0] == written[1]
    assert structured(recorder.query(1)) == structured(recorder.query(0))
    assert recorder.members(1) == recorder.members(0)
    assert recorder.fields[1]["x-registry-config"] == recorder.fields[0]["x-registry-config"]


def structured(query: list[tuple[str, str]]) -> list[tuple[str, Any]]:
    """JSON has no order of names."""
    import json

    return [(name, json.loads(value) if value[:1] in ("{", "[") else value) for name, value in query]


@pytest.mark.parametrize("argv", [["-f", "-", "."], ["-f", "../outside", "."], ["-f", "-", "ignoring"]], ids=" ".join)
def test_a_recipe_from_elsewhere_has_a_name_of_its_own(recorder: Recorder, tmp_path: Path, argv: list[str]) -> None:
    root = tmp_path / "context"
    root.mkdir()
    prepare(root)
    (tmp_path / "outside").write_text("FROM outside\n")
    tree(root, ["ignoring/Dockerfile", "ignoring/x"])
    (root / "ignoring/.dockerignore").write_text("x\nDockerfile\n.dockerignore\n")
    assert [status for status, _, _ in both(recorder, argv, root, b"FROM stdin\n")] == [0, 0]

    def neutral(index: int) -> dict[str, tuple[Any, ...]]:
        name = dict(recorder.query(index))["dockerfile"]
        assert name.startswith(".dockerfile.")
        assert len(name) == 32
        return {
            member[0].replace(name, "RECIPE"): (
                *member[1:5],
                *member[6:7],
                member[-1].replace(name.encode(), b"RECIPE"),
            )
            for member in recorder.members(index)
        }

    assert {name: item[-1] for name, item in neutral(1).items()} == {
        name: item[-1] for name, item in neutral(0).items()
    }
    assert neutral(1) == neutral(0)


@pytest.mark.parametrize("packed", ["", "gz", "bz2", "xz", "recipe", "nothing"])
def test_stdin_is_an_archive_or_a_recipe(recorder: Recorder, tmp_path: Path, packed: str) -> None:
    import io
    import tarfile

    stdin = b"" if packed == "nothing" else b"FROM scratch\n"
    if packed not in ("recipe", "nothing"):
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode=f"w:{packed}") as archive:  # type: ignore[call-overload]
            item = tarfile.TarInfo("Dockerfile")
            item.size = len(stdin)
            archive.addfile(item, io.BytesIO(stdin))
        stdin = whole.getvalue()
    theirs, ours = both(recorder, ["-"], tmp_path, stdin)
    assert ours[0] == theirs[0] == 0
    assert recorder.query(1) == recorder.query(0)
    if packed in ("recipe", "nothing"):
        assert [(m[0], m[-1]) for m in recorder.members(1)] == [(m[0], m[-1]) for m in recorder.members(0)]
    else:
        assert recorder.bodies[1] == recorder.bodies[0] == stdin


BAD: list[list[str]] = [
    ["nosuch"],
    [],
    [".", "."],
    ["-f", "nosuch", "."],
    ["empty"],
    ["Dockerfile"],
    ["-f", "-", "-"],
    ["-t", "Foo", "."],
    ["-t", "a:b:c", "."],
    ["-t", "", "."],
    ["--foo", "."],
    ["-z", "."],
    ["--memory", "1q", "."],
    ["--cpu-shares", "x", "."],
    ["--ulimit", "foo=1", "."],
    ["--ulimit", "nofile=2:1", "."],
    ["--add-host", "a", "."],
    ["--build-arg", "=x", "."],
    ["--rm=maybe", "."],
    ["--iidfile"],
    ["--iidfile", "no/such", "."],
    ["loop"],
    ["-f", "loop", "."],
    ["dangling"],
    [""],
]


@pytest.mark.parametrize("argv", BAD, ids=" ".join)
def test_the_same_refusal(recorder: Recorder, tmp_path: Path, argv: list[str]) -> None:
    root = tmp_path / "context"
    root.mkdir()
    prepare(root)
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    theirs, ours = both(recorder, argv, root)
    said = re.sub(r"\bdocker(?=[: ])", "pyd", theirs[2])
    assert (ours[0], ours[2]) == (theirs[0], said)
    assert theirs[0] != 0
