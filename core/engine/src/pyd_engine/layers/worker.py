"""The processes that unpack layers: untrusted bytes meet a root file system here, not in the daemon.

Started as ``python -I -S -B -c …`` with module paths given by the engine, so that it is quick and imports nothing but the
standard library, isal, backports.zstd and the mounting of `pyd_shim`. It cannot gain privileges and dies with the daemon. It
forks for every request: what one layer did to a process, the next one does not meet. When it has to mount it does so in a
mount namespace of its own: the host's mount table never shows it.

Standard input is a socket (SOCK_SEQPACKET): each message on it brings the descriptor of another one, a stream, and means one
request, in a process forked for it; several may be at work. The stream brings one line of JSON:

    digest, diff_id  what the blob and its uncompressed bytes must hash to; its descriptor comes along (unix(7), SCM_RIGHTS)
    target    directory to write to             overlay          its dialect
    mounts    [type, source, options] triples to mount over *target* first; empty: none
    lower     the layer will have layers below  limits           fields of tar.Limits

or ``{"settle": {"directories", "root"}, "target", "below"}`` for what such a layer left open (`settling`), where *below* is a
directory and what to mount there to see the layers below, or null; or ``{"skeleton": true, "target", "mounts"}`` for what every
container's root must have (`skeleton`).

The answer is lines of JSON: ``{"read": bytes}`` at most ten a second, one of
``{"done": {"entries", "bytes", "refused"}, "open": {"directories", "root"}}`` or ``{"failed": kind, "message": text}`` with
kind ``layer`` (its content breaks a rule), ``damaged`` (the blob is not what its digest says), ``lower`` (apply it to the
union instead), ``system`` (disk, kernel; with "errno" and "path"), and last ``{"ended": status}``, minus a signal's number
when it was killed. Who asked and ends its side of the stream has the process killed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pyd_engine.layers import kernel
from pyd_engine.layers.apply import Applied, LayerApplier
from pyd_engine.layers.below import Below, NeedsLower
from pyd_engine.layers.settling import settle, settle_root
from pyd_engine.layers.skeleton import furnish
from pyd_engine.layers.streams import StreamError, decompressed
from pyd_engine.layers.tar import Limits, TarError, TarReader
from pyd_engine.store.hashing import Sha256Aside

__all__ = ["main"]


class _Damaged(Exception):
    """The blob's bytes are not those that were verified when it was stored."""


