"""Builds: the docker client's classic builder, docker-py and docker-compose with pydd, beside an installed dockerd."""

from __future__ import annotations

import contextlib
import gc
import http.server
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import docker as sdk
import pytest
from docker.errors import BuildError

from build_recipes import CONTEXT, RECIPES, WRONG, Entry, archive
from clients import Client, Registry, docker_program, until
from engine_under_test import BIN, Daemon
from rival import Said, Side, comparable, dockerd, normal

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """The SDK leaves sockets of streams to the garbage collector: these tests' garbage is not to be found during others."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def environment(client_environment: dict[str, str]) -> dict[str, str]:
    """What makes the docker client speak with the builder that is there."""
    return {**client_environment, "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}


@pytest.fixture(scope="module")
def daemon(new_pydd: Callable[..., Daemon], image_archive: Path) -> Daemon:
    """One that these tests have to themselves, with the busybox image."""
    daemon = new_pydd()
    load(daemon, image_archive)
    return daemon


def load(daemon: Daemon, image_archive: Path) -> None:
    api = daemon.api()
    try:
        api.call("POST", "/images/load?quiet=1", image_archive.read_bytes(), {"Content-Type": "application/x-tar"})
    finally:
        api.close()


@pytest.fixture(scope="module")
def docker(daemon: Daemon, environment: dict[str, str]) -> Client:
    return Client((docker_program(), "-H", daemon.url), environment)


Build = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def build(daemon: Daemon, environment: dict[str, str]) -> Iterator[Build]:
    """Builds a recipe: ``build("FROM …", "-t", "x", files={…})``. Nothing of a build is left in the scratch space after it."""

    def run(recipe: str, *words: str, files: dict[str, Entry] | None = None, check: bool = True) -> Any:
        context = archive({**(CONTEXT if files is None else files), "Dockerfile": Entry(recipe)})
        command = [docker_program(), "-H", daemon.url, "build", *words, "-"]
        done = subprocess.run(command, input=context, capture_output=True, timeout=60, env=environment, check=False)
        assert not check or done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return done

    yield run
    assert scratch(daemon) == []
    daemon.remove_containers()


def scratch(daemon: Daemon) -> list[str]:
    return [str(each) for each in (daemon.data / "tmp").glob("build-*")]


def image_of(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stdout.decode().split("Successfully built ")[1].split()[0]


# --- beside dockerd --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sides(
    daemon: Daemon, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Side, Side]]:
    theirs, ours = (tmp_path_factory.mktemp(name) for name in ("theirs", "ours"))
    with dockerd(theirs, environment) as rival:
        yield rival, Side("pydd", daemon.url, ours, environment)


def said(side: Side, recipe: str, *words: str) -> Said:
    context = archive({**CONTEXT, "Dockerfile": Entry(f"{recipe}\n")})
    done = side.run(["build", *words, "-"], context)
    return Said(done.returncode, normal(done.stdout.decode(), side.own), normal(done.stderr.decode(), side.own))


def both(sides: tuple[Side, Side], recipe: str, *words: str) -> tuple[Said, Said]:
    with ThreadPoolExecutor(2) as threads:
        theirs, ours = threads.map(lambda side: said(side, recipe, *words), sides)
    return theirs, ours


def same(theirs: Said, ours: Said) -> None:
    assert comparable(ours) == comparable(theirs), f"dockerd: {theirs}\npydd: {ours}"


FLAGS = {"arguments": ("--build-arg", "A=x", "--build-arg", "B=q", "--build-arg", "Z=unused", "--label", "made=here")}


@pytest.mark.dockerd
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_the_same_as_with_dockerd(sides: tuple[Side, Side], name: str) -> None:
    """What is told, line by line, what is in the image, its history and its configuration."""
    tag = name.replace(" ", "-")
    words = FLAGS.get(name, ())
    same(*both(sides, RECIPES[name], "-t", tag, *words))
    same(*both(sides, RECIPES[name], "-t", tag, *words))  # from the cache
    for line in (
        f"history --no-trunc --format '{{{{.ID}}}} {{{{.CreatedBy}}}}' {tag}",
        f"inspect -f '{{{{json .Config}}}} {{{{.Author}}}} {{{{len .RootFS.Layers}}}}' {tag}",
    ):
        theirs, ours = (side.ask(line) for side in sides)
        assert parts(ours) == parts(theirs)


def parts(answer: Said) -> Any:
    """Objects without the field that says what the next step's container was made of, and digests of what was copied."""
    if answer.out.startswith("{"):
        document, _, rest = answer.out.rpartition("} ")
        return {key: value for key, value in json.loads(f"{document}}}").items() if key != "Image"}, rest
    return answer


