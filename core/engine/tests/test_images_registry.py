"""Pulling: from a real registry, and from one that misbehaves in every way we could think of."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from yarl import URL

from pyd_contracts.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PydError,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from pyd_engine.images.auth import Credentials, challenges, check_realm, may_receive
from pyd_engine.images.documents import Index, Manifest, parse_config, parse_document
from pyd_engine.images.platform import Platform, parse_platform
from pyd_engine.images.pull import Puller, choose
from pyd_engine.images.records import ImageRecords
from pyd_engine.images.reference import parse
from pyd_engine.images.registry import Registries
from pyd_engine.images.transport import RegistryConfig
from pyd_engine.layers.agreements import Arrival, LayerDescriptor, LayerProgress
from pyd_engine.layers.service import Layers
from pyd_engine.store.content import Content
from pyd_engine.store.database import Database

Record = dict[str, Any]


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer_tar(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o755
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Host:
    """An engine's stores without storage drivers: images are pulled, not unpacked."""

    def __init__(self, root: Path, **config: Any) -> None:
        config.setdefault("backoff", 0.01)
        self.content = Content(root / "content")
        self.database = Database(Path(":memory:"))
        self.records = ImageRecords(self.database)
        self.registries = Registries(RegistryConfig(**config))
        self.seen: list[Record] = []
        self.layers = Layers(self.database, self.content, {}, root / "run")
        self.puller = Puller(self.content, self.records, self.registries, self.layers, driver=None)

    def blobs(self) -> set[str]:
        return {digest for digest, _ in self.content.walk()}

    async def pull(self, name: str, **more: Any) -> Any:
        try:
            return await self.puller.pull(parse(name), progress=self.seen.append, **more)
        finally:
            await self.registries.close()

    def run(self, name: str, **more: Any) -> Any:
        return asyncio.run(self.pull(name, **more))

    def statuses(self) -> list[str]:
        return [record["status"] for record in self.seen]


# --- a real registry ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """docker-registry on a free port of loopback, with ``x:1`` (docker), ``x:oci``, ``x:zstd`` and ``x:list`` in it."""
    for tool in ("docker-registry", "skopeo"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    root = Path(tempfile.mkdtemp(prefix="pyd-registry-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = {
        "version": 0.1, "log": {"level": "error"}, "http": {"addr": address},
        "storage": {"filesystem": {"rootdirectory": str(root / "data")}},
    }  # fmt: skip
    (root / "config.yml").write_text(json.dumps(settings))
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", root / "config.yml"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/v2/").close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise AssertionError((root / "log").read_text()) from None
                time.sleep(0.02)
        archive = root / "image.tar"
        archive.write_bytes(docker_archive())
        for tag, options in (("1", ["--format", "v2s2"]), ("oci", ["--format", "oci"]),
                             ("zstd", ["--format", "oci", "--dest-compress-format", "zstd",
                                      "--dest-force-compress-format"])):  # fmt: skip
            copy = ["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", *options]
            done = subprocess.run(
                [*copy, f"docker-archive:{archive}", f"docker://{address}/x:{tag}"], capture_output=True, text=True
            )
            if done.returncode and tag == "zstd":  # older skopeo has no such option
                done = subprocess.run([*copy[:-1], f"docker-archive:{archive}", f"docker://{address}/x:{tag}"],
                                      capture_output=True, text=True)  # fmt: skip
            assert done.returncode == 0, done.stderr
        put_index(address)
        yield address
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(root)


def docker_archive() -> bytes:
    busybox = Path("/bin/busybox").read_bytes() if Path("/bin/busybox").exists() else os.urandom(1 << 20)
    layers = [layer_tar("bin/busybox", busybox), layer_tar("etc/motd", b"hello\n")]
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
        "created": "2024-01-02T03:04:05Z", "rootfs": {"type": "layers", "diff_ids": [sha(data) for data in layers]},
        "history": [{"created_by": "one"}, {"created_by": "two"}, {"created_by": "three", "empty_layer": True}],
    }  # fmt: skip
    raw = json.dumps(config).encode()
    manifest = [{"Config": "config.json", "RepoTags": ["x:1"], "Layers": ["0.tar", "1.tar"]}]
    out = io.BytesIO()
    members = {
        "config.json": raw,
        "0.tar": layers[0],
        "1.tar": layers[1],
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def put_index(address: str) -> None:
    """An index for amd64 and another platform whose manifest is the same."""
    accept = "application/vnd.oci.image.manifest.v1+json"
    request = urllib.request.Request(f"http://{address}/v2/x/manifests/oci", headers={"Accept": accept})
    with urllib.request.urlopen(request) as answer:
        raw = answer.read()
    entry = {"mediaType": accept, "digest": sha(raw), "size": len(raw)}
    index = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**entry, "platform": {"os": "linux", "architecture": "s390x"}},
                      {**entry, "platform": {"os": "linux", "architecture": "amd64"}}],
    }).encode()  # fmt: skip
    put = urllib.request.Request(f"http://{address}/v2/x/manifests/list", data=index, method="PUT",
                                 headers={"Content-Type": "application/vnd.oci.image.index.v1+json"})  # fmt: skip
    urllib.request.urlopen(put).close()


