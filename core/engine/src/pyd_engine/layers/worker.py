"""The processes that unpack layers: untrusted bytes meet a root file system here, not in the daemon.

Started as ``python -I -S -B -c …`` with module paths given by the engine, so that it is quick and imports nothing but the
standard library, isal, backports.zstd and the mounting of `pyd_shim`. It cannot gain privileges and dies with the daemon. It
forks for every request: what one layer did to a process, the next one does not meet. When it has to mount it does so in a
mount namespace of its own: the host's mount table never shows it.

Standard input and output are one socket. A request is one line of JSON:

    digest, diff_id  what the blob and its uncompressed bytes must hash to; its descriptor comes along (unix(7), SCM_RIGHTS)
    target    directory to write to             overlay          its dialect
    mounts    [type, source, options] triples to mount over *target* first; empty: none
    lower     the layer has layers below        limits           fields of tar.Limits
    below     ["point", mounts]: a directory, and what to mount there to see the layers below; null: nothing is known of them

or ``{"skeleton": true, "target", "mounts"}`` for what every container's root must have (`skeleton`).

The answer is lines of JSON: ``{"read": bytes}`` at most ten a second, one of
``{"done": {"entries", "bytes", "refused"}}`` or ``{"failed": kind, "message": text}`` with kind ``layer`` (its content breaks
a rule), ``damaged`` (the blob is not what its digest says), ``lower`` (apply it to the union instead), ``system`` (disk,
kernel; with "errno"), and last ``{"ended": status}``, minus a signal's number when it was killed.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

from pyd_engine.layers import kernel
from pyd_engine.layers.apply import Applied, LayerApplier
from pyd_engine.layers.below import Below, NeedsLower
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
    while (asked := _asked(channel)) is not None:
        request, fds = asked
        me = os.getpid()
        child = os.fork()
        if not child:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
            if os.getppid() == me:  # else it went before that call
                _answer(request, fds)
            os._exit(1)
        for fd in fds:
            os.close(fd)
        _say({"ended": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])})


def _asked(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    line, fds = b"", list[int]()
    while not line.endswith(b"\n"):
        piece, came, _, _ = socket.recv_fds(channel, 1 << 16, 4)
        if not piece:
            return None
        line += piece
        fds += came
    return json.loads(line), fds


def _answer(request: dict[str, Any], fds: list[int]) -> None:
    """Do it, say how it went, and end."""
    try:
        applied = _furnish(request) if request.get("skeleton") else _unpack(request, fds[0])
    except NeedsLower as need:
        _say({"failed": "lower", "message": str(need)})
    except (TarError, StreamError) as error:
        _say({"failed": "layer", "message": str(error)})
    except _Damaged as error:
        _say({"failed": "damaged", "message": str(error)})
    except OSError as error:
        where = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, str | bytes) else ""
        _say({"failed": "system", "message": f"{error.strerror}{where}", "errno": error.errno or 0})
    except BaseException:  # noqa: BLE001 # the daemon tells it
        traceback.print_exc()
        os._exit(1)
    else:
        _say({"done": {"entries": applied.entries, "bytes": applied.bytes, "refused": applied.refused}})
    os._exit(0)


def _say(answer: dict[str, object]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


def _root(request: dict[str, Any]) -> int:
    target = os.fsencode(request["target"])
    if request["mounts"]:
        kernel.private_mounts()
        kernel.mount_all([(kind, source, options) for kind, source, options in request["mounts"]], target)
    return os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _furnish(request: dict[str, Any]) -> Applied:
    root = _root(request)
    furnish(root)
    os.close(root)
    return Applied()


def _unpack(request: dict[str, Any], fd: int) -> Applied:
    root = _root(request)
    limits = Limits(**request["limits"])
    blob = _Blob(fd)
    # What is not compressed is its own content: one digest for both, of bytes that are read once.
    content = None if request["digest"] == request["diff_id"] else Sha256Aside()
    reader = TarReader(_hashed(decompressed(blob.read), content, limits.total), limits)
    below = Below(*request["below"]) if request["below"] else None
    applier = LayerApplier(root, overlay=request["overlay"], lower=request["lower"], below=below, limits=limits)
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
    os.close(root)
    return applied


class _Blob:
    """The blob, hashed as it is read; tells the daemon how far it is."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
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
            _say({"read": self._count})
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