@pytest.mark.dockerd
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_the_same_words(sides: tuple[Side, Side], name: str) -> None:
    same(*both(sides, WRONG[name]))
    for side in sides:
        side.clear()


LIMITS = {
    "memory": ("RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes", ("-m", "64m")),
    "shm": ("RUN df -k /dev/shm | tail -n 1 | awk '{print $2}'", ("--shm-size", "8m")),
    "ulimit": ("RUN ulimit -n", ("--ulimit", "nofile=99:100")),
    "hosts": ("RUN grep 10.9.8.7 /etc/hosts", ("--add-host", "some.where:10.9.8.7")),
    "no network": ("RUN ls /sys/class/net", ("--network", "none")),
    "shares": ("RUN cat /sys/fs/cgroup/cpu/cpu.shares", ("--cpu-shares", "77")),
    "quiet": ("RUN echo not shown", ("-q",)),
    "quiet until it fails": ("RUN echo shown; exit 3", ("-q", "--force-rm")),
    "kept": ("RUN echo kept", ("--rm=false",)),
    "force": ("RUN exit 3", ("--force-rm",)),
    "another recipe": ("RUN false", ("-f", "other")),
    "no such recipe": ("RUN true", ("-f", "nosuch")),
    "a target": ("RUN echo one\nFROM one AS two\nRUN echo two\nFROM two\nRUN false", ("--target", "two")),
}


@pytest.mark.dockerd
@pytest.mark.parametrize("name", LIMITS)
def test_flags_do_the_same(sides: tuple[Side, Side], name: str) -> None:
    recipe, words = LIMITS[name]
    same(*both(sides, f"FROM busybox AS one\n{recipe}", *words))
    kept = [side.ask("ps -a --format '{{.Image}} {{.Command}}'").out.count("RUN") for side in sides]
    assert kept[0] == kept[1]
    for side in sides:
        side.clear()


# --- the cache -------------------------------------------------------------------------------------------------------


def test_the_cache_knows_contents_and_modes_and_no_times(build: Build, docker: Client) -> None:
    recipe = "FROM busybox\nCOPY f /f\nRUN cat /f"
    first = image_of(build(recipe, "-t", "cached", files={"f": Entry("one")}))
    again = build(recipe, files={"f": Entry("one", owner=5), "more": Entry("not copied")})
    assert (image_of(again), again.stdout.count(b"Using cache")) == (first, 2)
    for changed in (Entry("two"), Entry("one", 0o600)):
        other = build(recipe, files={"f": changed})
        assert b"Using cache" not in other.stdout
        assert image_of(other) != first
    assert b"Using cache" not in build(recipe, "--no-cache", files={"f": Entry("one")}).stdout
    docker("rmi", "cached")
    assert b"Using cache" not in build(recipe, files={"f": Entry("three")}).stdout


def test_an_image_that_was_removed_is_no_hit(build: Build, docker: Client) -> None:
    recipe = "FROM busybox\nRUN echo removed\nENV a=b"
    docker("rmi", image_of(build(recipe)))
    assert b"Using cache" not in build(recipe).stdout


def test_steps_go_with_their_image(build: Build, docker: Client) -> None:
    before = set(docker("images", "-aq").stdout.split())
    build("FROM busybox\nRUN echo 1 > /1\nENV a=b\nCOPY a.txt /", "-t", "whole")
    made = docker("history", "-q", "whole").stdout.split()
    assert "<missing>" not in made
    assert len(set(docker("images", "-aq").stdout.split()) - before) == 3
    assert len(set(docker("images", "-q").stdout.split()) - before) == 1
    docker("rmi", "whole")
    assert set(docker("images", "-aq").stdout.split()) == before