def main() -> None:
    """Work on requests until nobody is left to ask."""
    os.umask(0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    channel = socket.socket(fileno=0)
    gc.freeze()
    _Requests(channel).serve()


class _Requests:
    """One process a request; this one only forks, waits and kills."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._at_work: dict[int, tuple[int, socket.socket]] = {}  # by descriptor of the process: its number, who asked

    def serve(self) -> None:
        """Until nobody can ask any more."""
        while True:
            found = [fd for fd, _ in self._poll.poll()]
            for fd in found:
                if fd in self._at_work:
                    self._end(fd)
                elif fd != self._channel.fileno():
                    self._cancel(fd)
            if self._channel.fileno() in found:  # last: what is new gets numbers of what has gone
                _, fds, _, _ = socket.recv_fds(self._channel, 16, 1)
                if not fds:
                    return
                self._begin(socket.socket(fileno=fds[0]))

    def _begin(self, asker: socket.socket) -> None:
        me = os.getpid()
        child = os.fork()
        if not child:
            try:
                kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
                if os.getppid() == me:  # else it went before that call
                    for _, other in self._at_work.values():
                        other.close()  # the end of these is news for those who asked
                    os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), self._channel.fileno())
                    _answer(asker)
            finally:
                os._exit(1)
        process = os.pidfd_open(child)
        self._at_work[process] = (child, asker)
        self._poll.register(process, select.POLLIN)
        self._poll.register(asker, select.POLLRDHUP)

    def _cancel(self, fd: int) -> None:
        for process, (_, asker) in self._at_work.items():
            if asker.fileno() == fd:
                self._poll.unregister(asker)
                signal.pidfd_send_signal(process, signal.SIGKILL)
                return

    def _end(self, process: int) -> None:
        child, asker = self._at_work.pop(process)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self._poll.unregister(process)
        os.close(process)
        with contextlib.suppress(KeyError):
            self._poll.unregister(asker)
        with contextlib.suppress(OSError):
            _say(asker, {"ended": status})
        asker.close()


def _asked(asker: socket.socket) -> tuple[dict[str, Any], list[int]]:
    line, fds = b"", list[int]()
    while not line.endswith(b"\n"):
        piece, came, _, _ = socket.recv_fds(asker, 1 << 16, 4)
        if not piece:
            os._exit(0)  # nobody wants it any more
        line += piece
        fds += came
    return json.loads(line), fds


def _answer(asker: socket.socket) -> None:
    """Do it, say how it went, and end."""
    try:
        request, fds = _asked(asker)
        if "settle" in request:
            answer = _settle(request)
        elif "skeleton" in request:
            answer = _furnish(request)
        else:
            answer = _unpack(request, _Blob(fds[0], asker))
    except NeedsLower as need:
        answer = {"failed": "lower", "message": str(need)}
    except (TarError, StreamError) as error:
        answer = {"failed": "layer", "message": str(error)}
    except _Damaged as error:
        answer = {"failed": "damaged", "message": str(error)}
    except OSError as error:
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        answer = {"failed": "system", "message": str(error.strerror), "path": path, "errno": error.errno or 0}
    except BaseException:  # noqa: BLE001 # the daemon tells it
        traceback.print_exc()
        os._exit(1)
    _say(asker, answer)
    os._exit(0)


def _say(asker: socket.socket, answer: dict[str, object]) -> None:
    asker.sendall(json.dumps(answer).encode() + b"\n")


def _root(request: dict[str, Any]) -> int:
    target = os.fsencode(request["target"])
    if request["mounts"]:
        kernel.private_mounts()
        kernel.mount_all([(kind, source, options) for kind, source, options in request["mounts"]], target)
    return os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _furnish(request: dict[str, Any]) -> dict[str, object]:
    root = _root(request)
    furnish(root)
    os.close(root)
    return {"done": asdict(Applied())}


def _settle(request: dict[str, Any]) -> dict[str, object]:
    root = os.open(os.fsencode(request["target"]), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    left = request["settle"]
    refused = 0
    if request["below"]:
        refused += settle(root, Below(*request["below"]), left["directories"])
    if left["root"]:
        refused += settle_root(root, left["root"])
    os.close(root)
    return {"done": asdict(Applied(refused=refused))}


def _unpack(request: dict[str, Any], blob: _Blob) -> dict[str, object]:
    root = _root(request)
    limits = Limits(**request["limits"])
    # What is not compressed is its own content: one digest for both, of bytes that are read once.
    content = None if request["digest"] == request["diff_id"] else Sha256Aside()
    reader = TarReader(_hashed(decompressed(blob.read), content, limits.total), limits)
    applier = LayerApplier(root, overlay=request["overlay"], lower=request["lower"], limits=limits)
    try:
        applied = applier.apply(reader)
        reader.drain()
    except (TarError, StreamError):
        blob.check(request["digest"])
        raise
    blob.check(request["digest"])
    found = "sha256:" + content.hexdigest() if content is not None else request["digest"]
    if found != request["diff_id"]:
        raise TarError(
            f"layer {request['digest']}: its content has the digest {found}, "
            f"but the image's configuration says {request['diff_id']}"
        )
    left = applier.left_open().said()
    os.close(root)
    return {"done": asdict(applied), "open": left}


class _Blob:
    """The blob, hashed as it is read; tells the daemon how far it is."""

    def __init__(self, fd: int, asker: socket.socket) -> None:
        self._fd = fd
        self._asker = asker
        self._hash = Sha256Aside()
        self._count = 0
        self._told = time.monotonic()

    def read(self, count: int) -> bytes:
        data = os.read(self._fd, count)
        self._hash.update(data)
        self._count += len(data)
        now = time.monotonic()
        if now - self._told >= 0.1:
            self._told = now
            _say(self._asker, {"read": self._count})
        return data

    def check(self, digest: str) -> None:
        """Raise when the bytes are not those of *digest*; the rest is read first. Once only."""
        while self.read(1 << 20):
            pass
        found = "sha256:" + self._hash.hexdigest()
        if found != digest:
            raise _Damaged(f"blob {digest}: the bytes on disk have the digest {found}")


def _hashed(chunks: Iterator[bytes], content: Sha256Aside | None, most: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        if content is not None:
            content.update(chunk)
        total += len(chunk)
        if total > most:
            raise TarError(f"archive: unpacks to more than the limit of {most} bytes")
        yield chunk
