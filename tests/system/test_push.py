"""Pushing: what was sent to a registry comes back the same, and a registry's refusals in its own words."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients import Client, Registry, serve
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.registry]

PASSWORD = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
"""A line of htpasswd(5) for the password ``secret``."""


@pytest.fixture(autouse=True)
def no_image_left(docker: Client, warm: str, snapshot: frozenset[str]) -> Iterator[None]:
    """Names in registries are removed; the test's own images with them."""
    before = docker("images", "-q", "--no-trunc").stdout
    yield
    for reference in docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split():
        if reference.startswith("127.0.0.1:"):
            docker("rmi", "-f", reference.replace(":<none>", ""), check=False)
    for name in docker("image", "inspect", "-f", "{{range .RepoDigests}}{{.}} {{end}}", warm).stdout.split():
        docker("rmi", name)
    docker("image", "prune", "-f")
    assert docker("images", "-q", "--no-trunc").stdout == before


def manifest(registry: Registry, repository: str, tag: str) -> dict[str, object]:
    """What the registry has under a name."""
    accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    url = f"http://{registry.host}/v2/{repository}/manifests/{tag}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=20) as answer:
        found: dict[str, object] = json.load(answer)
    return found


def test_what_was_pushed_is_pulled_again(cli: Client, docker: Client, registry: Registry, warm: str, name: str) -> None:
    base = f"{registry.host}/push/{name}"
    container = docker("create", warm, "sh", "-c", "cat /made").stdout.strip()
    docker("cp", "-", f"{container}:/", stdin=_archive_of_a_file())
    image = docker("commit", container, f"{base}:1").stdout.strip()
    docker("rm", container)

    done = cli("push", f"{base}:1").stdout
    assert f"The push refers to repository [{base}]" in done
    assert len(re.findall(r": Pushed$", done, re.MULTILINE)) == 2
    digest = re.search(r"^1: digest: (sha256:[0-9a-f]{64}) size: \d+$", done, re.MULTILINE)
    assert digest, done
    assert f"{base}@{digest[1]}" in docker("image", "inspect", "-f", "{{.RepoDigests}}", image).stdout
    assert {each["mediaType"][-5:] for each in manifest(registry, f"push/{name}", "1")["layers"]} == {".gzip"}  # type: ignore[attr-defined]

    again = cli("push", f"{base}:1").stdout
    assert len(re.findall(r": Layer already exists$", again, re.MULTILINE)) == 2
    assert digest[0] in again

    docker("rmi", f"{base}:1")
    assert digest[1] in docker("pull", f"{base}:1").stdout
    assert docker("image", "inspect", "-f", "{{.Id}}", f"{base}:1").stdout.strip() == image
    assert docker("run", "--rm", f"{base}:1").stdout == "content\n"


def test_what_a_registry_has(pydd: Daemon, registry: Registry, name: str) -> None:
    """Told without pulling."""
    reference = registry.push(f"push/{name}:1")
    url = f"http://{registry.host}/v2/push/{name}/manifests/1"
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=accept), timeout=20) as answer:
        raw, digest = answer.read(), answer.headers["Docker-Content-Digest"]
    api = pydd.api()
    try:
        found = api.json("GET", f"/distribution/{reference}/json")["Descriptor"]
    finally:
        api.close()
    assert (found["digest"], found["size"], found["mediaType"]) == (digest, len(raw), accept["Accept"])


def test_a_pulled_image_keeps_its_digest(docker: Client, registry: Registry, name: str) -> None:
    reference = registry.push(f"push/{name}-from:1")
    digest = re.search(r"Digest: (sha256:\w+)", docker("pull", reference).stdout)
    assert digest
    target = f"{registry.host}/push/{name}-to:2"
    docker("tag", reference, target)
    done = docker("push", target).stdout
    assert f"Mounted from push/{name}-from" in done
    assert f"2: digest: {digest[1]} size: " in done
    assert manifest(registry, f"push/{name}-to", "2") == manifest(registry, f"push/{name}-from", "1")


def test_all_tags(docker: Client, registry: Registry, warm: str, name: str) -> None:
    base = f"{registry.host}/push/{name}"
    for tag in ("a", "b"):
        docker("tag", warm, f"{base}:{tag}")
    done = docker("push", "-a", base).stdout
    assert [tag for tag in ("a", "b") if f"{tag}: digest: sha256:" in done] == ["a", "b"]
    assert manifest(registry, f"push/{name}", "a") == manifest(registry, f"push/{name}", "b")


def test_refusals(cli: Client, docker: Client, registry: Registry, warm: str, name: str) -> None:
    done = cli("push", f"{registry.host}/push/{name}:none", check=False)
    assert done.returncode == 1
    assert f"An image does not exist locally with the tag: {registry.host}/push/{name}" in done.stderr
    docker("tag", warm, f"127.0.0.1:1/{name}")
    done = docker("push", f"127.0.0.1:1/{name}", check=False)
    assert done.returncode == 1
    assert "connection refused" in done.stderr


def test_a_registry_with_passwords(
    pydd: Daemon, docker: Client, image_archive: Path, warm: str, name: str, tmp_path: Path
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(PASSWORD)
    folder = tmp_path / "registry"
    folder.mkdir()
    client = Client(docker.program, {**docker.environment, "DOCKER_CONFIG": str(tmp_path / "client")})
    with serve(folder, image_archive, f"auth: {{htpasswd: {{realm: here, path: {passwords}}}}}\n") as registry:
        reference = f"{registry.host}/{name}:1"
        client("tag", warm, reference)
        done = client("push", reference, check=False)
        assert done.returncode == 1
        assert "no basic auth credentials" in done.stderr
        assert client("login", "-u", "user", "--password-stdin", registry.host, stdin="wrong", check=False).returncode
        client("login", "-u", "user", "--password-stdin", registry.host, stdin="secret")
        assert "1: digest: sha256:" in client("push", reference).stdout
        client("rmi", reference)
        client("pull", reference)
        client("rmi", reference)


def _archive_of_a_file() -> str:
    """A tar archive of one file, as text: it is all ASCII."""
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("made")
        entry.size = 8
        archive.addfile(entry, io.BytesIO(b"content\n"))
    return buffer.getvalue().decode()
