"""Pulling: formats, platforms, digests, repeated and concurrent pulls; and registries that fail or cheat."""

from __future__ import annotations

import json
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import busybox_image
import stub_registry
from clients import Client, Registry, until
from engine_under_test import Daemon
from stub_registry import OCI_INDEX, StubRegistry

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.registry, pytest.mark.usefixtures("snapshot")]

HERE = busybox_image.ARCHITECTURES[platform.machine()]
ELSEWHERE = "s390x" if HERE != "s390x" else "amd64"


@pytest.fixture(autouse=True)
def no_image_left(docker: Client, warm: str, snapshot: frozenset[str]) -> Iterator[None]:
    """What a test pulled is removed, and the daemon has the images it had."""
    before = docker("images", "-q", "--no-trunc").stdout
    yield
    for reference in docker("images", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}|{{.ID}}").stdout.split():
        if reference.startswith("127.0.0.1:"):
            docker("rmi", "-f", reference.rpartition("|")[2], check=False)
    assert docker("images", "-q", "--no-trunc").stdout == before
    assert warm in docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()


@pytest.fixture(scope="module")
def layer() -> bytes:
    """A root file system that no other image has."""
    archive = bytearray(busybox_image.rootfs_tar())
    archive[100:107] = b"0000700"  # the mode of its first directory: another layer with other ids
    archive[148:156] = b"        "
    archive[148:156] = b"%06o\0 " % sum(archive[:512])
    return bytes(archive)


@pytest.fixture
def stub(docker: Client, pydd: Daemon, warm: str) -> Iterator[StubRegistry]:
    """A registry that can be told to fail. Of what it served nothing is kept once the images are gone."""
    with stub_registry.serve() as registry:
        yield registry
    for image in docker("images", "--format", "{{.Repository}} {{.ID}}").stdout.splitlines():
        if image.startswith(registry.host):
            docker("rmi", "-f", image.split()[1], check=False)
    docker("image", "prune", "-f")  # what a failed pull downloaded is kept for the next try, until then
    kept = {path.name for path in (pydd.data / "content").rglob("*")}
    served = {digest.removeprefix("sha256:") for digest in (*registry.blobs, *registry.manifests)}
    assert not kept & served


@pytest.mark.parametrize("form", ["v2s2", "oci"])
def test_formats(docker: Client, registry: Registry, form: str, warm: str, tmp_path: Path) -> None:
    reference = f"{registry.host}/formats/{form}:1"
    command = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--format", form]
    subprocess.run([*command, f"docker-archive:{registry.archive}", f"docker://{reference}"], check=True, timeout=60)
    done = docker("pull", reference)
    assert "Status: Downloaded newer image for" in done.stdout
    assert done.stdout.splitlines()[-1] == reference
    assert docker("run", "--rm", reference, "echo", form).stdout == f"{form}\n"
    docker("rmi", reference)


