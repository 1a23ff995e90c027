"""``--runtime``: containers of several isolation backends and OCI runtimes side by side in one daemon, by the docker client."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients import IMAGE, Client, docker_program, until
from engine_under_test import OCI, Daemon, instance_of
from unix_http import ApiError

pytestmark = [pytest.mark.root, pytest.mark.docker]

ALL = ["namespaces", *OCI]


@pytest.fixture(scope="module")
def daemon(new_pydd: Callable[..., Daemon]) -> Daemon:
    """The daemon of this module: it is killed, and started again."""
    if not OCI:
        pytest.skip("neither runc nor crun is installed (scripts/provision)")
    return new_pydd()


@pytest.fixture(scope="module")
def docker(daemon: Daemon, client_environment: dict[str, str], image_archive: Path) -> Client:
    client = Client((docker_program(), "-H", daemon.url), client_environment)
    client("load", "-q", "-i", image_archive)
    return client


@pytest.fixture(autouse=True)
def nothing_left(daemon: Daemon, docker: Client) -> Iterator[None]:
    """At the end there are no containers, and of none is anything left in a run directory or in the table of mounts."""
    yield
    if left := docker("ps", "-aq").stdout.split():
        docker("rm", "-f", *left)
    until(lambda: traces(daemon) == [], "nothing is left")


def traces(daemon: Daemon) -> list[str]:
    """What a runtime or the engine keeps of containers, and control groups of this daemon's."""
    found = [str(path) for path in daemon.run.glob("isolation/*/containers/*")]
    found += [str(path) for path in daemon.run.glob("isolation/oci/runtimes/*/*")]
    found += [str(path) for path in daemon.run.glob("containers/" + "[0-9a-f]" * 64)]
    found += [
        str(path) for path in Path("/sys/fs/cgroup").glob(f"**/pyd-{instance_of(daemon.data)}/*") if path.is_dir()
    ]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return found + [line for line in mounts if f"{daemon.run}/containers" in line]


def test_the_oci_backend_stands_among_the_runtimes(docker: Client) -> None:
    info = json.loads(docker("info", "-f", "{{json .}}").stdout)
    assert {"namespaces", "oci", *OCI} <= set(info["Runtimes"])
    assert info["DefaultRuntime"] == "namespaces"
    assert all(info["Runtimes"][name]["path"] == shutil.which(name) for name in OCI)


def test_an_unknown_one_is_refused_as_dockerd_does(daemon: Daemon, docker: Client) -> None:
    api = daemon.api()
    try:
        with pytest.raises(ApiError, match="unknown or invalid runtime name: nosuch") as refused:
            api.json("POST", "/containers/create", {"Image": IMAGE, "HostConfig": {"Runtime": "nosuch"}})
    finally:
        api.close()
    assert refused.value.status == 400
    assert docker("run", "--runtime", "nosuch", IMAGE, "true", check=False).returncode == 125


@pytest.mark.parametrize("runtime", ALL)
def test_inside(docker: Client, runtime: str) -> None:
    script = "grep -E '^(CapEff|Seccomp):' /proc/self/status; ls /proc/$$/fd; hostname; exit 7"
    done = docker("run", "--rm", "--runtime", runtime, "-h", "box", IMAGE, "sh", "-c", script, check=False)
    assert done.stdout.split() == ["CapEff:", "00000000a80425fb", "Seccomp:", "2", "0", "1", "2", "box"]
    assert done.returncode == 7


@pytest.mark.parametrize("runtime", ALL)
def test_exit_codes_of_what_cannot_be_run(docker: Client, runtime: str) -> None:
    for program, code, words in (("nosuch", 127, "executable file not found"), ("/etc", 126, "")):
        done = docker("run", "--rm", "--runtime", runtime, IMAGE, program, check=False)
        assert done.returncode == code
        assert f'exec: "{program}"' in done.stderr
        assert words in done.stderr
    docker("run", "-d", "--name", "box", "--runtime", runtime, IMAGE, "sleep", "1000")
    assert docker("exec", "box", "nosuch", check=False).returncode == 127
    assert docker("exec", "box", "/etc", check=False).returncode == 126


