"""Files in and out of containers: copy, export, diff, commit, and what cannot be reached by them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import Client
from engine_under_test import Daemon
from unix_http import ApiError

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

Box = Callable[..., str]
TREE = (
    "mkdir -p /t/deep/er /t/empty; echo one >/t/file; ln /t/file /t/same; ln -s file /t/link; ln -s / /t/root; mkfifo /t/pipe;"
    "mknod /t/null c 1 3; chmod 4755 /t/file; chown 7:8 /t/deep; chmod 1777 /t/deep; echo x >'/t/a name with  blanks';"
    "touch -d '2001-02-03 04:05:06' /t/file; head -c 200000 /dev/urandom >/t/deep/er/big; "
    "echo l >/t/$(printf 'n%.0s' $(seq 200))"
)


def digest(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree but owners, which the client does not keep, and times."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = os.readlink(path) if path.is_symlink() else ""
        mode = 0 if path.is_symlink() else status.st_mode
        name = str(path.relative_to(root))
        found[name] = (mode, status.st_rdev, target, hashlib.sha256(content).hexdigest())
    return found


@pytest.fixture
def containers(docker: Client, box: Box) -> Callable[[str], str]:
    """Containers with the tree /t in each state."""

    def make(state: str) -> str:
        container = box("sh", "-c", f"{TREE}; echo ready; sleep 1000")
        while "ready" not in docker("logs", container).stdout:
            pass
        if state == "exited":
            docker("kill", container)
        elif state == "paused":
            docker("pause", container)
        return container

    return make


# --- copy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "exited", "paused"])
def test_a_tree_comes_out_and_goes_in_again(
    docker: Client, containers: Callable[[str], str], tmp_path: Path, state: str
) -> None:
    container = containers(state)
    docker("cp", "-a", f"{container}:/t", tmp_path / "out")
    found = digest(tmp_path / "out")
    assert {"file", "same", "link", "root", "deep/er/big", "null", "a name with  blanks", "n" * 200} <= set(found)
    assert found["file"][0] == 0o104755
    command = [*docker.program, "cp", f"{container}:/t", "-"]
    raw = subprocess.run(command, env=docker.environment, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        owners = {each.name: (each.uid, each.gid) for each in tar}
    assert owners["t/deep"] == (7, 8)
    assert (tmp_path / "out/file").stat().st_ino == (tmp_path / "out/same").stat().st_ino
    assert (tmp_path / "out/file").stat().st_mtime == 981173106
    docker("cp", "-a", tmp_path / "out", f"{container}:/again")
    docker("cp", "-a", f"{container}:/again", tmp_path / "back")
    assert digest(tmp_path / "back") == found


def test_files_directories_and_names(cli: Client, box: Box, tmp_path: Path) -> None:
    container = box("sleep", "1000")
    (tmp_path / "file").write_text("content\n")
    cli("cp", tmp_path / "file", f"{container}:/copied")
    cli("cp", tmp_path / "file", f"{container}:/tmp/")
    assert cli("exec", container, "cat", "/copied", "/tmp/file").stdout == "content\ncontent\n"
    cli("cp", f"{container}:/copied", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "content\n"
    cli("exec", container, "ln", "-s", "/copied", "/link")
    cli("cp", "-L", f"{container}:/link", tmp_path / "followed")
    assert (tmp_path / "followed").read_text() == "content\n"
    cli("cp", f"{container}:/link", tmp_path / "kept")
    assert os.readlink(tmp_path / "kept") == "/copied"
    for words, said in (
        ((f"{container}:/nosuch", tmp_path / "x"), "Could not find the file /nosuch in container"),
        ((tmp_path / "file", f"{container}:/no/such/dir/"), "no such"),
        ((tmp_path / "file", f"{container}:/copied/"), "directory"),
    ):
        done = cli("cp", *words, check=False)
        assert (done.returncode, said in done.stderr.lower() or said in done.stderr) == (1, True), done.stderr


def test_volumes_and_binds_are_where_the_container_sees_them(
    docker: Client, box: Box, tmp_path: Path, name: str
) -> None:
    (tmp_path / "bound").mkdir()
    flags = ("-v", f"{name}:/volume", "-v", f"{tmp_path}/bound:/bound", "-v", f"{tmp_path}/bound:/ro:ro")
    container = box("sleep", "1000", flags=flags)
    try:
        (tmp_path / "file").write_text("x")
        for number in (1, 2):
            docker("cp", tmp_path / "file", f"{container}:/volume/v{number}")
            docker("cp", tmp_path / "file", f"{container}:/bound/b{number}")
            refused = docker("cp", tmp_path / "file", f"{container}:/ro/r", check=False)
            assert "read-only" in refused.stderr
            docker("stop", "-t", "0", container)
        assert sorted(each.name for each in (tmp_path / "bound").iterdir()) == ["b1", "b2"]
        docker("cp", f"{container}:/volume", tmp_path / "out")
        assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["v1", "v2"]
    finally:
        docker("rm", "-f", container)
        docker("volume", "rm", "-f", name)


def test_a_read_only_root_is_not_written(docker: Client, box: Box, tmp_path: Path) -> None:
    container = box("sleep", "1000", flags=("--read-only",))
    (tmp_path / "file").write_text("x")
    done = docker("cp", tmp_path / "file", f"{container}:/x", check=False)
    assert (done.returncode, "marked read-only" in done.stderr) == (1, True)


@pytest.mark.parametrize("compress", ["", "gz", "bz2", "xz"])
def test_archives_as_they_are(pydd: Daemon, docker: Client, box: Box, compress: str) -> None:
    container = box("sleep", "1000")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=f"w:{compress}") as tar:  # type: ignore[call-overload]
        entry = tarfile.TarInfo("made/inside/file")
        entry.size, entry.uid, entry.mode = 3, 42, 0o640
        tar.addfile(entry, io.BytesIO(b"abc"))
    api = pydd.api()
    try:
        api.call("PUT", f"/containers/{container}/archive?path=/tmp", archive.getvalue())
    finally:
        api.close()
    assert docker("exec", container, "stat", "-c", "%u %a %s", "/tmp/made/inside/file").stdout == "42 640 3\n"


@pytest.mark.parametrize("name", ["../escaped", "/../escaped", "a/../../escaped"])
def test_names_that_would_leave_the_directory(pydd: Daemon, docker: Client, box: Box, name: str) -> None:
    container = box("sleep", "1000")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        tar.addfile(entry)
    api = pydd.api()
    try:
        with pytest.raises(ApiError) as refused:
            api.call("PUT", f"/containers/{container}/archive?path=/tmp", archive.getvalue())
    finally:
        api.close()
    assert refused.value.status == 400
    assert docker("exec", container, "ls", "/tmp", "/escaped", check=False).stdout.strip() == "/tmp:"


# --- what it cannot reach ----------------------------------------------------------------------------------------


def test_links_lead_nowhere_but_into_the_container(docker: Client, box: Box, tmp_path: Path) -> None:
    """CVE-2018-15664, CVE-2019-14271: the container's own links, while a process of it exchanges them all the time."""
    (tmp_path / "sentinel").write_text("the host's\n")
    script = (
        f"mkdir -p /real{tmp_path} {tmp_path}; echo mine >/real/sentinel; mkdir /place; cp /real/sentinel /place/sentinel;"
        f"while :; do rm -rf /swap; ln -s {tmp_path} /swap; rm -rf /swap; mkdir /swap; echo mine >/swap/sentinel; done"
    )
    container = box("sh", "-c", script)
    source = tmp_path / "in"
    source.write_text("written by cp\n")
    stop = threading.Event()
    faults: list[str] = []

    def copy_out(number: int) -> None:
        while not stop.is_set():
            out = docker("cp", f"{container}:/swap/sentinel", "-", check=False)
            if "the host's" in out.stdout:
                faults.append(f"{number}: read the host's file")

    def copy_in(number: int) -> None:
        while not stop.is_set():
            docker("cp", source, f"{container}:/swap/sentinel", check=False)
            if (tmp_path / "sentinel").read_text() != "the host's\n":
                faults.append(f"{number}: wrote the host's file")

    threads = [threading.Thread(target=of, args=(number,)) for number in range(2) for of in (copy_out, copy_in)]
    for each in threads:
        each.start()
    stop.wait(6)
    stop.set()
    for each in threads:
        each.join()
    assert not faults
    assert (tmp_path / "sentinel").read_text() == "the host's\n"