def test_an_image_of_its_own_runs(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    for docker_form in (True, False):
        stub.image(layer, f"d{docker_form}".lower(), architecture=HERE, docker=docker_form)
        reference = f"{stub.host}/own:d{docker_form}".lower()
        docker("pull", reference)
        assert docker("run", "--rm", reference, "sh", "-c", "stat -c %a /bin").stdout == "700\n"
        docker("rmi", reference)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed here (scripts/provision)")
def test_zstd_layers(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    packed = subprocess.run(["zstd", "-q", "-c"], input=layer, capture_output=True, check=True).stdout
    stub.image(layer, "z", architecture=HERE, packed=packed, suffix="+zstd")
    docker("pull", f"{stub.host}/zstd:z")
    assert docker("run", "--rm", f"{stub.host}/zstd:z", "echo", "unpacked").stdout == "unpacked\n"


def test_layers_that_are_not_compressed(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    stub.image(layer, "t", architecture=HERE, packed=layer, suffix="")
    docker("pull", f"{stub.host}/plain:t")
    assert docker("run", "--rm", f"{stub.host}/plain:t", "echo", "plain").stdout == "plain\n"


@pytest.fixture
def index(stub: StubRegistry, layer: bytes) -> str:
    """A reference to an image for two platforms."""
    entries = []
    for architecture in (ELSEWHERE, HERE):
        digest, _ = stub.image(layer, architecture, architecture=architecture)
        kind, content = stub.manifests[digest]
        entry = {"mediaType": kind, "digest": digest, "size": len(content)}
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
    stub.manifest(OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, "both")
    return f"{stub.host}/multi:both"


def test_an_index_gives_the_image_for_this_machine(docker: Client, index: str) -> None:
    docker("pull", index)
    assert docker("inspect", "-f", "{{.Architecture}}", index).stdout == f"{HERE}\n"
    assert docker("run", "--rm", index, "echo", "ran").stdout == "ran\n"


def test_a_platform_of_choice(docker: Client, index: str) -> None:
    docker("pull", "--platform", f"linux/{ELSEWHERE}", index)
    assert docker("inspect", "-f", "{{.Architecture}}", index).stdout == f"{ELSEWHERE}\n"
    absent = docker("pull", "--platform", "linux/riscv64", index, check=False)
    assert absent.returncode == 1
    assert "no matching manifest for linux/riscv64" in absent.stderr


def test_by_digest(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    digest, _ = stub.image(layer, "x", architecture=HERE)
    reference = f"{stub.host}/pinned@{digest}"
    docker("pull", reference)
    assert json.loads(docker("inspect", reference).stdout)[0]["RepoDigests"] == [reference]
    assert docker("run", "--rm", reference, "echo", "by digest").stdout == "by digest\n"


def test_a_second_pull_downloads_nothing(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    _, packed = stub.image(layer, "same", architecture=HERE)
    reference = f"{stub.host}/same:same"
    assert "Downloaded newer image" in docker("pull", reference).stdout
    assert f"Status: Image is up to date for {reference}" in docker("pull", reference).stdout
    assert stub.asked[f"/v2/same/blobs/{packed}"] == 1


def test_a_tag_that_moved(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    stub.image(layer, "moving", architecture=HERE)
    reference = f"{stub.host}/moved:moving"
    docker("pull", reference)
    old = docker("inspect", "-f", "{{.Id}}", reference).stdout.strip()
    stub.image(layer, "moving", architecture=HERE, packed=layer, suffix="", docker=False)
    _, manifest = stub.manifests["moving"]
    changed = json.loads(manifest)
    config = json.loads(stub.blobs[changed["config"]["digest"]]) | {"author": "somebody else"}
    changed["config"] = stub._descriptor(changed["config"]["mediaType"], json.dumps(config).encode())
    stub.manifest(changed["mediaType"], changed, "moving")
    assert "Downloaded newer image" in docker("pull", reference).stdout
    assert docker("inspect", "-f", "{{.Id}}", reference).stdout.strip() != old
    docker("rmi", old)


def test_four_clients_at_once_download_once(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    _, packed = stub.image(layer, "busy", architecture=HERE)
    reference = f"{stub.host}/busy:busy"
    clients = [docker.start("pull", reference) for _ in range(4)]
    for client in clients:
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, err
        assert out.splitlines()[-1] == reference
    assert stub.asked[f"/v2/busy/blobs/{packed}"] == 1
    assert docker("run", "--rm", reference, "echo", "whole").stdout == "whole\n"


def test_run_pulls_what_is_missing(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    stub.image(layer, "lazy", architecture=HERE)
    done = docker("run", "--rm", f"{stub.host}/lazy:lazy", "echo", "here")
    assert done.stdout == "here\n"
    assert "Unable to find image" in done.stderr


# --- what goes wrong ---------------------------------------------------------------------------------------------


def test_not_found(docker: Client, registry: Registry) -> None:
    done = docker("pull", f"{registry.host}/not/there:1", check=False)
    assert done.returncode == 1
    assert "manifest" in done.stderr
    assert "unknown" in done.stderr or "not found" in done.stderr


def test_nobody_listens(docker: Client) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else takes the port meanwhile
        taken.bind(("127.0.0.1", 0))
        done = docker("pull", f"127.0.0.1:{taken.getsockname()[1]}/x", check=False)
    assert done.returncode == 1
    assert "connection refused" in done.stderr.lower()


def test_a_layer_that_is_not_what_the_manifest_says(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    _, packed = stub.image(layer, "forged", architecture=HERE)
    content = bytearray(stub.blobs[packed])
    content[-9] ^= 1
    stub.replaced[packed] = bytes(content)
    done = docker("pull", f"{stub.host}/forged:forged", check=False)
    assert done.returncode == 1
    assert packed.removeprefix("sha256:")[:12] in done.stderr
    assert f"{stub.host}/forged" not in docker("images").stdout


def test_a_layer_whose_content_is_not_what_the_configuration_says(
    docker: Client, stub: StubRegistry, layer: bytes
) -> None:
    stub.image(layer, "lying", architecture=HERE, packed=layer[:-1024] + b"\0" * 2048, suffix="")
    done = docker("pull", f"{stub.host}/lying:lying", check=False)
    assert done.returncode == 1
    assert "failed to register layer" in done.stderr


def test_a_layer_that_breaks_off_is_resumed_or_told(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    _, packed = stub.image(layer, "short", architecture=HERE)
    stub.cut[packed] = 1000
    with docker.start("pull", f"{stub.host}/short:short") as client:
        until(lambda: stub.asked[f"/v2/short/blobs/{packed}"] >= 2, "it is asked for again")
        stub.cut.clear()
        _, err = client.communicate(timeout=40)
        assert client.returncode == 0, err
    assert docker("run", "--rm", f"{stub.host}/short:short", "echo", "whole").stdout == "whole\n"


def test_a_manifest_that_is_no_manifest(docker: Client, stub: StubRegistry) -> None:
    stub.manifest("application/vnd.oci.image.manifest.v1+json", ["what"], "odd")
    done = docker("pull", f"{stub.host}/odd:odd", check=False)
    assert done.returncode == 1
    assert "internal error" not in done.stderr


def test_a_client_that_leaves_in_the_middle_stops_the_pull(docker: Client, stub: StubRegistry, layer: bytes) -> None:
    _, packed = stub.image(layer, "left", architecture=HERE)
    stub.cut[packed] = 10
    with docker.start("pull", f"{stub.host}/left:left") as client:
        until(lambda: stub.asked[f"/v2/left/blobs/{packed}"] >= 1, "the download has begun")
        client.kill()
    stub.cut.clear()
    docker("pull", f"{stub.host}/left:left")