@pytest.mark.parametrize("runtime", ALL)
def test_the_life_of_a_container(docker: Client, runtime: str, tmp_path: Path) -> None:
    docker("run", "-d", "--name", "box", "--runtime", runtime, IMAGE, "sh", "-c", "echo said; exec sleep 1000")
    assert docker("inspect", "-f", "{{.HostConfig.Runtime}}", "box").stdout.strip() == runtime
    until(lambda: docker("logs", "box").stdout == "said\n", "its output")
    assert docker(
        "exec", "-i", "-u", "1000:1000", "-w", "/tmp", "box", "sh", "-c", "cat; id -u; pwd", stdin="in "
    ).stdout == ("in 1000\n/tmp\n")
    assert "sleep 1000" in docker("top", "box").stdout
    docker("pause", "box")
    assert docker("inspect", "-f", "{{.State.Status}}", "box").stdout.strip() == "paused"
    docker("unpause", "box")
    docker("update", "--pids-limit", "77", "box")
    assert json.loads(docker("stats", "--no-stream", "--format", "{{json .}}", "box").stdout)["PIDs"] == "1"
    (tmp_path / "file").write_text("copied")
    docker("cp", tmp_path / "file", "box:/file")
    assert docker("exec", "box", "cat", "/file").stdout == "copied"
    docker("stop", "-t", "1", "box")
    assert docker("inspect", "-f", "{{.State.ExitCode}}", "box").stdout.strip() == "137"
    docker("start", "box")
    docker("restart", "-t", "0", "box")
    assert docker("exec", "box", "cat", "/file").stdout == "copied"


@pytest.mark.parametrize("runtime", ALL)
def test_a_terminal(docker: Client, runtime: str) -> None:
    with docker.terminal("run", "-it", "--rm", "--runtime", runtime, IMAGE, "sh", rows=31, columns=97) as terminal:
        terminal.type("stty size; tty\n")
        terminal.expect("31 97")
        terminal.expect("/dev/pts/0")
        terminal.type("exit 5\n")
        assert terminal.wait() == 5


def test_runtimes_of_the_configuration(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> None:
    if not OCI:
        pytest.skip("neither runc nor crun is installed (scripts/provision)")
    table = f'[isolation.oci.runtimes.mine]\npath = "{shutil.which(OCI[-1])}"\noptions = ["--debug"]\n'
    daemon = new_pydd(f'[isolation]\ndefault = "oci"\n{table}')
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    info = json.loads(docker("info", "-f", "{{json .}}").stdout)
    assert set(info["Runtimes"]) == {"namespaces", "oci", "mine"}
    assert info["DefaultRuntime"] == "mine"
    assert docker("run", "--rm", IMAGE, "echo", "ran").stdout == "ran\n"
    assert docker("run", "--runtime", OCI[0], IMAGE, "true", check=False).returncode == 125
    daemon.close()


def test_containers_keep_their_backend(daemon: Daemon, docker: Client) -> None:
    for runtime in ALL:
        script = "echo began; trap 'exit 9' TERM; while :; do sleep 0.05; done"
        docker("run", "-d", "--name", f"of-{runtime}", "--runtime", runtime, IMAGE, "sh", "-c", script)
        until(lambda runtime=runtime: docker("logs", f"of-{runtime}").stdout == "began\n", "it runs")  # type: ignore[misc]

    daemon.kill()
    daemon.start("--isolation", "oci")

    assert docker("info", "-f", "{{.DefaultRuntime}}").stdout.strip() == OCI[0]
    for runtime in ALL:
        assert docker("exec", f"of-{runtime}", "echo", "alive").stdout == "alive\n"
        assert docker("inspect", "-f", "{{.HostConfig.Runtime}}", f"of-{runtime}").stdout.strip() == runtime
        docker("stop", f"of-{runtime}")
        assert docker("inspect", "-f", "{{.State.ExitCode}}", f"of-{runtime}").stdout.strip() == "9"
    docker("run", "-d", "--name", "new", IMAGE, "sleep", "1000")
    assert docker("inspect", "-f", "{{.HostConfig.Runtime}}", "new").stdout.strip() == OCI[0]


@pytest.mark.parametrize("runtime", OCI)
def test_restart_policy_and_health(docker: Client, runtime: str) -> None:
    docker("run", "-d", "--name", "again", "--runtime", runtime, "--restart", "on-failure:2", IMAGE, "false")
    until(lambda: docker("inspect", "-f", "{{.RestartCount}}", "again").stdout == "2\n", "it was tried again twice")
    flags = ("--health-cmd", "true", "--health-interval", "1s")
    docker("run", "-d", "--name", "well", "--runtime", runtime, *flags, IMAGE, "sleep", "1000")
    until(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", "well").stdout == "healthy\n", "it is healthy")