@pytest.mark.parametrize("tag", ["1", "oci", "zstd", "list"])
def test_pull(registry: str, tmp_path: Path, tag: str) -> None:
    host = Host(tmp_path)
    pulled = host.run(f"{registry}/x:{tag}", platform=Platform("linux", "amd64"))
    image = pulled.image
    config = parse_config(host.content.read(image.id, 1 << 20), "config")
    assert config.cmd == ("sh",)
    assert [layer.diff_id for layer in image.layers] == list(config.diff_ids)
    assert [name.familiar for name in image.tags] == [f"{registry}/x:{tag}"]
    assert [name.familiar for name in image.digests] == [f"{registry}/x@{pulled.digest}"]
    assert host.blobs() >= {image.id, image.manifest, pulled.digest, *(layer.digest for layer in image.layers)}
    assert host.seen[0] == {"status": "Pulling from x", "id": tag}
    assert host.seen[-2:] == [
        {"status": f"Digest: {pulled.digest}"},
        {"status": f"Status: Downloaded newer image for {registry}/x:{tag}"},
    ]
    for layer in image.layers:
        own = [record["status"] for record in host.seen if record.get("id") == layer.digest[7:19]]
        assert own[0] == "Pulling fs layer"
        assert own[-3:] == ["Verifying Checksum", "Download complete", "Pull complete"]
        last = [r for r in host.seen if r.get("id") == layer.digest[7:19] and r["status"] == "Downloading"][-1]
        assert last["progressDetail"] == {"current": layer.size, "total": layer.size}
    host.seen.clear()
    again = host.run(f"{registry}/x:{tag}", platform=Platform("linux", "amd64"))
    assert not again.changed
    assert host.statuses() == [
        "Pulling from x", f"Digest: {pulled.digest}", f"Status: Image is up to date for {registry}/x:{tag}",
    ]  # fmt: skip
    by_digest = host.run(f"{registry}/x@{pulled.digest}", platform=Platform("linux", "amd64"))
    assert by_digest.image.id == image.id
    assert len(host.records.all()) == 1


