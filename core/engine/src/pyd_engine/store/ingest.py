"""What is being written into the content store: one blob (`Ingest`), or several that become durable together (`Batch`)."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pyd_contracts.errors import InvalidArgument, from_oserror
from pyd_engine.store.hashing import Sha256Aside

if TYPE_CHECKING:
    from pyd_engine.store.content import Content, Lease

__all__ = ["DIGEST", "Batch", "DigestMismatch", "Ingest", "hexadecimal"]

DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_LARGE = 1 << 20
"""Bytes from which on a thread of its own for the digest pays."""
_STRIDE = 8 << 20
"""Bytes after which the disk is told to begin with them."""

_sync_file_range = ctypes.CDLL(None).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_SYNC_FILE_RANGE_WRITE = 2


class DigestMismatch(InvalidArgument):
    """The bytes are not those that were announced: the sender or the transport is at fault."""


def hexadecimal(digest: str) -> str:
    """The 64 hex digits of ``sha256:<hex>``; InvalidArgument for anything else, before it can become a path."""
    match = DIGEST.fullmatch(digest)
    if match is None:
        raise InvalidArgument(f"invalid digest {digest[:100]!r}: want sha256: and 64 lowercase hexadecimal digits")
    return match[1]


class Ingest:
    """One blob being written; made by `Content.ingest` and `Batch.ingest`. Leaving the context without commit removes it."""

    def __init__(
        self, store: Content, path: Path, digest: str | None, size: int | None, lease: Lease | None, batch: Batch | None
    ) -> None:
        self._store = store
        self._lease = lease
        self._batch = batch
        self._path = path
        self._digest = digest
        self._size = size
        self._hash = hashlib.sha256()
        self._aside: Sha256Aside | None = None
        self._begun = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.written = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*, which must not change afterwards. DigestMismatch when it becomes longer than announced;
        ResourceExhausted when the disk is full."""
        if self._size is not None and self.written + len(data) > self._size:
            raise DigestMismatch(f"blob {self._digest}: more bytes than the {self._size} that were announced")
        if self._aside is None and self.written >= _LARGE:
            self._aside = Sha256Aside(self._hash)
        (self._aside or self._hash).update(data)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise from_oserror(error, f"write {self._path}") from error
        self.written += len(data)
        if self.written - self._begun >= _STRIDE:
            # Advice, so that little is left to wait for at the end; an error of the disk is fsync's to tell.
            _sync_file_range(self._fd, self._begun, self.written - self._begun, _SYNC_FILE_RANGE_WRITE)
            self._begun = self.written

    def restart(self) -> None:
        """Forget what was written: the sender begins again."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._end_aside()
        self._hash = hashlib.sha256()
        self.written = self._begun = 0

    def commit(self) -> str:
        """Verify, make durable, publish; returns the digest. Blocks for the disk. A blob that is there already is fine.

        In a batch: verify and hand over; the rest is the batch's.
        """
        self._end_aside()
        digest = "sha256:" + self._hash.hexdigest()
        if self._size is not None and self.written != self._size:
            raise DigestMismatch(f"blob {self._digest or digest}: {self.written} bytes instead of {self._size}")
        if self._digest is not None and digest != self._digest:
            raise DigestMismatch(f"blob {self._digest}: the bytes received have the digest {digest}")
        if self._batch is not None:
            self._batch.take(digest, self._path)
            os.close(self._fd)
            self._fd = -1
            return digest
        try:
            os.fsync(self._fd)
            if self._lease is not None:
                self._lease.add(digest)  # before it has its name: a collection between the two would take it
            self._store.publish({digest: self._path})
        except OSError as error:
            raise from_oserror(error, f"store blob {digest}") from error
        self.close()
        return digest

    def close(self) -> None:
        """Let go; an uncommitted blob is removed. Twice is once."""
        self._end_aside()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._path.unlink(missing_ok=True)

    def _end_aside(self) -> None:
        if self._aside is not None:
            self._aside.close()
            self._aside = None


class Batch:
    """Blobs that get their names together, when all of them are durable; made by `Content.batch`.

    From its commit on, a blob of the batch can be opened and read through the store, and by nobody else: what needs it does
    not wait for the disk. Leaving the context without `publish` removes them all.
    """

    def __init__(self, store: Content, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._lock = threading.Lock()
        self._waiting: dict[str, Path] = {}

    def ingest(self) -> contextlib.AbstractContextManager[Ingest]:
        """Write one more blob."""
        return self._store.ingest(batch=self)

    def add(self, data: bytes) -> str:
        """One more small blob; returns its digest."""
        with self.ingest() as ingest:
            ingest.write(data)
            return ingest.commit()

    def take(self, digest: str, written: Path) -> None:
        """A verified blob (`Ingest.commit` calls this)."""
        with self._lock:
            if digest in self._waiting:
                written.unlink()
                return
            self._waiting[digest] = written
            self._store.show(digest, written)

    def publish(self, wanted: Collection[str] | None = None) -> None:
        """Make durable what is *wanted* (all), then give it its names. Blocks for the disk; blobs may be read meanwhile."""
        with self._lock:
            chosen = {digest: path for digest, path in self._waiting.items() if wanted is None or digest in wanted}
            try:
                for path in chosen.values():
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        os.fsync(fd)  # what an earlier descriptor failed to write is told here, too (fsync(2), errseq)
                    finally:
                        os.close(fd)
                self._lease.add(*chosen)  # before they have their names: a collection between the two would take them
                self._store.publish(chosen)
            except OSError as error:
                raise from_oserror(error, "store blobs") from error
            self._forget(chosen)

    def close(self) -> None:
        """Remove what was not published. Twice is once."""
        with self._lock:
            for path in self._waiting.values():
                path.unlink(missing_ok=True)
            self._forget(self._waiting)

    def _forget(self, gone: Mapping[str, Path]) -> None:
        for digest, path in list(gone.items()):
            self._store.hide(digest, path)
            del self._waiting[digest]
