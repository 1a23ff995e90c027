"""Legacy links (`--link`): on the default network, and as aliases on networks that users make."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients import IMAGE, Client, docker_program
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]
Box = Callable[..., str]


@pytest.fixture
def kid(box: Box, name: str) -> str:
    """A container that others are linked to."""
    box("sleep", "100", flags=("--name", name, "-e", "HELLO=world", "--expose", "80"))
    return name


def address(docker: Client, ref: str) -> str:
    return docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", ref).stdout.strip()


def test_hosts_and_variables(docker: Client, warm: str, kid: str) -> None:
    said = docker(
        "run", "--rm", "--link", f"{kid}:al", warm, "sh", "-c", "grep al$'\\|'al' ' /etc/hosts; env; ping -c1 -q al"
    )
    where = address(docker, kid)
    lines = said.stdout.splitlines()
    assert any(line.split()[0] == where and line.split()[1::2] == ["al", kid] for line in lines if "\t" in line)
    assert {f"AL_PORT_80_TCP=tcp://{where}:80", "AL_ENV_HELLO=world"} <= set(lines)


def test_names_inspect_and_removal(docker: Client, box: Box, kid: str) -> None:
    parent = f"{kid}-p"
    box("sleep", "100", flags=("--name", parent, "--link", f"{kid}:al"))
    assert json.loads(docker("inspect", "-f", "{{json .HostConfig.Links}}", parent).stdout) == [f"/{kid}:/{parent}/al"]
    assert docker("inspect", "-f", "{{.Name}}", f"{parent}/al").stdout.strip() == f"/{kid}"
    shown = docker("ps", "--no-trunc", "--format", "{{.Names}}", "-f", f"name={kid}$").stdout.split()
    assert shown == [f"{kid},{parent}/al"]
    assert "AL_ENV_HELLO=world" in docker("exec", parent, "env").stdout
    done = docker("rm", "--link", kid, check=False)
    assert "Conflict, cannot remove the default link name of the container" in done.stderr
    assert docker("rm", "--link", f"{parent}/al").stdout.strip() == f"{parent}/al"
    assert docker("inspect", "-f", "{{json .HostConfig.Links}}", parent).stdout.strip() == "null"
    assert " " + kid not in docker("exec", parent, "cat", "/etc/hosts").stdout
    assert f"No such container: {parent}/al" in docker("rm", "--link", f"{parent}/al", check=False).stderr


def test_an_exec_by_the_next_daemon(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> None:
    """Its variables are those of now, as dockerd has it: who was linked to has another address meanwhile."""
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("run", "-d", "--name", "kid", "-e", "HELLO=world", "--expose", "80", IMAGE, "sleep", "100")
    docker("run", "-d", "--name", "parent", "--link", "kid:al", IMAGE, "sleep", "100")
    began = docker("exec", "parent", "env").stdout
    assert f"AL_PORT_80_TCP=tcp://{address(docker, 'kid')}:80" in began.splitlines()

    daemon.kill()
    daemon.start()

    assert docker("exec", "parent", "env").stdout == began
    docker("stop", "-t", "0", "kid")
    docker("run", "-d", IMAGE, "sleep", "100")  # takes the address that is free now, or the next
    docker("start", "kid")
    lines = docker("exec", "parent", "env").stdout.splitlines()
    assert {f"AL_PORT_80_TCP=tcp://{address(docker, 'kid')}:80", "AL_ENV_HELLO=world"} <= set(lines)
    daemon.close()


def test_an_address_that_changes(docker: Client, box: Box, kid: str) -> None:
    """The linked container comes back with another address: the hosts file of the running one follows."""
    parent = box("sleep", "100", flags=("--link", f"{kid}:al"))
    before = address(docker, kid)
    docker("stop", "-t", "0", kid)
    box("sleep", "100")  # takes the address that is free now, or the next
    docker("start", kid)
    after = address(docker, kid)
    line = next(line for line in docker("exec", parent, "cat", "/etc/hosts").stdout.splitlines() if " " + kid in line)
    assert line.split()[0] == after, (before, after)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--link", "nobody:x"], "could not get container for nobody: No such container: nobody"),
        (
            ["--network", "host", "--link", "KID"],
            "host type networking can't be used with links. This would result in undefined",
        ),
        (
            ["--network", "container:KID", "--link", "KID"],
            "container type network can't be used with links. This would",
        ),
    ],
)
def test_refused(docker: Client, warm: str, kid: str, flags: list[str], words: str) -> None:
    done = docker("run", "--rm", *(flag.replace("KID", kid) for flag in flags), warm, "true", check=False)
    assert (done.returncode, words in done.stderr) == (125, True), done.stderr


def test_one_that_does_not_run(docker: Client, warm: str, kid: str) -> None:
    docker("kill", kid)
    done = docker("run", "--rm", "--name", f"{kid}-p", "--link", f"{kid}:al", warm, "true", check=False)
    assert f"Cannot link to a non running container: /{kid} AS /{kid}-p/al" in done.stderr
    docker("rm", "-f", f"{kid}-p", check=False)


@pytest.fixture
def network(docker: Client, name: str) -> Iterator[str]:
    docker("network", "create", f"{name}-n")
    yield f"{name}-n"
    docker("network", "rm", f"{name}-n")


def test_an_alias_on_a_network(docker: Client, warm: str, network: str, name: str) -> None:
    """Only the container that has the link knows the name."""
    try:
        docker("run", "-d", "--name", name, "--network", network, warm, "sleep", "100")
        docker("run", "-d", "--name", f"{name}-l", "--network", network, "--link", f"{name}:zz", warm, "sleep", "100")
        assert docker("exec", f"{name}-l", "ping", "-c1", "-q", "zz").returncode == 0
        assert docker("run", "--rm", "--network", network, warm, "ping", "-c1", "zz", check=False).returncode != 0
        shown = docker(
            "inspect", "-f", "{{json .HostConfig.Links}} {{json .NetworkSettings.Networks}}", f"{name}-l"
        ).stdout
        links, networks = shown.split(" ", 1)
        assert (links, json.loads(networks)[network]["Links"]) == ("null", [f"{name}:zz"])
    finally:
        docker("rm", "-f", name, f"{name}-l")
