"""A registry that serves what it is given, with the faults it is told to have: bytes changed, cut short, missing."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(content: bytes) -> str:
    """As registries name content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class StubRegistry:
    """Blobs and manifests in memory. *host* is how references begin.

    `replaced`  bytes that are sent instead of a blob's, by digest
    `cut`       how many bytes of a blob are sent before the connection is closed, by digest
    `asked`     how often each path was asked for
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.replaced: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.asked: Counter[str] = Counter()

    def blob(self, content: bytes) -> str:
        """Keep a blob; its digest."""
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def manifest(self, kind: str, document: object, *tags: str) -> str:
        """Keep a manifest by its digest and *tags*; its digest."""
        content = json.dumps(document, sort_keys=True).encode()
        digest = digest_of(content)
        for name in (digest, *tags):
            self.manifests[name] = kind, content
        return digest

    def image(
        self,
        layer: bytes,
        tag: str,
        *,
        architecture: str,
        packed: bytes | None = None,
        suffix: str = "+gzip",
        docker: bool = False,
    ) -> tuple[str, str]:
        """Keep an image of one *layer* (a tar), sent as *packed*; digests of its manifest and of the packed layer."""
        packed = gzip.compress(layer, 1, mtime=0) if packed is None else packed
        config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
            }
        ).encode()
        document = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": self._descriptor(DOCKER_CONFIG if docker else OCI_CONFIG, config),
            "layers": [self._descriptor(DOCKER_LAYER if docker else OCI_LAYER + suffix, packed)],
        }
        return self.manifest(document["mediaType"], document, tag), digest_of(packed)  # type: ignore[arg-type]

    def _descriptor(self, kind: str, content: bytes) -> dict[str, object]:
        return {"mediaType": kind, "digest": self.blob(content), "size": len(content)}


@contextmanager
def serve() -> Iterator[StubRegistry]:
    """An empty registry on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            stub.asked[self.path] += 1
            name = self.path.rpartition("/")[2]
            if self.path == "/v2/":
                self._answer(200, "application/json", b"{}")
            elif "/manifests/" in self.path and name in stub.manifests:
                self._answer(200, *stub.manifests[name])
            elif "/blobs/" in self.path and name in stub.blobs:
                content = stub.replaced.get(name, stub.blobs[name])
                self._answer(200, "application/octet-stream", content, stub.cut.get(name))
            else:
                code = "MANIFEST_UNKNOWN" if "/manifests/" in self.path else "BLOB_UNKNOWN"
                text = json.dumps({"errors": [{"code": code, "message": f"{code.lower().replace('_', ' ')}"}]})
                self._answer(404, "application/json", text.encode())

        do_HEAD = do_GET  # noqa: N815 # the base class looks for this name

        def _answer(self, status: int, kind: str, content: bytes, cut: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            if "/manifests/" in self.path and status == 200:
                self.send_header("Docker-Content-Digest", digest_of(content))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(content[:cut])
            if cut is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base class calls it so
            """Nothing: what was asked is in `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        stub = StubRegistry(f"127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