def test_pull_shares_layers_that_are_here(registry: str, tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.run(f"{registry}/x:1")
    host.seen.clear()
    host.run(f"{registry}/x:oci")
    statuses = [record["status"] for record in host.seen if record.get("id") != "oci"]
    assert statuses[:2] in (["Already exists", "Already exists"], [host.seen[-2]["status"], host.seen[-1]["status"]])


def test_real_registry_errors(registry: str, tmp_path: Path) -> None:
    host = Host(tmp_path)
    with pytest.raises(NotFound) as caught:
        host.run(f"{registry}/x:no")
    assert str(caught.value) == f"manifest for {registry}/x:no not found: manifest unknown: manifest unknown"
    with pytest.raises(NotFound, match=r"manifest for .*/nothing:latest not found: manifest unknown"):
        host.run(f"{registry}/nothing")
    with pytest.raises(
        NotFound, match=r"no matching manifest for linux/arm64/v8 in the manifest list entries: it has linux/amd64"
    ):
        host.run(f"{registry}/x:list", platform=Platform("linux", "arm64"))
    assert host.records.all() == []


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        Host(tmp_path).run(f"127.0.0.1:{port}/x")
    assert (
        str(caught.value)
        == f'Get "http://127.0.0.1:{port}/v2/": dial tcp 127.0.0.1:{port}: connect: connection refused'
    )


# --- a registry of our own, for faults ---------------------------------------------------------------------------

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Stub:
    """A registry that serves what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.layer = gzip.compress(layer_tar("file", os.urandom(300_000)), 1)
        self.diff_id = sha(gzip.decompress(self.layer))
        self.config = json.dumps(
            {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [self.diff_id]}}
        ).encode()
        self.manifest = self.document(self.config, [self.layer])
        self.blobs = {sha(self.layer): self.layer, sha(self.config): self.config}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.before: Handler | None = None
        self.headers: dict[str, str] = {}
        self.address = ""

    @staticmethod
    def document(config: bytes, layers: list[bytes]) -> bytes:
        media = "application/vnd.oci.image."
        return json.dumps({
            "schemaVersion": 2, "mediaType": media + "manifest.v1+json",
            "config": {"mediaType": media + "config.v1+json", "digest": sha(config), "size": len(config)},
            "layers": [{"mediaType": media + "layer.v1.tar+gzip", "digest": sha(data), "size": len(data)} for data in layers],
        }).encode()  # fmt: skip

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, dict(request.headers)))
        if self.before is not None:
            try:
                return await self.before(request)
            except LookupError:
                pass
        if request.path == "/v2/":
            return web.Response(text="{}")
        if "/manifests/" in request.path:
            return web.Response(body=self.manifest, headers=self.headers)
        digest = request.path.rpartition("/")[2]
        if digest not in self.blobs:
            return web.json_response({"errors": [{"code": "BLOB_UNKNOWN", "message": "blob unknown"}]}, status=404)
        return web.Response(body=self.blobs[digest])

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Stub]:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def asked_for(self, word: str) -> list[dict[str, str]]:
        return [headers for _, path, headers in self.asked if word in path]


def attempt(
    tmp_path: Path, stub: Stub, *, name: str = "x", credentials: Credentials | None = None, **config: Any
) -> tuple[Host, Any]:
    """Pull from a stub; the pull's result or its error."""

    async def run() -> tuple[Host, Any]:
        async with stub.serving():
            host = Host(tmp_path, **config)
            more = {"credentials": credentials} if credentials else {}
            try:
                return host, await host.pull(f"{stub.address}/{name}", platform=Platform("linux", "amd64"), **more)
            except PydError as error:
                return host, error

    return asyncio.run(run())


def nothing_kept(host: Host) -> bool:
    return (
        host.records.all() == []
        and list((host.content.path("sha256:" + "0" * 64).parent.parent.parent / "ingest").iterdir()) == []
    )


def test_wrong_bytes_are_not_stored(tmp_path: Path) -> None:
    stub = Stub()
    digest = sha(stub.layer)
    stub.blobs[digest] = b"\0" + stub.layer[1:]
    host, error = attempt(tmp_path, stub)
    assert isinstance(error, InvalidArgument)
    assert f"filesystem layer verification failed for digest {digest}" in str(error)
    assert nothing_kept(host)
    assert digest not in host.blobs()


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_length(tmp_path: Path, change: int) -> None:
    stub = Stub()
    stub.blobs[sha(stub.layer)] = stub.layer[:-1] if change < 0 else stub.layer + b"x"
    host, error = attempt(tmp_path, stub, retries=2)
    assert isinstance(error, PydError)
    assert nothing_kept(host)
    assert sha(stub.layer) not in host.blobs()


def test_broken_download_goes_on_where_it_was(tmp_path: Path) -> None:
    stub = Stub()
    size = len(stub.layer)

    async def before(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith(sha(stub.layer)):
            raise LookupError
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        response = web.StreamResponse(
            status=206 if start else 200, headers={"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        )
        response.content_length = size - start
        await response.prepare(request)
        await response.write(stub.layer[start : start + 100_000])
        if start + 100_000 < size:
            assert request.transport is not None
            request.transport.close()
        return response

    stub.before = before
    host, pulled = attempt(tmp_path, stub)
    assert pulled.image.layers[0].size == size
    ranges = [headers.get("Range") for headers in stub.asked_for("/blobs/" + sha(stub.layer))]
    assert ranges[0] is None
    assert len(ranges) >= 3
    assert all(value and value != "bytes=0-" for value in ranges[1:])
    assert host.content.has(sha(stub.layer))


def test_server_that_knows_no_ranges(tmp_path: Path) -> None:
    stub = Stub()
    broken = [True]

    async def before(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith(sha(stub.layer)) or not broken:
            raise LookupError
        broken.clear()
        response = web.StreamResponse()
        response.content_length = len(stub.layer)
        await response.prepare(request)
        await response.write(stub.layer[:1000])
        assert request.transport is not None
        request.transport.close()
        return response

    stub.before = before
    _, pulled = attempt(tmp_path, stub)
    assert pulled.changed


@pytest.mark.parametrize(("status", "times", "good"), [(503, 2, True), (500, 9, False), (429, 1, True)])
def test_servers_in_trouble(tmp_path: Path, status: int, times: int, good: bool) -> None:
    stub = Stub()
    left = [None] * times

    async def before(request: web.Request) -> web.StreamResponse:
        if "/blobs/" not in request.path or not left:
            raise LookupError
        left.pop()
        return web.Response(status=status, text="oops", headers={"Retry-After": "0"} if status == 429 else {})

    stub.before = before
    host, result = attempt(tmp_path, stub, retries=3)
    if good:
        assert result.changed
    else:
        assert isinstance(result, Unavailable)
        assert f"received unexpected HTTP status: {status}" in str(result)
        assert nothing_kept(host)


@pytest.mark.parametrize(
    ("status", "code", "text", "kind", "message"),
    [
        (404, "MANIFEST_UNKNOWN", "manifest unknown", NotFound,
         "manifest for {ref}:latest not found: manifest unknown: manifest unknown"),
        (403, "DENIED", "requested access to the resource is denied", NotFound,
         ("pull access denied for {ref}, repository does not exist or may require 'docker login': "
          "denied: requested access to the resource is denied")),
        (404, "NAME_UNKNOWN", "repository name not known to registry", NotFound,
         "repository {ref} not found: name unknown: repository name not known to registry"),
        (401, "UNAUTHORIZED", "authentication required", Unauthorized, "unauthorized: authentication required"),
        (403, "", "", PermissionDenied, None),
        (404, "", "", NotFound, None),
        (400, "TAG_INVALID", "no", InvalidArgument, "tag invalid: no"),
    ],
)  # fmt: skip
def test_error_words(
    tmp_path: Path, status: int, code: str, text: str, kind: type[PydError], message: str | None
) -> None:
    stub = Stub()

    async def before(request: web.Request) -> web.StreamResponse:
        if "/manifests/" not in request.path:
            raise LookupError
        if not code:
            return web.Response(status=status, text="<html>")
        return web.json_response({"errors": [{"code": code, "message": text}]}, status=status)

    stub.before = before
    _, error = attempt(tmp_path, stub)
    assert type(error) is kind
    if message:
        assert str(error) == message.replace("{ref}", f"{stub.address}/x")


# --- who may know the password -----------------------------------------------------------------------------------

ME = Credentials("me", "secret")
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


def bearer(stub: Stub, realm: Callable[[], str]) -> Handler:
    async def before(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"token": "tok-" + request.query.get("scope", "")})
        if request.headers.get("Authorization") != "Bearer tok-repository:x:pull":
            challenge = f'Bearer realm="{realm()}",service="reg",scope="repository:x:pull"'
            body = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
            return web.json_response(body, status=401, headers={"WWW-Authenticate": challenge})
        raise LookupError

    return before


@pytest.mark.parametrize("credentials", [None, ME])
def test_bearer(tmp_path: Path, credentials: Credentials | None) -> None:
    stub = Stub()
    stub.before = bearer(stub, lambda: f"http://{stub.address}/token")
    _, pulled = attempt(tmp_path, stub, credentials=credentials)
    assert pulled.changed
    tokens = stub.asked_for("/token")
    assert len(tokens) == 1
    assert tokens[0].get("Authorization") == (BASIC if credentials else None)


def test_basic(tmp_path: Path) -> None:
    stub = Stub()

    async def before(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != BASIC:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        raise LookupError

    stub.before = before
    _, pulled = attempt(tmp_path, stub, credentials=ME)
    assert pulled.changed
    _, error = attempt(tmp_path / "b", stub)
    assert isinstance(error, Unauthorized)
    assert "no basic auth credentials" in str(error)
    _, error = attempt(tmp_path / "c", stub, credentials=Credentials("me", "wrong"))
    assert isinstance(error, Unauthorized)


def pair(tmp_path: Path, make: Callable[[Stub, Stub], None], **config: Any) -> tuple[Any, Stub, Stub]:
    """Pull from A with credentials while B listens."""

    async def run() -> tuple[Any, Stub, Stub]:
        a, b = Stub(), Stub()
        async with a.serving(), b.serving():
            make(a, b)
            b.blobs.update(a.blobs)
            settings = {name: value(b) if callable(value) else value for name, value in config.items()}
            host = Host(tmp_path, **settings)
            try:
                return await host.pull(f"{a.address}/x", platform=Platform("linux", "amd64"), credentials=ME), a, b
            except PydError as error:
                return error, a, b

    return asyncio.run(run())


def test_password_stays_away_from_another_realm(tmp_path: Path) -> None:
    def make(a: Stub, b: Stub) -> None:
        a.before = bearer(a, lambda: f"http://{b.address}/token")
        b.before = bearer(b, lambda: "")

    result, _, b = pair(tmp_path, make)
    assert result.changed, "an anonymous token of another host is fine"
    assert [headers.get("Authorization") for headers in b.asked_for("/token")] == [None]
    result, _, b = pair(tmp_path / "b", make, trusted_realms=lambda b: frozenset({b.address}))
    assert [headers.get("Authorization") for headers in b.asked_for("/token")] == [BASIC]


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_redirects_lose_the_authorization(tmp_path: Path, scheme: str) -> None:
    def make(a: Stub, b: Stub) -> None:
        token = bearer(a, lambda: f"http://{a.address}/token")

        async def before(request: web.Request) -> web.StreamResponse:
            if scheme == "bearer":
                try:
                    return await token(request)
                except LookupError:
                    pass
            elif request.headers.get("Authorization") != BASIC:
                return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
            if "/blobs/" in request.path:
                return web.Response(status=307, headers={"Location": f"http://{b.address}{request.path}?signature=1"})
            raise LookupError

        a.before = before

    result, a, b = pair(tmp_path, make)
    assert result.changed
    assert b.asked_for("/blobs/")
    assert all("Authorization" not in headers for _, _, headers in b.asked)
    assert any("Authorization" in headers for headers in a.asked_for("/blobs/"))


def test_challenge_after_a_redirect_does_not_count(tmp_path: Path) -> None:
    def make(a: Stub, b: Stub) -> None:
        async def elsewhere(request: web.Request) -> web.StreamResponse:
            if "/manifests/" in request.path:
                return web.Response(status=302, headers={"Location": f"http://{b.address}{request.path}"})
            raise LookupError

        async def greedy(request: web.Request) -> web.StreamResponse:
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})

        a.before, b.before = elsewhere, greedy

    result, _, b = pair(tmp_path, make)
    assert isinstance(result, Unauthorized)
    assert all("Authorization" not in headers for _, _, headers in b.asked)


def test_redirect_loop(tmp_path: Path) -> None:
    stub = Stub()

    async def before(request: web.Request) -> web.StreamResponse:
        if request.path == "/v2/":
            raise LookupError
        return web.Response(status=302, headers={"Location": request.path + "x"})

    stub.before = before
    _, error = attempt(tmp_path, stub, retries=1)
    assert isinstance(error, Unavailable)
    assert "stopped after 10 redirects" in str(error)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://[", "gopher://x/"])
def test_odd_redirects(tmp_path: Path, location: str) -> None:
    stub = Stub()

    async def before(request: web.Request) -> web.StreamResponse:
        if request.path == "/v2/":
            raise LookupError
        return web.Response(status=302, headers={"Location": location})

    stub.before = before
    _, error = attempt(tmp_path, stub, retries=1)
    assert isinstance(error, InvalidArgument)
    assert "redirects" in str(error)


def test_realm_rules() -> None:
    hub, local = URL("https://registry-1.docker.io/v2/"), URL("http://127.0.0.1:5000/v2/")
    assert check_realm(hub, "https://auth.docker.io/token").host == "auth.docker.io"
    for realm in ("http://auth.docker.io/token", "https://127.0.0.1/t", "https://169.254.169.254/t", "https://localhost/t",
                  "https://[::1]/t", "https://[::ffff:127.0.0.1]/t", "https://0.0.0.0/t"):  # fmt: skip
        with pytest.raises(PermissionDenied):
            check_realm(hub, realm)
    for realm in ("", "file:///etc/passwd", "https://", "https://u:p@auth.docker.io/", "ftp://x/"):
        with pytest.raises(InvalidArgument):
            check_realm(hub, realm)
    assert check_realm(local, "http://localhost:5001/token").port == 5001
    assert may_receive(hub, URL("https://auth.docker.io/token"))
    assert may_receive(URL("https://registry.gitlab.com/v2/"), URL("https://gitlab.com/jwt/auth"))
    assert may_receive(URL("https://ghcr.io/v2/"), URL("https://ghcr.io/token"))
    assert not may_receive(hub, URL("https://evil.io/token"))
    assert not may_receive(hub, URL("https://evildocker.io/token"))
    assert not may_receive(hub, URL("http://auth.docker.io/token"))
    assert not may_receive(URL("https://ghcr.io/v2/"), URL("https://evil.io/token"))
    assert not may_receive(URL("https://10.0.0.1/v2/"), URL("https://10.0.0.2/token"))
    assert not may_receive(local, URL("http://127.0.0.1:5001/token"))
    assert may_receive(hub, URL("https://sso.example.com/t"), {"sso.example.com"})


def test_challenge_headers() -> None:
    (found,) = challenges(['Bearer realm="https://a/b?c=d,e",service="s \\"q\\"", scope=x'])
    assert (found.scheme, found.parameters) == (
        "bearer",
        {"realm": "https://a/b?c=d,e", "service": 's "q"', "scope": "x"},
    )
    assert [c.scheme for c in challenges(["Basic realm=a", "Negotiate"])] == ["basic", "negotiate"]
    assert challenges(["", "=", ",,,", "\0"]) == []
    begin = time.process_time()
    challenges(["Bearer " + 'a="\\' * 4000, "B " * 5000])
    assert time.process_time() - begin < 0.5


def test_insecure_hosts() -> None:
    config = RegistryConfig(insecure=frozenset({"reg.example:5000", "10.0.0.0/8", "plain.example"}))
    good = ["localhost:5000", "127.9.9.9", "[::1]:80", "reg.example:5000", "10.1.2.3:5000", "plain.example:80"]
    assert all(config.is_insecure(host) for host in good)
    assert not any(config.is_insecure(host) for host in ["docker.io", "reg.example", "11.0.0.1", "localhost.example"])


# --- documents ---------------------------------------------------------------------------------------------------

OCI = "application/vnd.oci.image."
DIGEST = "sha256:" + "a" * 64
GOOD_DESCRIPTOR = {"mediaType": OCI + "config.v1+json", "digest": DIGEST, "size": 2}
GOOD_MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": OCI + "manifest.v1+json",
    "config": GOOD_DESCRIPTOR,
    "layers": [],
}
GOOD_INDEX: dict[str, Any] = {"schemaVersion": 2, "manifests": []}


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000, b'{"schemaVersion": NaN}',
        b'{"schemaVersion": ' + b"9" * 5000 + b"}",
        {**GOOD_MANIFEST, "manifests": []}, {**GOOD_INDEX, "config": None}, {**GOOD_INDEX, "layers": None},
        {"schemaVersion": 2}, {**GOOD_MANIFEST, "schemaVersion": 3}, {**GOOD_MANIFEST, "schemaVersion": "2"},
        {**GOOD_MANIFEST, "schemaVersion": True}, {**GOOD_MANIFEST, "mediaType": OCI + "index.v1+json"},
        {**GOOD_INDEX, "mediaType": OCI + "manifest.v1+json"}, {**GOOD_MANIFEST, "mediaType": 7},
        {**GOOD_MANIFEST, "mediaType": "text/html"}, {**GOOD_MANIFEST, "config": None}, {**GOOD_MANIFEST, "config": []},
        {**GOOD_MANIFEST, "config": {}}, {**GOOD_MANIFEST, "layers": {}}, {**GOOD_MANIFEST, "layers": [None]},
        {**GOOD_MANIFEST, "layers": [GOOD_DESCRIPTOR] * 501},
        {**GOOD_MANIFEST, "config": {**GOOD_DESCRIPTOR, "mediaType": "application/vnd.cncf.helm.config.v1+json"}},
        *({**GOOD_MANIFEST, "config": {**GOOD_DESCRIPTOR, "size": size}}
          for size in (-1, "2", None, True, 1.5, 1 << 63, (8 << 20) + 1)),
        *({**GOOD_MANIFEST, "layers": [{**GOOD_DESCRIPTOR, "digest": digest}]}
          for digest in ("", None, 7, "sha256:../../x", "sha256:" + "A" * 64, "sha1:" + "a" * 40, DIGEST + "\n")),
        {**GOOD_INDEX, "manifests": [{**GOOD_DESCRIPTOR, "platform": "linux"}]},
        {**GOOD_INDEX, "manifests": [{**GOOD_DESCRIPTOR, "platform": {"os": 1}}]},
        {**GOOD_INDEX, "manifests": [{**GOOD_DESCRIPTOR, "annotations": {"a": 1}}]},
        b" " * ((4 << 20) + 1),
    ],
)  # fmt: skip
def test_documents_refused(raw: bytes | dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="^the manifest"):
        parse_document(raw if isinstance(raw, bytes) else json.dumps(raw).encode(), "the manifest")


