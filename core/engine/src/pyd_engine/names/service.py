"""The daemon's side of the resolver: what it must know, and a process that knows it, started again when it dies."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyd_contracts.errors import PydError
from pyd_engine.names.pieces import pieces
from pyd_engine.names.sockets import open_in

__all__ = ["Names"]

_BOOT = "import sys; sys.path[:0] = [{path!r}]; from pyd_engine.names.server import main; main()"
_PAUSE = 1.0
"""Seconds before a process that ended is started again."""


@dataclass(frozen=True, slots=True)
class _Served:
    networks: Sequence[str]
    upstream: Sequence[str]
    netns: Path
    aliases: Mapping[str, tuple[str, str]]


class Names:
    """Endpoints that have names, and containers that may ask for them. Methods block for a millisecond at most."""

    def __init__(self, log: logging.Logger | None = None) -> None:
        self._log = log or logging.getLogger("pyd.names")
        self._lock = threading.RLock()
        self._endpoints: dict[str, Mapping[str, Any]] = {}
        self._served: dict[str, _Served] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._closed = threading.Event()

    def add(
        self, endpoint: str, network: str, network_name: str, names: Sequence[str], addresses: Sequence[str]
    ) -> None:
        """Let an endpoint be found on its network."""
        entry = {
            "op": "add", "endpoint": endpoint, "network": network, "network_name": network_name, "names": list(names),
            "addresses": list(addresses),
        }  # fmt: skip
        with self._lock:
            self._endpoints[endpoint] = entry
            self._tell(entry)

    def drop(self, endpoint: str) -> None:
        """Let it be found no more; one that is not there is fine."""
        with self._lock:
            if self._endpoints.pop(endpoint, None) is not None:
                self._tell({"op": "drop", "endpoint": endpoint})

    def serve(
        self, container: str, netns: Path, networks: Sequence[str], upstream: Sequence[str],
        aliases: Mapping[str, tuple[str, str]],
    ) -> None:  # fmt: skip
        """Answer a container's questions: names of *networks* (ids, the first counts most), the rest from *upstream*. *aliases*
        are its own names for others: network and name there.

        links  further names, for this container alone, of containers on its networks

        Raises what opening sockets in its namespace raises.
        """
        served = _Served(networks, upstream, netns, aliases)
        with self._lock:
            if self._process is None:
                self._start()
            self._serve(container, served)
            self._served[container] = served

    def leave(self, container: str) -> None:
        """Its namespace goes; one that is not served is fine."""
        with self._lock:
            if self._served.pop(container, None) is not None:
                self._tell({"op": "leave", "container": container})

    def close(self) -> None:
        """End the process. Twice is once."""
        self._closed.set()
        with self._lock:
            process, self._process = self._process, None
            if self._orders is not None:
                self._orders.close()
                self._orders = None
        if process is not None:
            process.wait()

    # --- the process -----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """A process that knows everything; a thread that waits for its end."""
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        import pyd_engine

        path = str(Path(str(pyd_engine.__file__)).parent.parent)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-c", _BOOT.format(path=path)],
                stdin=theirs.fileno(), env={"LC_ALL": "C.UTF-8"}, cwd="/", start_new_session=True,
            )  # fmt: skip
        for entry in self._endpoints.values():
            self._tell(entry)
        for container, served in self._served.items():
            try:
                self._serve(container, served)
            except PydError as error:
                self._log.warning("names for container %s: %s", container[:12], error)
        threading.Thread(target=self._watch, args=(self._process,), name="pyd-names", daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        if self._closed.is_set():
            return
        self._log.error("the resolver ended with status %d; starting it again", code)
        if self._closed.wait(_PAUSE):
            return
        with self._lock:
            if self._process is process:
                self._start()

    def _serve(self, container: str, served: _Served) -> None:
        pair = open_in(served.netns)
        order = {
            "op": "serve", "container": container, "networks": list(served.networks), "upstream": list(served.upstream),
            "aliases": served.aliases,
        }  # fmt: skip
        try:
            self._tell(order, [each.fileno() for each in pair])
        finally:
            for each in pair:
                each.close()

    def _tell(self, order: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        if self._orders is None:
            return  # told when it is started
        try:
            for piece in pieces(json.dumps(order).encode()):
                socket.send_fds(self._orders, [piece], list(fds), socket.MSG_NOSIGNAL)
                fds = ()  # they come with the first one
        except OSError as error:
            self._log.warning("tell the resolver: %s", os.strerror(error.errno or 0))  # `_watch` starts another