def test_the_cache_is_forgotten_when_that_is_asked(build: Build, docker: Client, daemon: Daemon) -> None:
    recipe = "FROM busybox\nRUN echo forgotten\nCMD x"
    build(recipe, "-t", "remembered")
    build("FROM busybox\nRUN echo nameless")
    api = daemon.api()
    try:
        entries = {each["Description"]: each for each in api.json("GET", "/system/df")["BuildCache"]}
        assert entries["RUN echo forgotten"]["InUse"]
        assert not entries["RUN echo nameless"]["InUse"]
        assert not any(each["Size"] for each in entries.values())
    finally:
        api.close()
    docker("builder", "prune", "-f")
    assert build(recipe).stdout.count(b"Using cache") == 2
    assert b"Using cache" not in build("FROM busybox\nRUN echo nameless").stdout
    docker("builder", "prune", "-af")
    assert b"Using cache" not in build(recipe).stdout
    assert docker("image", "inspect", "remembered").returncode == 0


def test_steps_of_named_images_alone(build: Build, docker: Client) -> None:
    recipe = "FROM busybox\nRUN echo named > /n\nENV a=b"
    first = image_of(build(recipe, "-t", "source"))
    assert image_of(build(recipe, "--cache-from", "source")) == first
    assert b"Using cache" not in build(recipe, "--cache-from", "busybox").stdout
    archived = docker("image", "ls", "-q", "source").stdout.strip()
    assert archived
    docker("builder", "prune", "-af")
    again = build(recipe, "--cache-from", "source")
    assert again.stdout.count(b"Using cache") == 2


def test_the_same_at_the_same_time(build: Build) -> None:
    recipe = "FROM busybox\nRUN sleep 0.2; echo same > /f\nCOPY . /all/\nRUN ls /all"
    with ThreadPoolExecutor(3) as threads:
        done = list(threads.map(lambda number: build(recipe, "-t", f"same:{number}"), range(3)))
    assert [each.returncode for each in done] == [0, 0, 0]


# --- what strangers send ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_compressed_contexts(daemon: Daemon, environment: dict[str, str], compression: str) -> None:
    context = archive({**CONTEXT, "Dockerfile": Entry("FROM busybox\nCOPY a.txt /\nRUN cat /a.txt")}, compression)
    command = [docker_program(), "-H", daemon.url, "build", "-"]
    done = subprocess.run(command, input=context, capture_output=True, timeout=60, env=environment, check=False)
    assert (done.returncode, b"Successfully built" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    "entries",
    [
        {"../up": Entry("x")},
        {"/../../up": Entry("x")},
        {"l": Entry("/", kind=tarfile.SYMTYPE), "l/../../up": Entry("x")},
        {"h": Entry("../../../../../etc/passwd", kind=tarfile.LNKTYPE)},
        {"h": Entry("/etc/passwd", kind=tarfile.LNKTYPE)},
    ],
)
def test_a_context_does_not_leave_its_place(build: Build, entries: dict[str, Entry]) -> None:
    done = build("FROM busybox\nCOPY . /all\nRUN cat /all/h || true", files=entries, check=False)
    assert done.returncode != 0
    assert b"root:" not in done.stdout


def test_links_of_a_context_stay_inside(build: Build, tmp_path: Path) -> None:
    parts = str(tmp_path).strip("/").split("/")
    inside = {
        f"{'/'.join(parts[:depth])}/": Entry(mode=0o755, kind=tarfile.DIRTYPE) for depth in range(1, len(parts) + 1)
    }
    files = {**inside, "l": Entry(str(tmp_path), kind=tarfile.SYMTYPE), "l/f": Entry("inside")}
    assert (
        b"insideinside" in build(f"FROM busybox\nCOPY l/f /\nCOPY {tmp_path}/f /g\nRUN cat /f /g", files=files).stdout
    )
    assert list(tmp_path.iterdir()) == []


def test_a_tree_that_is_too_deep_is_gone_afterwards(build: Build) -> None:
    deep = "d/" * 1500
    files = {f"{deep}f": Entry("x"), "s": Entry(deep, kind=tarfile.SYMTYPE), f"s/{'e/' * 1000}g": Entry("y")}
    build("FROM busybox\nRUN true", files=files, check=False)


