"""The Python SDK for Docker against pydd: what its users call, through its own parsing of our answers."""

from __future__ import annotations

import contextlib
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker as sdk
import pytest
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

import busybox_image
from clients import Registry, until
from engine_under_test import Daemon

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.usefixtures("snapshot"),
    # The SDK leaves sockets of streams to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def client(pydd: Daemon) -> Iterator[Any]:
    """A client of the shared daemon, with the API version that both agree on."""
    with contextlib.closing(sdk.DockerClient(base_url=pydd.url, version="auto", timeout=60)) as client:
        yield client


@pytest.fixture
def make(client: Any, warm: str, snapshot: frozenset[str]) -> Iterator[Make]:
    """`containers.run(detach=True)`; removed afterwards."""
    made: list[Any] = []

    def run(command: Any, **options: Any) -> Any:
        made.append(client.containers.run(warm, command, detach=True, **options))
        return made[-1]

    yield run
    for container in made:
        with contextlib.suppress(NotFound):
            container.remove(force=True)


def test_ping_version_info(client: Any, pydd: Daemon) -> None:
    assert client.ping() is True
    version = client.version()
    assert version["Os"] == "linux"
    assert version["ApiVersion"] >= "1.41"
    info = client.info()
    assert info["DockerRootDir"] == str(pydd.data)
    assert info["OSType"] == "linux"
    assert info["NCPU"] >= 1
    assert info["MemTotal"] > 0


def test_run_returns_the_output(client: Any, warm: str) -> None:
    assert client.containers.run(warm, ["echo", "hello"], remove=True) == b"hello\n"
    both = client.containers.run(warm, "sh -c 'echo out; echo err >&2'", remove=True, stderr=True)
    assert sorted(both.split()) == [b"err", b"out"]


def test_run_that_fails_says_why(client: Any, warm: str) -> None:
    with pytest.raises(ContainerError) as caught:
        client.containers.run(warm, "sh -c 'echo no >&2; exit 3'", remove=True)
    assert caught.value.exit_status == 3
    assert caught.value.stderr == b"no\n"


def test_run_with_options(client: Any, warm: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    output = client.containers.run(
        warm,
        ["sh", "-c", "echo $A; pwd; id -u; hostname; echo kept >/data/file"],
        environment={"A": "b"},
        working_dir="/tmp",
        user="65534",
        hostname="inner",
        volumes={str(tmp_path): {"bind": "/data", "mode": "rw"}},
        mem_limit="64m",
        network_mode="none",
        labels=["x"],
        remove=True,
        tmpfs={"/scratch": "size=1m"},
    )
    assert output.decode().split() == ["b", "/tmp", "65534", "inner"]
    assert (tmp_path / "file").read_text() == "kept\n"


def test_the_life_of_a_container(client: Any, make: Make, name: str) -> None:
    container = make(["sleep", "100"], name=name, labels={"of": name})
    assert container.status in {"created", "running"}
    container.reload()
    assert (container.status, container.name) == ("running", name)
    assert container.image.tags == ["busybox:latest"]
    assert [each.id for each in client.containers.list(filters={"label": f"of={name}"})] == [container.id]
    container.pause()
    assert client.containers.get(name).status == "paused"
    container.unpause()
    container.rename(f"{name}-new")
    container.restart(timeout=0)
    assert any("sleep 100" in " ".join(row) for row in container.top()["Processes"])
    container.stop(timeout=0)
    assert container.wait() == {"StatusCode": 137} or container.wait()["StatusCode"] == 137
    container.start()
    container.kill("SIGTERM")
    container.kill()
    assert container.wait(condition="not-running")["StatusCode"] == 137
    container.remove()
    with pytest.raises(NotFound):
        client.containers.get(container.id)


def test_exec_run(make: Make) -> None:
    container = make(["sleep", "100"])
    assert tuple(container.exec_run("echo hi")) == (0, b"hi\n")
    both = container.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True)
    assert (both.exit_code, both.output) == (4, (b"o\n", b"e\n"))
    assert container.exec_run(
        "sh -c 'echo $A $PWD $(id -u)'", environment=["A=1"], workdir="/tmp", user="7"
    ).output == (b"1 /tmp 7\n")
    stream = container.exec_run("sh -c 'echo a; sleep 0.1; echo b'", stream=True).output
    assert b"".join(stream) == b"a\nb\n"
    assert b"/dev/pts/" in container.exec_run("tty", tty=True).output


def test_exec_with_a_socket(client: Any, make: Make) -> None:
    container = make(["sleep", "100"])
    made = client.api.exec_create(container.id, ["sh", "-c", "read line; echo got $line"], stdin=True)
    stream = client.api.exec_start(made["Id"], socket=True)
    with contextlib.closing(stream._sock) as connection, contextlib.closing(stream):
        connection.sendall(b"this\n")
        assert read_all(connection)[8:] == b"got this\n"
    until(lambda: not client.api.exec_inspect(made["Id"])["Running"], "it has ended")
    assert client.api.exec_inspect(made["Id"])["ExitCode"] == 0


