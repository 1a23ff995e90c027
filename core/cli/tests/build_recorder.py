"""A daemon that builds nothing: it keeps what a client sends to `POST /build`, the archive and the question."""

from __future__ import annotations

import io
import socket
import tarfile
import threading
from typing import Any
from urllib.parse import parse_qsl

ANSWER = b'{"stream":"ok\\n"}\n{"aux":{"ID":"sha256:abc"}}\n'


class Recorder:
    """Answers everything else with `{}`; a client may keep its connection."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.targets: list[str] = []
        self.fields: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def host(self) -> str:
        return f"unix://{self.path}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as file:
            while line := file.readline():
                fields = {}
                while field := file.readline().strip():
                    name, _, value = field.decode().partition(":")
                    fields[name.lower()] = value.strip()
                body = bytearray()
                if fields.get("transfer-encoding") == "chunked":
                    while size := int(file.readline(), 16):
                        body += file.read(size)
                        file.readline()
                    file.readline()
                else:
                    body += file.read(int(fields.get("content-length", "0")))
                method, target, _ = line.decode().split()
                answer = b"{}"
                if "/build?" in target:
                    self.targets.append(target)
                    self.fields.append(fields)
                    self.bodies.append(bytes(body))
                    answer = ANSWER
                head = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nOstype: linux\r\nDocker-Experimental: true\r\n"
                head += f"Content-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
                client.sendall(head.encode() + (b"" if method == "HEAD" else answer))
                if fields.get("connection") == "close":
                    return

    def query(self, index: int = -1) -> list[tuple[str, str]]:
        return sorted(parse_qsl(self.targets[index].partition("?")[2], keep_blank_values=True))

    def members(self, index: int = -1) -> list[tuple[Any, ...]]:
        """What stands in the archive: everything a builder could see of it, in its order."""
        found: list[tuple[Any, ...]] = []
        body = self.bodies[index]
        body += bytes(-len(body) % 512)  # docker leaves out the end of an archive to which it adds a recipe
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:*", errorlevel=2) as archive:
            for item in archive:
                file = archive.extractfile(item) if item.isreg() else None
                content = file.read() if file else b""
                capability = item.pax_headers.get("SCHILY.xattr.security.capability")
                owner = (item.uid, item.gid, item.mtime, item.linkname, item.size, item.devmajor, item.devminor)
                found.append((item.name, item.type, item.mode & 0o7777, *owner, capability, content))
        return found