def test_documents_read() -> None:
    manifest = parse_document(json.dumps({**GOOD_MANIFEST, "layers": None, "unknown": [1]}).encode(), "m")
    assert isinstance(manifest, Manifest)
    assert isinstance(parse_document(json.dumps({**GOOD_INDEX, "manifests": None}).encode(), "m"), Index)
    with pytest.raises(Unsupported, match="schema 1"):
        parse_document(b'{"schemaVersion": 1, "fsLayers": []}', "m")


@pytest.mark.parametrize(
    "value",
    [
        {"config": []}, {"config": {"Env": "A=b"}}, {"config": {"Env": [1]}}, {"config": {"Cmd": "sh"}}, {"os": 1},
        {"config": {"Labels": {"a": 1}}}, {"config": {"Labels": []}}, {"config": {"Volumes": []}}, {"history": {}},
        {"config": {"Healthcheck": "x"}}, {"config": {"User": 0}}, {"history": [1]}, {"history": [{"empty_layer": 1}]},
        {"rootfs": {"diff_ids": ["sha256:../x"]}}, {"rootfs": {"diff_ids": "x"}}, {"rootfs": {"type": "squash"}},
        {"rootfs": {"diff_ids": [DIGEST] * 501}}, {"config": {"ExposedPorts": ["80"]}},
    ],
)  # fmt: skip
def test_configurations_refused(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        parse_config(json.dumps(value).encode(), "config")


@pytest.mark.parametrize("change", [("mediaType", OCI + "index.v1+json"), ("manifests", [])])
def test_confusing_manifest_is_refused_whatever_the_content_type(tmp_path: Path, change: tuple[str, Any]) -> None:
    for kind in (OCI + "index.v1+json", OCI + "manifest.v1+json", "text/plain"):
        stub = Stub()
        stub.manifest = json.dumps({**json.loads(stub.manifest), change[0]: change[1]}).encode()
        stub.headers = {"Content-Type": kind}
        host, error = attempt(tmp_path / sha(kind.encode())[7:19], stub)
        assert isinstance(error, InvalidArgument)
        assert nothing_kept(host)


def test_manifests_are_capped_while_they_are_read(tmp_path: Path) -> None:
    stub = Stub()
    stub.manifest = b" " * (5 << 20)
    _, error = attempt(tmp_path, stub)
    assert isinstance(error, InvalidArgument)
    assert "larger than the limit of 4194304 bytes" in str(error)


def test_manifest_digest_is_checked(tmp_path: Path) -> None:
    stub = Stub()
    _, error = attempt(tmp_path, stub, name="x@sha256:" + "0" * 64)
    assert "manifest verification failed for digest sha256:" + "0" * 64 in str(error)
    stub.headers = {"Docker-Content-Digest": "sha256:" + "0" * 64}
    _, error = attempt(tmp_path / "b", stub)
    assert "manifest verification failed" in str(error)


def test_layers_and_diff_ids_must_match(tmp_path: Path) -> None:
    stub = Stub()
    stub.manifest = stub.document(stub.config, [stub.layer, stub.layer])
    _, error = attempt(tmp_path, stub)
    assert "1 diff ids for 2 layers" in str(error)
    stub.config = json.dumps({"os": "windows", "rootfs": {"diff_ids": [stub.diff_id]}}).encode()
    stub.blobs[sha(stub.config)] = stub.config
    stub.manifest = stub.document(stub.config, [stub.layer])
    _, error = attempt(tmp_path / "b", stub)
    assert 'image operating system "windows" cannot be used' in str(error)


def test_platforms() -> None:
    def entry(text: str) -> dict[str, Any]:
        system, architecture, *variant = text.split("/")
        platform = {"os": system, "architecture": architecture, "variant": "".join(variant)}
        return {**GOOD_DESCRIPTOR, "digest": sha(text.encode()), "platform": platform}

    def chosen(wanted: str, *offered: str) -> str:
        index = parse_document(json.dumps({**GOOD_INDEX, "manifests": [entry(text) for text in offered]}).encode(), "i")
        assert isinstance(index, Index)
        found = choose(index, parse_platform(wanted)).digest
        return next(text for text in offered if sha(text.encode()) == found)

    assert chosen("linux/amd64", "unknown/unknown", "linux/386", "linux/amd64") == "linux/amd64"
    assert chosen("linux/amd64", "windows/amd64", "linux/386") == "linux/386"
    assert chosen("linux/arm64", "linux/arm/v7", "linux/arm64/v8") == "linux/arm64/v8"
    assert chosen("linux/arm64", "linux/arm/v6", "linux/arm/v7") == "linux/arm/v7"
    assert chosen("linux/arm/v7", "linux/arm/v5", "linux/arm/v6", "linux/arm64") == "linux/arm/v6"
    assert chosen("linux/x86_64", "linux/amd64") == "linux/amd64"
    assert chosen("linux/amd64/v3", "linux/amd64", "linux/amd64/v2") == "linux/amd64/v2"
    for text in ("", "linux/", "a/b/c/d", "linux/amd64\n", "plan10"):
        with pytest.raises(InvalidArgument):
            parse_platform(text)


def test_one_download_for_two_pulls(tmp_path: Path) -> None:
    stub = Stub()

    async def run() -> None:
        async with stub.serving():
            host = Host(tmp_path)
            gate = asyncio.Event()

            async def before(request: web.Request) -> web.StreamResponse:
                if request.path.endswith(sha(stub.layer)):
                    await gate.wait()
                raise LookupError

            stub.before = before
            pulls = [
                asyncio.create_task(
                    host.puller.pull(parse(f"{stub.address}/x:{tag}"), platform=Platform("linux", "amd64"))
                )
                for tag in "abc"
            ]
            while host.puller.downloading(sha(stub.layer)) < 3:
                await asyncio.sleep(0.001)
            gate.set()
            await asyncio.gather(*pulls)
            await host.registries.close()
            assert len(stub.asked_for("/blobs/" + sha(stub.layer))) == 1
            assert len(host.records.all()[0].tags) == 3

    asyncio.run(run())


def test_tag_moves_and_the_loser_is_named(tmp_path: Path) -> None:
    stub = Stub()

    async def run() -> None:
        async with stub.serving():
            host = Host(tmp_path)
            reference = parse(f"{stub.address}/x:1")
            first = await host.puller.pull(reference, platform=Platform("linux", "amd64"))
            stub.config = stub.config.replace(b'"linux"', b'"linux" ')
            stub.blobs[sha(stub.config)] = stub.config
            stub.manifest = stub.document(stub.config, [stub.layer])
            second = await host.puller.pull(reference, platform=Platform("linux", "amd64"))
            await host.registries.close()
            assert second.displaced == (first.image.id,)
            assert host.records.get(first.image.id).tags == ()  # type: ignore[union-attr]

    asyncio.run(run())


def test_tags(registry: str, tmp_path: Path) -> None:
    async def run() -> list[str]:
        host = Host(tmp_path)
        try:
            return await host.registries.repository(parse(f"{registry}/x")).tags()
        finally:
            await host.registries.close()

    assert sorted(asyncio.run(run())) == ["1", "list", "oci", "zstd"]


def test_tags_in_pages(tmp_path: Path) -> None:
    stub = Stub()

    async def before(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/tags/list"):
            raise LookupError
        last = request.query.get("last")
        headers = {} if last else {"Link": '<http://elsewhere.example/v2/x/tags/list?last=a&n=1>; rel="next"'}
        return web.json_response({"tags": ["b"] if last else ["a"]}, headers=headers)

    stub.before = before

    async def run() -> list[str]:
        async with stub.serving():
            host = Host(tmp_path)
            try:
                return await host.registries.repository(parse(f"{stub.address}/x")).tags()
            finally:
                await host.registries.close()

    assert asyncio.run(run()) == ["a", "b"]


def test_login(tmp_path: Path) -> None:
    stub = Stub()

    async def run(credentials: Credentials) -> None:
        async with stub.serving():
            host = Host(tmp_path)
            try:
                await host.registries.login(stub.address, credentials)
            finally:
                await host.registries.close()

    async def strict(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != BASIC:
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        raise LookupError

    stub.before = strict
    asyncio.run(run(ME))
    with pytest.raises(Unauthorized, match="incorrect username or password"):
        asyncio.run(run(Credentials("me", "wrong")))


def test_login_that_would_send_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        a, b = Stub(), Stub()
        async with a.serving(), b.serving():
            a.before = bearer(a, lambda: f"http://{b.address}/token")
            host = Host(tmp_path)
            try:
                await host.registries.login(a.address, ME)
            finally:
                await host.registries.close()
                assert b.asked == []

    with pytest.raises(Unauthorized, match="were not sent to 127.0.0.1, another domain"):
        asyncio.run(run())


def test_cancelled_pull_leaves_nothing_half(tmp_path: Path) -> None:
    stub = Stub()

    async def run() -> Host:
        async with stub.serving():
            host = Host(tmp_path)
            started = asyncio.Event()
            closed = asyncio.Event()

            async def before(request: web.Request) -> web.StreamResponse:
                if not request.path.endswith(sha(stub.layer)):
                    raise LookupError
                response = web.StreamResponse()
                response.content_length = len(stub.layer)
                await response.prepare(request)
                await response.write(stub.layer[:5000])
                started.set()
                await closed.wait()
                return response

            stub.before = before
            pull = asyncio.create_task(host.pull(f"{stub.address}/x", platform=Platform("linux", "amd64")))
            await started.wait()
            pull.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pull
            closed.set()
            assert host.puller.downloading(sha(stub.layer)) == 0
            return host

    host = asyncio.run(run())
    assert nothing_kept(host)
    assert sha(stub.layer) not in host.blobs()
    host.content.collect(set)
    assert host.blobs() == set()


def test_one_broken_layer_ends_the_pull_at_once(tmp_path: Path) -> None:
    stub = Stub()
    other = gzip.compress(layer_tar("other", b"x" * 5000))
    stub.config = json.dumps(
        {"os": "linux", "rootfs": {"diff_ids": [stub.diff_id, sha(gzip.decompress(other))]}}
    ).encode()
    stub.manifest = stub.document(stub.config, [stub.layer, other])
    stub.blobs.update({sha(stub.config): stub.config, sha(other): b"y" * len(other)})
    forever: list[asyncio.Event] = []

    async def before(request: web.Request) -> web.StreamResponse:
        if request.path.endswith(sha(stub.layer)):
            forever.append(asyncio.Event())
            await forever[-1].wait()
        raise LookupError

    stub.before = before
    host, error = attempt(tmp_path, stub)
    assert f"verification failed for digest {sha(other)}" in str(error)
    assert nothing_kept(host)


def test_wrong_size_of_a_blob_that_is_here(tmp_path: Path) -> None:
    stub = Stub()
    _, pulled = attempt(tmp_path, stub)
    assert pulled.changed
    document = json.loads(stub.manifest)
    document["layers"][0]["size"] += 1
    stub.manifest = json.dumps(document).encode()
    _, error = attempt(tmp_path, stub)
    assert f"has {len(stub.layer)} bytes, not {len(stub.layer) + 1}" in str(error)


class Arrivals:
    """Instead of layers: notes which blob arrives when, and calls all complete when all have come."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.news = asyncio.Event()

    def hold(self, _layers: Sequence[LayerDescriptor]) -> AbstractContextManager[None]:
        return nullcontext()

    async def present(self, _driver: str, _chain: str) -> bool:
        return False

    async def ensure(
        self, _driver: str, layers: Sequence[LayerDescriptor], progress: LayerProgress, arrival: Arrival
    ) -> None:
        async def one(layer: LayerDescriptor) -> None:
            await arrival(layer)
            self.came.append(layer.digest)
            self.news.set()

        await asyncio.gather(*map(one, layers))
        for layer in layers:
            progress(layer, "complete", layer.size, layer.size)


def test_layers_are_unpacked_as_they_arrive(tmp_path: Path) -> None:
    stub = Stub()
    other = gzip.compress(layer_tar("other", b"x" * 5000))
    stub.config = json.dumps(
        {"os": "linux", "rootfs": {"diff_ids": [stub.diff_id, sha(gzip.decompress(other))]}}
    ).encode()
    stub.manifest = stub.document(stub.config, [stub.layer, other])
    stub.blobs.update({sha(stub.config): stub.config, sha(other): other})

    async def run() -> tuple[Host, list[str]]:
        async with stub.serving():
            host, layers = Host(tmp_path), Arrivals()
            host.puller = Puller(host.content, host.records, host.registries, cast("Layers", layers), driver="s")

            async def before(request: web.Request) -> web.StreamResponse:
                if request.path.endswith(sha(stub.layer)):
                    await layers.news.wait()  # the lowest comes last
                raise LookupError

            stub.before = before
            await host.pull(f"{stub.address}/x", platform=Platform("linux", "amd64"))
            return host, layers.came

    host, came = asyncio.run(run())
    assert came == [sha(other), sha(stub.layer)]
    done = [record["id"] for record in host.seen if record["status"] == "Pull complete"]
    assert done == [sha(data)[7:19] for data in (stub.layer, other)]
