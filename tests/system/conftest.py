"""Fixtures of the system tests: a daemon, clients, a registry, and the oracle that says what was left behind."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import busybox_image
import host_state
from clients import IMAGE, Client, Registry, docker_program, serve
from engine_under_test import BIN, Daemon, instance_of

CLONE_NEWNET = 0x40000000  # unshare(2), setns(2); Python has both from 3.12 on
_DAEMONS = pytest.StashKey[list[Daemon]]()


def make_root() -> Path:
    """A new directory with a short path (sockets); $PYD_TEST_ROOT chooses the file system."""
    return Path(tempfile.mkdtemp(prefix="pyd-test.", dir=os.environ.get("PYD_TEST_ROOT")))


@pytest.fixture(scope="session")
def own_network() -> Iterator[None]:
    """A network namespace for this thread and all it starts: daemons, clients, registry and the tests' own connections.

    So the host's bridges and rules are not touched, what runs on the host cannot collide with the tests' subnets, and the
    oracle sees the engine's network alone. Without root nothing happens.
    """
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
        assert libc.setns(host, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(host)


@contextmanager
def _daemons(config: pytest.Config) -> Iterator[Callable[..., Daemon]]:
    """A maker of daemons, all of which are closed in the end; AssertionError if one leaves something behind."""
    made: list[Daemon] = []

    def make(more: str = "", data: Path | None = None) -> Daemon:
        daemon = Daemon(make_root(), more, data)
        made.append(daemon)
        config.stash.setdefault(_DAEMONS, []).append(daemon)
        return daemon.start()

    yield make
    faults = []
    for daemon in reversed(made):
        config.stash[_DAEMONS].remove(daemon)
        try:
            if daemon.root.exists():
                daemon.close()
        except Exception as fault:  # the others have to be closed, too
            faults.append(f"{type(fault).__name__}: {fault}")
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="module")
def new_pydd(own_network: None, request: pytest.FixtureRequest) -> Iterator[Callable[..., Daemon]]:
    """Makes further daemons, started: ``new_pydd('[storage]\\ndefault = "vfs"\\n')``. Closed when the module ends."""
    with _daemons(request.config) as make:
        yield make


@pytest.fixture(scope="session")
def pydd(own_network: None, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """The daemon that most tests share. Whoever kills or stops it, or needs other settings, makes a `new_pydd`."""
    with _daemons(request.config) as make:
        yield make()


@pytest.fixture(scope="session")
def client_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which no client finds the settings of whoever runs the tests."""
    home = tmp_path_factory.mktemp("client")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "PYD_"))}
    return {**kept, "DOCKER_CONFIG": str(home / ".docker"), "HOME": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


@pytest.fixture(scope="session")
def docker(pydd: Daemon, client_environment: dict[str, str]) -> Client:
    """The docker client, talking to `pydd`: ``docker("run", "--rm", image, "true").stdout``."""
    return Client((docker_program(), "-H", pydd.url), client_environment)


@pytest.fixture(scope="session")
def pyd(pydd: Daemon, client_environment: dict[str, str]) -> Client:
    """pyd's own command line, talking to `pydd`."""
    return Client((str(BIN / "pyd"), "--host", pydd.url), client_environment)


@pytest.fixture(params=["docker", "pyd"])
def cli(request: pytest.FixtureRequest) -> Client:
    """Each of the two command lines: what one can do, the other can, with the same words."""
    client: Client = request.getfixturevalue(request.param)
    return client


@pytest.fixture(scope="session")
def image_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The busybox image as `docker save` would write it; every call of `docker load` on it gives the same image id."""
    if busybox_image.static_busybox() is None:
        pytest.skip("no static busybox here (scripts/provision)")
    return busybox_image.write_to(tmp_path_factory.mktemp("image"), IMAGE)


@pytest.fixture(scope="session")
def image(pydd: Daemon, image_archive: Path) -> str:
    """The name of an image that `pydd` has: busybox."""
    api = pydd.api()
    try:
        api.call("POST", "/images/load?quiet=1", image_archive.read_bytes(), {"Content-Type": "application/x-tar"})
    finally:
        api.close()
    return IMAGE


@pytest.fixture(scope="session")
def registry(own_network: None, image_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """An empty registry on a free port of 127.0.0.1, without TLS. Use the marker `registry`."""
    with serve(tmp_path_factory.mktemp("registry"), image_archive) as registry:
        yield registry


@pytest.fixture(scope="session")
def warm(docker: Client, image: str) -> str:
    """`image`, after a first container: what a daemon makes once and keeps is there."""
    docker("run", "--rm", image, "true")
    return image


@pytest.fixture
def snapshot(pydd: Daemon, warm: str) -> Iterator[frozenset[str]]:
    """The oracle: whatever the test does with `pydd`, at its end the host is as it was at its beginning.

    What removes the test's own containers must ask for this fixture, so that it is torn down before the second look.
    """
    foreign = rf"\bpyd-(?!{instance_of(pydd.data)[:6]})[0-9a-f]{{6,8}}\b"  # other daemons' networks, cgroups
    before = host_state.take(pydd.run)
    yield before
    found = host_state.settle(before, pydd.run, foreign=foreign)
    assert not found, "the host is not as it was:\n" + "\n".join(found[:60])


@pytest.fixture
def box(docker: Client, warm: str, snapshot: frozenset[str]) -> Iterator[Callable[..., str]]:
    """Starts containers that the test need not remove: ``box("sleep", "100", flags=("--name", "a"))`` gives the id."""
    made: list[str] = []

    def run(*command: str, flags: tuple[str, ...] = (), image: str = warm) -> str:
        made.append(docker("run", "-d", *flags, image, *command).stdout.strip())
        return made[-1]

    yield run
    if made:
        docker("rm", "-f", "-v", *made, check=False)  # those that the test removed are not there


@pytest.fixture
def name() -> str:
    """A name that no other container has."""
    return f"test-{secrets.token_hex(4)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of every daemon's log."""
    report = yield
    if report.failed:
        for daemon in item.config.stash.get(_DAEMONS, []):
            report.sections.append((f"log of pydd in {daemon.root}", daemon.tail()))
    return report


def pytest_report_header() -> str:
    """Which clients the system tests speak with."""
    version = "none"
    if shutil.which("docker"):
        version = subprocess.run([docker_program(), "--version"], capture_output=True, text=True, check=False).stdout
    return f"docker client: {version.strip()}; python: {sys.executable}"
