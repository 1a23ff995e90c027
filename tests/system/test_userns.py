"""Containers whose root is nobody on the host: `userns-remap`, and what opts out of it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients import IMAGE, Client, docker_program
from engine_under_test import BIN, OCI, Daemon, subordinate_ids

pytestmark = [pytest.mark.root, pytest.mark.docker]
FIRST = 300_000


@pytest.fixture(scope="module")
def ranges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ranges for dockremap."""
    folder = tmp_path_factory.mktemp("ranges")
    with subordinate_ids(folder, f"somebody:100000:65536\ndockremap:{FIRST}:65536\n"):
        yield folder


@pytest.fixture(scope="module", params=["overlay", "vfs", *(f"overlay, {name}" for name in OCI)])
def remapped(
    request: pytest.FixtureRequest,
    ranges: Path,
    new_pydd: Callable[..., Daemon],
    image_archive: Path,
    client_environment: dict[str, str],
) -> Client:
    """The docker client of a daemon that remaps, on each storage driver; and with each runtime as the default."""
    storage, _, runtime = request.param.partition(", ")
    more = f'[isolation]\ndefault = "oci"\n[isolation.oci]\ndefault = "{runtime}"\n' if runtime else ""
    daemon = new_pydd(f'userns-remap = "default"\n[storage]\ndefault = "{storage}"\n{more}')
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    return docker


def test_who_it_is(remapped: Client) -> None:
    said = remapped(
        "run", "--rm", IMAGE, "sh", "-c", "id; cat /proc/self/uid_map; stat -c %u:%g / /etc/hosts /dev/null"
    )
    assert said.stdout.splitlines()[0].startswith("uid=0(root) gid=0(root)")
    assert said.stdout.split()[-6:] == ["0", str(FIRST), "65536", "0:0", "0:0", "0:0"]
    assert "name=userns" in remapped("info", "-f", "{{.SecurityOptions}}").stdout


def test_opting_out(remapped: Client) -> None:
    said = remapped("run", "--rm", "--userns=host", "--privileged", IMAGE, "cat", "/proc/self/uid_map")
    assert said.stdout.split() == ["0", "0", "4294967295"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--privileged"], "privileged mode is incompatible with user namespaces"),
        (["--network", "host"], "cannot share the host's network namespace when user namespaces are enabled"),
        (["--pid", "host"], "cannot share the host PID namespace when user namespaces are enabled"),
        (["--userns", "private"], "invalid"),
    ],
)
def test_what_it_excludes(remapped: Client, flags: list[str], words: str) -> None:
    done = remapped("run", "--rm", *flags, IMAGE, "true", check=False)
    assert (done.returncode, words in done.stderr) == (125, True), done.stderr


def test_binds_show_the_hosts_ids(remapped: Client, tmp_path: Path) -> None:
    bound = tmp_path / "bound"
    bound.mkdir()
    bound.chmod(0o777)
    secret = bound / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    script = "stat -c %u /b/secret; touch /b/made; stat -c %u /b/made; cat /b/secret"
    done = remapped("run", "--rm", "-v", f"{bound}:/b", IMAGE, "sh", "-c", script, check=False)
    assert (done.stdout.split(), done.returncode) == (["65534", "0"], 1)
    assert "Permission denied" in done.stderr
    assert (bound / "made").stat().st_uid == FIRST


def test_volumes_are_shared_with_containers_of_the_host(remapped: Client, name: str) -> None:
    script = "stat -c %u /v /v/1 2>/dev/null; touch /v/1; chown 5 /v/1"
    try:
        assert remapped("run", "--rm", "-v", f"{name}:/v", IMAGE, "sh", "-c", script).stdout.split() == ["0"]
        said = remapped("run", "--rm", "--userns=host", "-v", f"{name}:/v", IMAGE, "sh", "-c", script)
        assert said.stdout.split() == ["0", "5"]
        assert remapped("run", "--rm", "-v", f"{name}:/v", IMAGE, "sh", "-c", script).stdout.split() == ["0", "5"]
    finally:
        remapped("volume", "rm", "-f", name)


