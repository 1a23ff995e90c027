"""pyd's own command line: what `test_run` does not already do with both, and that it says what the docker client says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import IMAGE, Client, Registry, docker_program, until
from engine_under_test import BIN, Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

Box = Callable[..., str]


def test_version_and_info(pyd: Client, pydd: Daemon) -> None:
    version = json.loads(pyd("version", "--format", "{{json .}}").stdout)
    assert version["Server"]["Os"] == "linux"
    assert pyd("info", "-f", "{{.DockerRootDir}}").stdout.strip() == str(pydd.data)
    text = pyd("info").stdout
    assert "Storage Driver: overlay" in text


def test_plugins_are_listed_with_their_state(pyd: Client) -> None:
    text = pyd("plugin", "ls").stdout
    for name in ("overlay", "vfs", "bridge", "host", "none", "namespaces"):
        assert re.search(rf"\b{name}\b.*\bready\b", text), text


@pytest.mark.parametrize(
    "words",
    [
        ("ps", "-a", "--no-trunc", "--format", "{{json .Names}} {{.Image}} {{.Command}} {{.State}} {{.Labels}}"),
        ("ps", "-aq"),
        ("images", "--no-trunc", "--format", "{{.Repository}} {{.Tag}} {{.ID}} {{.Size}}"),
        ("images", "-q"),
        ("network", "ls", "--format", "{{.ID}} {{.Name}} {{.Driver}} {{.Scope}}"),
        ("history", "--format", "{{.ID}} {{.CreatedBy}} {{.Size}}", "busybox"),
        ("inspect", "busybox"),
        ("network", "inspect", "bridge"),
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_the_same_answer_as_the_docker_client(docker: Client, pyd: Client, box: Box, words: tuple[str, ...]) -> None:
    box("sleep", "100", flags=("--label", "a=b"))
    assert pyd(*words).stdout == docker(*words).stdout


def test_the_same_inspection(docker: Client, pyd: Client, box: Box) -> None:
    container = box("sleep", "100", flags=("-e", "A=b"))
    assert json.loads(pyd("inspect", container).stdout) == json.loads(docker("inspect", container).stdout)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--rm", "busybox", "not-there"),
        ("run", "--rm", "--network", "nope", "busybox", "true"),
        ("run", "--rm", "busybox", "/etc/passwd"),
        ("inspect", "nope"),
        ("rm", "nope"),
        ("logs", "nope"),
        ("exec", "nope", "true"),
        ("stop", "nope"),
        ("rmi", "nope"),
        ("pull", "UPPER"),
        ("wait", "nope"),
    ],
    ids=" ".join,
)
def test_the_same_status_and_message(docker: Client, pyd: Client, warm: str, words: tuple[str, ...]) -> None:
    ours, theirs = pyd(*words, check=False), docker(*words, check=False)
    assert ours.returncode == theirs.returncode
    assert said(ours.stderr) == said(theirs.stderr)


def said(text: str) -> str:
    """The first line that is a message, without the program's name."""
    return re.sub(r"^(docker|pyd): ", "", text.splitlines()[0]).strip()


def test_words_it_does_not_know(pyd: Client) -> None:
    for words in (("nope",), ("run", "--nope", "busybox")):
        done = pyd(*words, check=False)
        assert done.returncode in {1, 125}
        assert "nope" in done.stderr
        assert "Traceback" not in done.stderr
    assert "Usage:" in pyd("run", "--help").stdout


def test_a_daemon_that_is_not_there(client_environment: dict[str, str], tmp_path: Path) -> None:
    done = Client((str(BIN / "pyd"), "-H", f"unix://{tmp_path}/none.sock"), client_environment)("ps", check=False)
    assert done.returncode == 1
    assert f"{tmp_path}/none.sock" in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_images_saved_loaded_tagged_imported(pyd: Client, warm: str, tmp_path: Path) -> None:
    archive = tmp_path / "saved.tar"
    pyd("save", "-o", archive, warm)
    assert pyd("load", "-i", archive).stdout == f"Loaded image: {warm}\n"
    pyd("tag", warm, "again/box:1")
    assert pyd("images", "-q", "again/box").stdout == pyd("images", "-q", warm).stdout
    assert pyd("rmi", "again/box:1").stdout == "Untagged: again/box:1\n"
    tree = tmp_path / "tree.tar"
    subprocess.run(["tar", "-cf", tree, "-C", "/bin", "busybox"], check=True)
    pyd("import", "-c", 'CMD ["/busybox", "echo", "imported"]', tree, "tree:1")
    assert pyd("run", "--rm", "tree:1").stdout == "imported\n"
    pyd("rmi", "tree:1")


@pytest.mark.registry
def test_pull(pyd: Client, registry: Registry) -> None:
    reference = registry.push("cli/busybox:1")
    assert pyd("pull", reference).stdout.splitlines()[-1] == reference
    assert f"Status: Image is up to date for {reference}" in pyd("pull", reference).stdout
    assert pyd("pull", "-q", reference).stdout.strip() == reference
    with pyd.terminal("pull", reference) as terminal:
        terminal.expect("Image is up to date")
        assert terminal.wait() == 0
    pyd("rmi", reference)


def test_several_at_once(pyd: Client, box: Box) -> None:
    containers = [box("sleep", "100") for _ in range(3)]
    assert pyd("stop", "-t", "0", *containers).stdout.split() == containers
    until(lambda: pyd("ps", "-q").stdout == "", "they have ended")
    done = pyd("rm", containers[0], "nope", *containers[1:], check=False)
    assert done.returncode == 1
    assert done.stdout.split() == containers
    assert "No such container: nope" in done.stderr


def test_prune(pyd: Client, warm: str) -> None:
    container = pyd("create", "--label", "prune=me", warm, "true").stdout.strip()
    assert container in pyd("container", "prune", "-f", "--filter", "label=prune=me").stdout


def test_the_docker_client_prunes_a_whole_system(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> None:
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("network", "create", "unused")
    container = docker("create", "-v", "/data", IMAGE, "true").stdout.strip()
    done = docker("system", "prune", "-af", "--volumes").stdout
    for line in (container, "unused", f"untagged: {IMAGE}", "Total reclaimed space: "):
        assert line in done
    assert docker("ps", "-aq").stdout == docker("images", "-aq").stdout == docker("volume", "ls", "-q").stdout == ""
    daemon.close()