def test_a_daemon_reads_the_ignore_file_for_two_files(build: Build) -> None:
    files = {".dockerignore": Entry("*\n!.dockerignore\n"), "f": Entry("x")}
    out = build("FROM busybox\nCOPY . /all/\nRUN ls -A /all", files=files).stdout
    assert b"\n.dockerignore\nf\n" in out
    assert b"\nDockerfile\n" not in out


def test_a_frontend_that_is_not_there(
    build: Build, new_pydd: Callable[..., Daemon], environment: dict[str, str]
) -> None:
    done = build("# frontend=nosuch\nFROM busybox\n", check=False)
    assert b"the frontend 'nosuch' is not installed; ready are: dockerfile" in done.stderr
    other = new_pydd('[frontend]\ndisabled = ["dockerfile"]\n')
    client = Client((docker_program(), "-H", other.url), environment)
    assert "the frontend 'dockerfile' is not ready" in client("build", "-", stdin="FROM busybox\n", check=False).stderr


# --- from elsewhere --------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, own_network: None) -> Iterator[tuple[str, Path]]:
    """A web server on loopback and its folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_words: object) -> None:
            pass

    folder = tmp_path / "site"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", folder
        finally:
            server.shutdown()
            thread.join()


def test_recipes_contexts_and_files_by_address(docker: Client, build: Build, site: tuple[str, Path]) -> None:
    url, folder = site
    (folder / "recipe").write_text("FROM busybox\nRUN echo by address\n")
    (folder / "context.tar.gz").write_bytes(
        archive({**CONTEXT, "Dockerfile": Entry("FROM busybox\nCOPY a.txt /\n")}, "gz")
    )
    (folder / "page.html").write_text("a page")
    assert "by address" in docker("build", f"{url}/recipe").stdout
    assert "Successfully built" in docker("build", f"{url}/context.tar.gz").stdout
    out = build(
        f"FROM busybox\nADD {url}/page.html /p/\nADD {url}/context.tar.gz /q\nRUN cat /p/page.html; stat -c %a:%F /p/* /q"
    ).stdout
    assert b"a page" in out
    assert b"600:regular file\n600:regular file" in out
    assert b"status 404" in build(f"FROM busybox\nADD {url}/nosuch /p/", check=False).stderr
    assert b"cannot determine filename" in build(f"FROM busybox\nADD {url}/ /p/", check=False).stderr
    assert "connection refused" in docker("build", "http://127.0.0.1:1/x", check=False).stderr


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_working_tree_by_git(
    docker: Client, daemon: Daemon, site: tuple[str, Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    url, folder = site
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "Dockerfile").write_text("FROM busybox\nRUN echo top\n")
    (tree / "below" / "Dockerfile").write_text("FROM busybox\nCOPY . /x\nRUN ls -A /x\n")
    git = partial(subprocess.run, check=True, capture_output=True, env=environment)
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    git(["git", "init", "-q", "-b", "main", tree])
    git(["git", "-C", tree, "add", "."])
    git(["git", "-C", tree, *author, "commit", "-qm", "one"])
    git(["git", "clone", "-q", "--bare", tree, folder / "x.git"])
    git(["git", "-C", folder / "x.git", "update-server-info"])
    api = daemon.api()
    try:

        def built(fragment: str) -> str:
            return api.call("POST", f"/v1.41/build?remote={url}/x.git{fragment}").decode()

        assert "top" in built("")
        assert "Dockerfile\\n" in built("%23main:below")
        for wrong in ("%23nosuch", "%23main:../../..", "%23--upload-pack=x"):
            with pytest.raises(Exception):  # noqa: B017, PT011 - any status of failure
                built(wrong)
    finally:
        api.close()
    assert scratch(daemon) == []


@pytest.mark.registry
def test_a_base_image_is_pulled(build: Build, registry: Registry) -> None:
    reference = registry.push("base:1")
    out = build(
        f"FROM {reference}\nCOPY --from={registry.push('other:2')} /bin/busybox /busybox\nRUN /busybox echo pulled"
    ).stdout
    assert b"Pulling from base" in out
    assert b"Pulling from other" in out
    assert b"\npulled\n" in out
    assert b"Pulling from base" in build(f"FROM {reference}\n", "--pull").stdout


# --- who goes away ---------------------------------------------------------------------------------------------------


def containers(daemon: Daemon) -> list[str]:
    api = daemon.api()
    try:
        return [each["State"] for each in api.json("GET", "/containers/json?all=1")]
    finally:
        api.close()


@contextlib.contextmanager
def building(docker: Client, daemon: Daemon, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A build whose program runs for long."""
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN echo 1 > /1\nFROM busybox\nRUN echo 2 > /2\nRUN sleep 1000\nCOPY --from=0 /1 /1\n"
    )
    with docker.start("build", "--no-cache", tmp_path) as client:
        # an earlier step's container runs for a moment, too
        listed = ("ps", "--no-trunc", "--format", "{{.Command}}")
        until(lambda: "sleep 1000" in docker(*listed).stdout, "the program runs")
        yield client


