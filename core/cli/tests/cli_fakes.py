"""A tiny daemon for the command line's tests: canned HTTP answers on a unix socket, and a record of what was asked."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

Reply = "bytes | Callable[[socket.socket, bytes], None]"


def answer(body: bytes = b"", status: str = "200 OK", **fields: str) -> bytes:
    """An answer with `Content-Length`."""
    lines = [f"HTTP/1.1 {status}", "Api-Version: 1.41", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def json_answer(content: Any, status: str = "200 OK") -> bytes:
    return answer(json.dumps(content).encode(), status, Content_Type="application/json")


class FakeDaemon:
    """Answers requests by `"METHOD /path"`, without version and query; a callable answer gets the socket."""

    def __init__(self, path: str, replies: dict[str, Any]) -> None:
        self.path = path
        self.replies = {"HEAD /_ping": answer(), **replies}
        self.requests: list[tuple[str, bytes]] = []
        self.heads: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(16)
        self._threads: list[threading.Thread] = []
        self._main = threading.Thread(target=self._accept)
        self._main.start()

    @property
    def host(self) -> str:
        return f"unix://{self.path}"

    def close(self) -> None:
        # closing a listening socket does not wake accept(2); a connection that says nothing does
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self.path)
        self._main.join(10)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            head = self._head(client)
            if not head:
                client.close()
                return
            thread = threading.Thread(target=self._serve, args=(client, head))
            self._threads.append(thread)
            thread.start()

    @staticmethod
    def _head(client: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            more = client.recv(65536)
            if not more:
                return b""
            data += more
        return data

    def _serve(self, client: socket.socket, data: bytes) -> None:
        with client:
            head, _, body = data.partition(b"\r\n\r\n")
            line, *fields = head.decode().split("\r\n")
            lengths = [int(field.split(":")[1]) for field in fields if field.lower().startswith("content-length:")]
            while lengths and len(body) < lengths[0]:
                body += client.recv(65536)
            if any(field.lower() == "transfer-encoding: chunked" for field in fields):
                while not body.endswith(b"0\r\n\r\n"):
                    body += client.recv(65536)
            method, target, _ = line.split(" ")
            path = target.partition("?")[0]
            if path.startswith("/v1."):
                path = "/" + path.split("/", 2)[2]
            self.requests.append((f"{method} {target}", body))
            self.heads.append(head.decode())
            reply = self.replies.get(f"{method} {path}")
            if reply is None:
                reply = json_answer({"message": f"page not found: {method} {path}"}, "404 Not Found")
            if callable(reply):
                reply(client, body)
            else:
                client.sendall(reply if method != "HEAD" else reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