def read_all(connection: Any) -> bytes:
    """Until the end."""
    connection.settimeout(20)
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def test_attach_socket(client: Any, warm: str, make: Make) -> None:
    container = client.containers.create(warm, ["cat"], stdin_open=True)
    try:
        stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        with contextlib.closing(stream._sock) as connection, contextlib.closing(stream):
            container.start()
            connection.sendall(b"through cat\n")
            assert connection.recv(8) == b"\x01\0\0\0\0\0\0\x0c"
            assert connection.recv(100) == b"through cat\n"
    finally:
        container.remove(force=True)


def test_logs(make: Make) -> None:
    container = make(["sh", "-c", "for i in 1 2 3; do echo $i; done; echo e >&2"])
    container.wait()
    assert container.logs(stderr=False) == b"1\n2\n3\n"
    assert container.logs(stdout=False) == b"e\n"
    assert container.logs(tail=0) == b""
    assert container.logs(tail=4).count(b"\n") == 4
    assert container.logs(timestamps=True, stdout=False).split()[0].endswith(b"Z")
    assert container.logs(since=int(time.time()) + 100) == b""


def test_followed_logs_end_with_the_container(make: Make) -> None:
    container = make(["sh", "-c", "echo one; sleep 0.3; echo two"])
    assert b"".join(container.logs(stream=True, follow=True)) == b"one\ntwo\n"


def test_attach_streams_output(make: Make) -> None:
    container = make(["sh", "-c", "sleep 0.3; echo now"])
    assert b"".join(container.attach(stream=True)) == b"now\n"


def test_attach_to_nothing_gives_nothing(client: Any, make: Make) -> None:
    """docker-py asks for neither stream nor logs unless it is told to; and a stream of nothing has an end."""
    container = make(["sleep", "100"])
    assert container.attach() == b""
    assert not list(container.attach(stdout=False, stderr=False, stream=True, logs=False))
    container.resize(height=10, width=20)  # it has no terminal: nothing is to be done


def test_events(client: Any, warm: str, name: str) -> None:
    began = time.time()
    stream = client.events(decode=True, since=began, filters={"container": name})
    threading.Timer(0.1, client.containers.run, (warm, "true"), {"name": name, "remove": True}).start()
    seen = []
    for event in stream:
        assert event["Type"] == "container"
        assert event["Actor"]["Attributes"]["name"] == name
        seen.append(event["Action"])
        if event["Action"] == "destroy":
            break
    stream.close()
    assert [each for each in seen if each != "attach"] == ["create", "start", "die", "destroy"]


def test_images(client: Any, image_archive: Path, warm: str) -> None:
    before = {image.id for image in client.images.list()}
    [image] = client.images.load(image_archive.read_bytes())
    assert image.id in before
    assert image.tag("elsewhere/box", "v1") is True
    assert "elsewhere/box:v1" in client.images.get("elsewhere/box:v1").tags
    assert image.history()[0]["Id"] == image.id
    assert image.attrs["Os"] == "linux"
    client.images.remove("elsewhere/box:v1")
    with pytest.raises(ImageNotFound):
        client.images.get("elsewhere/box:v1")
    saved = b"".join(client.images.get(warm).save(named=True))
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        assert "manifest.json" in archive.getnames()


def test_import_a_root_file_system(client: Any) -> None:
    client.api.import_image_from_data(
        busybox_image.rootfs_tar(), repository="imported", tag="x", changes=['CMD ["echo", "from an import"]']
    )
    try:
        assert client.containers.run("imported:x", remove=True) == b"from an import\n"
    finally:
        client.images.remove("imported:x")


@pytest.mark.registry
def test_pull(client: Any, registry: Registry) -> None:
    reference = registry.push("sdk/busybox:7")
    image = client.images.pull(*reference.rsplit(":", 1))
    assert reference in image.tags
    steps = list(client.api.pull(reference, stream=True, decode=True))
    assert "up to date" in steps[-1]["status"]
    assert client.images.get_registry_data(reference).id.startswith("sha256:")
    client.images.remove(reference)


def test_networks(client: Any) -> None:
    found = {network.name: network for network in client.networks.list()}
    assert {"bridge", "host", "none"} <= found.keys()
    assert found["bridge"].attrs["Driver"] == "bridge"
    [pool] = found["bridge"].attrs["IPAM"]["Config"]
    assert pool["Subnet"].startswith("172.")


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda client, image: client.containers.get("nope"), 404),
        (lambda client, image: client.images.get("nope"), 404),
        (lambda client, image: client.containers.create("nope", "true"), 404),
        (lambda client, image: client.containers.create(image, "true", working_dir="relative"), 400),
        (lambda client, image: client.containers.run(image, "nope", remove=True), 400),
        (lambda client, image: client.containers.create(image, "true", network="nope"), 400),
        (lambda client, image: client.api.exec_inspect("nope"), 404),
        (lambda client, image: client.networks.get("nope"), 404),
    ],
)
def test_errors_have_the_status_and_a_message(
    client: Any, warm: str, call: Callable[[Any, str], Any], status: int
) -> None:
    with pytest.raises(APIError) as caught:
        call(client, warm)
    assert caught.value.status_code == status
    assert caught.value.explanation


def test_conflicts(client: Any, make: Make, name: str, warm: str) -> None:
    container = make(["sleep", "100"], name=name)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: client.containers.create(warm, "true", name=name),
        container.remove,
        container.unpause,
    )
    for call in calls:
        with pytest.raises(APIError) as caught:
            call()
        assert caught.value.status_code in {409, 500}