# --- diff, export, commit ----------------------------------------------------------------------------------------


def changes(docker: Client, container: str) -> set[str]:
    return set(docker("diff", container).stdout.splitlines())


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_diff_and_commit(docker: Client, box: Box, warm: str, name: str, driver: str) -> None:
    script = (
        "echo new >/etc/new; rm /bin/true; echo more >>/etc/passwd; mkdir -p /made/inner; echo f >/made/inner/f;"
        "ln /made/inner/f /made/hard; ln -s /x /made/link; rm -rf /bin/false; mkdir /bin/false; chmod 700 /root; touch -t"
        " 200102030405 /made/old; echo done; sleep 1000"
    )
    flags = ("--storage-opt", f"driver={driver}") if driver != "overlay" else ()
    container = box("sh", "-c", script, flags=flags)
    while "done" not in docker("logs", container).stdout:
        pass
    wanted = {
        "C /etc", "A /etc/new", "C /etc/passwd", "C /bin", "D /bin/true", "A /made", "A /made/inner", "A /made/inner/f",
        "A /made/hard", "A /made/link", "A /made/old", "C /bin/false", "C /root",
    }  # fmt: skip
    assert changes(docker, container) == wanted
    docker("stop", "-t", "0", container)
    assert changes(docker, container) == wanted
    image = docker(
        "commit", "-a", "me", "-m", "why", "-c", "ENV A=b", "-c", 'CMD ["env"]', container, name
    ).stdout.strip()
    try:
        assert "A=b" in docker("run", "--rm", name).stdout.splitlines()
        check = (
            "cat /etc/new /made/hard; stat -c %h /made/inner/f; readlink /made/link; ls /bin/true; stat -c %F /bin/false;"
            "stat -c %a /root; tail -1 /etc/passwd; stat -c %Y /made/old"
        )
        done = docker("run", "--rm", name, "sh", "-c", check)
        assert done.stdout.splitlines() == ["new", "f", "2", "/x", "directory", "700", "more", "981173100"]
        assert "No such file" in done.stderr
        document = json.loads(docker("image", "inspect", image).stdout)[0]
        assert (document["Author"], document["Comment"], document["Id"]) == ("me", "why", image)
        assert (
            changes(docker, docker("run", "-d", "--name", f"{name}-2", name, "sh", "-c", ":").stdout.strip()) == set()
        )
        docker("rm", f"{name}-2")
    finally:
        docker("rm", "-f", container)
        docker("rmi", "-f", name)