def test_a_client_that_leaves_takes_its_build_along(docker: Client, daemon: Daemon, tmp_path: Path) -> None:
    docker("image", "prune", "-f")
    with building(docker, daemon, tmp_path) as client:
        made = docker("images", "-aq").stdout
        docker("image", "prune", "-f")  # what a build stands on has no name, and is in use
        assert docker("images", "-aq").stdout == made
        client.kill()
        until(lambda: not containers(daemon), "its container is gone")
        until(lambda: not scratch(daemon), "its context is gone")


@pytest.mark.parametrize("end", [Daemon.kill, Daemon.stop])
def test_a_daemon_that_ends_leaves_nothing(
    new_pydd: Callable[..., Daemon], environment: dict[str, str], image_archive: Path, tmp_path: Path,
    end: Callable[[Daemon], None],
) -> None:  # fmt: skip
    daemon = new_pydd()
    load(daemon, image_archive)
    docker = Client((docker_program(), "-H", daemon.url), environment)
    with building(docker, daemon, tmp_path):
        assert scratch(daemon)
        end(daemon)
        daemon.start()
    assert containers(daemon) == []
    assert scratch(daemon) == []
    done = subprocess.run(
        [BIN / "pyd", "--host", daemon.url, "system", "check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- other clients ---------------------------------------------------------------------------------------------------


def test_docker_py(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nARG A=1\nRUN echo $A > /a\nCOPY f /f\nCMD cat /a /f\n")
    (tmp_path / "f").write_text("file\n")
    with contextlib.closing(sdk.DockerClient(base_url=daemon.url, version="auto", timeout=60)) as client:
        image, log = client.images.build(
            path=str(tmp_path), tag="by-py:1", buildargs={"A": "argument"}, labels={"l": "v"}, rm=True
        )
        assert (image.tags, image.labels) == (["by-py:1"], {"l": "v"})
        assert any("Successfully tagged" in each.get("stream", "") for each in log)
        assert client.containers.run("by-py:1", remove=True) == b"argument\nfile\n"
        (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN exit 9\n")
        with pytest.raises(BuildError, match="returned a non-zero code: 9") as failed:
            client.images.build(path=str(tmp_path), rm=True, forcerm=True)
        assert any("Step 2/2" in each.get("stream", "") for each in failed.value.build_log)
        assert client.containers.list(all=True) == []


@pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="docker-compose is not installed (scripts/provision)"
)
def test_docker_compose(daemon: Daemon, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("FROM busybox\nARG WHAT\nRUN echo $WHAT > /what\nCMD cat /what\n")
    (tmp_path / "docker-compose.yml").write_text(
        'version: "2.4"\nservices:\n  app:\n    build: { context: app, args: { WHAT: composed } }\n    network_mode: none\n'
    )
    run = partial(
        subprocess.run, cwd=tmp_path, env={**environment, "DOCKER_HOST": daemon.url}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    try:
        done = run(["docker-compose", "build"])
        assert done.returncode == 0, done.stderr
        assert "composed" in run(["docker-compose", "up", "--no-color"]).stdout
    finally:
        run(["docker-compose", "down", "--rmi", "local"])