@pytest.mark.parametrize("running", [True, False])
def test_files_have_the_ids_of_inside(remapped: Client, name: str, running: bool, tmp_path: Path) -> None:
    """cp both ways, diff, export and commit, of a container that runs and of one that does not."""
    bound = tmp_path / "bound"
    bound.mkdir()
    (bound / "theirs").write_text("")
    (tmp_path / "in").write_text("in")
    script = "touch /made; chown 7:8 /made; touch /b/mine 2>/dev/null; echo done; exec sleep 100"
    bound.chmod(0o777)
    try:
        remapped("run", "-d", "--name", name, "-v", f"{bound}:/b", IMAGE, "sh", "-c", script)
        while "done" not in remapped("logs", name).stdout:
            pass
        if not running:
            remapped("kill", name)
            remapped("wait", name)
        remapped("cp", tmp_path / "in", f"{name}:/in")
        assert owners(remapped, "cp", f"{name}:/in", "-") == {"in": (0, 0)}
        assert owners(remapped, "cp", f"{name}:/made", "-") == {"made": (7, 8)}
        assert owners(remapped, "cp", f"{name}:/b", "-") == {
            "b/": (65534, 65534),
            "b/mine": (0, 0),
            "b/theirs": (65534, 65534),
        }
        assert {"A /in", "A /made"} <= set(remapped("diff", name).stdout.splitlines())
        exported = owners(remapped, "export", name)
        assert (exported["made"], exported["bin/busybox"]) == ((7, 8), (0, 0))
        remapped("commit", name, f"{name}:x")
        for flags in ([], ["--userns=host"]):
            said = remapped("run", "--rm", *flags, f"{name}:x", "stat", "-c", "%u:%g", "/made", "/in", "/bin/busybox")
            assert said.stdout.split() == ["7:8", "0:0", "0:0"]
        if running:
            assert remapped("exec", name, "stat", "-c", "%u:%g", "/made", "/in").stdout.split() == ["7:8", "0:0"]
            assert remapped("top", name, "-o", "pid,uid").stdout.split()[3] == str(FIRST)
    finally:
        remapped("rm", "-f", name)
        remapped("rmi", f"{name}:x", check=False)


def owners(docker: Client, *words: str) -> dict[str, tuple[int, int]]:
    """Who owns what in the archive that a command writes."""
    done = subprocess.run(
        [*docker.program, *words], capture_output=True, check=True, env=docker.environment, timeout=60
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return {each.name + "/" * each.isdir(): (each.uid, each.gid) for each in archive}


def test_networks(remapped: Client, name: str) -> None:
    """A port that is published, names, and another container in the same network namespace."""
    try:
        serve = "echo hello > /index.html; exec httpd -f -p 80 -h /"
        remapped("network", "create", name)
        remapped("run", "-d", "--name", name, "--network", name, "-p", "127.0.0.1::80", IMAGE, "sh", "-c", serve)
        port = remapped("port", name, "80").stdout.strip()
        fetch = "until wget -q -O - http://{}/; do :; done"
        assert remapped("run", "--rm", "--network", name, IMAGE, "sh", "-c", fetch.format(name)).stdout == "hello\n"
        shared = ("run", "--rm", "--network", f"container:{name}")
        assert remapped(*shared, IMAGE, "sh", "-c", fetch.format("127.0.0.1")).stdout == "hello\n"
        assert subprocess.run(["curl", "-s", f"http://{port}/"], capture_output=True, text=True).stdout == "hello\n"
        script = "cat /proc/self/uid_map; wget -q -O - http://127.0.0.1/"
        said = remapped(*shared, "--userns=host", IMAGE, "sh", "-c", script).stdout.split()
        assert said == ["0", "0", "4294967295", "hello"]
        remapped("rm", "-f", name)
        remapped("run", "-d", "--name", name, "--userns=host", IMAGE, "sleep", "100")
        done = remapped(*shared, IMAGE, "true", check=False)
        assert "of a container without user namespace: run this one with --userns=host, too" in done.stderr
    finally:
        remapped("rm", "-f", name)
        remapped("network", "rm", name)


def test_healthy_and_adopted(ranges: Path, new_pydd: Callable[..., Daemon], image_archive: Path, name: str,
                             client_environment: dict[str, str]) -> None:  # fmt: skip
    """A daemon that was killed, and started again without the setting, still works in what it finds."""
    daemon = new_pydd('userns-remap = "default"\n')
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("run", "-d", "--name", name, IMAGE, "sleep", "100")
    daemon.kill()
    daemon.config.write_text(daemon.config.read_text().replace("userns-remap", "#"))
    daemon.start()
    assert docker("exec", name, "cat", "/proc/self/uid_map").stdout.split() == ["0", str(FIRST), "65536"]
    docker("restart", "-t", "0", name)
    assert docker("exec", name, "cat", "/proc/self/uid_map").stdout.split() == ["0", "0", "4294967295"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("nobody", "has no range for nobody; add one with: echo nobody:365536:65536 >> /etc/subuid"),
        ("a:b:c", 'must be "default", "user", "user:group" or "uid:gid"'),
        (":", 'must be "default", "user", "user:group" or "uid:gid"'),
    ],
)
def test_settings_that_cannot_be(ranges: Path, setting: str, words: str, tmp_path: Path) -> None:
    config = tmp_path / "pyd.toml"
    config.write_text(f'data-root = "{tmp_path}/data"\nrun-root = "{tmp_path}/run"\n')
    for flags in (["--validate"], []):
        command = [str(BIN / "pydd"), "--config", str(config), "--userns-remap", setting, *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