def test_commit_of_nothing_adds_no_layer(docker: Client, box: Box, warm: str, name: str) -> None:
    container = box("true")
    docker("wait", container)
    docker("commit", container, name)
    try:
        layers = "{{len .RootFS.Layers}}"
        assert docker("inspect", "-f", layers, name).stdout == docker("inspect", "-f", layers, warm).stdout
    finally:
        docker("rmi", "-f", name)


def test_export_is_the_root_file_system(docker: Client, box: Box, tmp_path: Path, name: str) -> None:
    container = box("sh", "-c", "echo x >/exported; echo y >/volume/y; sleep 1000", flags=("-v", "/volume"))
    for _ in range(2):
        docker("export", "-o", tmp_path / "root.tar", container)
        with tarfile.open(tmp_path / "root.tar") as tar:
            names = set(tar.getnames())
        assert {"exported", "bin", "bin/busybox", "etc/passwd"} <= names
        assert "volume/y" not in names
        assert not [each for each in names if each.startswith("proc/")]
        docker("stop", "-t", "0", container)
    docker("import", tmp_path / "root.tar", name)
    try:
        assert docker("run", "--rm", name, "/bin/cat", "/exported").stdout == "x\n"
    finally:
        docker("rmi", name)


def test_a_client_that_leaves_leaves_nothing(docker: Client, box: Box, pydd: Daemon) -> None:
    """The oracle of the fixture `snapshot` looks for processes, mounts and files afterwards."""
    container = box("sh", "-c", "head -c 30000000 /dev/zero >/big; sleep 1000")
    for words in (("export", container), ("cp", f"{container}:/big", "-")):
        with docker.start(*words) as client:
            assert client.stdout is not None
            assert client.stdout.fileno() >= 0
            os.read(client.stdout.fileno(), 1000)
            client.kill()
            client.communicate(timeout=30)
