"""The content store: immutable blobs named by the SHA-256 of their bytes.

``blobs/sha256/<hex>`` holds what was verified, ``ingest/`` what is being written (`ingest`). A blob appears by rename after its
digest and size were checked and its bytes were fsynced, so whatever has a blob's name is that blob, after any crash. Manifests
and configurations are kept byte-exact: their digests are their identity.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from pyd_contracts.errors import DriverFault, InvalidArgument, from_oserror
from pyd_engine.store.ingest import DIGEST, Batch, DigestMismatch, Ingest, hexadecimal

__all__ = ["Batch", "Content", "DigestMismatch", "Ingest", "Lease", "hexadecimal"]


class Content:
    """The blobs below *root*. All methods may be called from any thread; those that touch the disk block for it."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs" / "sha256"
        self._ingest = root / "ingest"
        self._lock = threading.Lock()
        self._collecting = threading.Lock()
        self._leases: Counter[str] = Counter()
        self._spared: set[str] = set()
        self._unpublished: dict[str, list[Path]] = {}
        try:
            for directory in (self._blobs, self._ingest):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for leftover in self._ingest.iterdir():
                leftover.unlink()
        except OSError as error:
            raise from_oserror(error, f"open the content store {root}") from error

    def path(self, digest: str) -> Path:
        """Where a blob is or would be."""
        return self._blobs / hexadecimal(digest)

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Bytes of a blob, also of one of a batch; NotFound when it is not there."""
        fd = self.open(digest)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def open(self, digest: str) -> int:
        """A descriptor to read a blob, also one of a batch; the caller closes it. NotFound when it is not there."""
        final = self.path(digest)
        with self._lock:
            newest = self._unpublished.get(digest, [final])[-1]
        try:
            if newest != final:
                with contextlib.suppress(FileNotFoundError):  # published meanwhile
                    return os.open(newest, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            return os.open(final, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise from_oserror(error, f"open blob {digest}") from error

    def read(self, digest: str, most: int) -> bytes:
        """A whole small blob, verified again. InvalidArgument over *most* bytes, DriverFault when the disk changed it."""
        with os.fdopen(self.open(digest), "rb") as blob:
            data = blob.read(most + 1)
        if len(data) > most:
            raise InvalidArgument(f"blob {digest}: larger than the limit of {most} bytes")
        if hashlib.sha256(data).hexdigest() != hexadecimal(digest):
            raise DriverFault(
                f"blob {digest}: damaged on disk ({self.path(digest)}); remove the image and pull it again"
            )
        return data

    @contextlib.contextmanager
    def ingest(
        self,
        digest: str | None = None,
        size: int | None = None,
        lease: Lease | None = None,
        batch: Batch | None = None,
    ) -> Iterator[Ingest]:
        """Write a new blob; what is known of it beforehand is enforced. *lease* holds it from its first moment."""
        if digest is not None:
            hexadecimal(digest)
        if size is not None and size < 0:
            raise InvalidArgument(f"blob {digest}: a size of {size} bytes")
        try:
            ingest = Ingest(self, self._ingest / secrets.token_hex(16), digest, size, lease, batch)
        except OSError as error:
            raise from_oserror(error, f"write into {self._ingest}") from error
        try:
            yield ingest
        finally:
            ingest.close()

    def add(self, data: bytes, lease: Lease | None = None) -> str:
        """Store small data; returns its digest."""
        with self.ingest(lease=lease) as ingest:
            ingest.write(data)
            return ingest.commit()

    @contextlib.contextmanager
    def batch(self, lease: Lease) -> Iterator[Batch]:
        """Write several blobs that become durable together; *lease* holds them from then on."""
        batch = Batch(self, lease)
        try:
            yield batch
        finally:
            batch.close()

    def show(self, digest: str, written: Path) -> None:
        """Let a verified file be read that has no name yet (`Batch` calls this)."""
        with self._lock:
            self._unpublished.setdefault(digest, []).append(written)

    def hide(self, digest: str, written: Path) -> None:
        """The opposite of `show`: it has its name, or is gone."""
        with self._lock:
            self._unpublished[digest].remove(written)
            if not self._unpublished[digest]:
                del self._unpublished[digest]

    def publish(self, written: Mapping[str, Path]) -> None:
        """Rename verified, fsynced files to their digests (`Ingest.commit` and `Batch.publish` call this)."""
        for digest, path in written.items():
            path.rename(self.path(digest))
        directory = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def walk(self) -> Iterator[tuple[str, int]]:
        """(digest, bytes) of all blobs, in any order."""
        with os.scandir(self._blobs) as entries:
            for entry in entries:
                if DIGEST.fullmatch("sha256:" + entry.name) and entry.is_file(follow_symlinks=False):
                    yield "sha256:" + entry.name, entry.stat(follow_symlinks=False).st_size

    def unused(self, live: Callable[[], Collection[str]]) -> list[tuple[str, int]]:
        """What `collect` would delete: (digest, bytes)."""
        with self._lock:
            leased = set(self._leases)
        found = list(self.walk())
        alive = live()  # last: what is finished meanwhile is in there
        with self._lock:
            leased |= self._leases.keys()
        return sorted((digest, size) for digest, size in found if digest not in alive and digest not in leased)

    def set_aside(self, digest: str) -> Path:
        """Take the name from a damaged blob, so that nobody takes it for whole; where it is now."""
        broken = self._blobs.parent.parent / "broken"
        place = broken / hexadecimal(digest)
        try:
            broken.mkdir(mode=0o700, exist_ok=True)
            self.path(digest).rename(place)
        except OSError as error:
            raise from_oserror(error, f"set blob {digest} aside") from error
        return place

    def delete(self, digest: str) -> None:
        """Remove a blob; succeeds when nothing is left."""
        try:
            self.path(digest).unlink(missing_ok=True)
        except OSError as error:
            raise from_oserror(error, f"delete blob {digest}") from error

    @contextlib.contextmanager
    def lease(self, digests: Collection[str] = ()) -> Iterator[Lease]:
        """Keep blobs from `collect` until the context ends: what no image record names yet."""
        lease = Lease(self)
        try:
            lease.add(*digests)
            yield lease
        finally:
            lease.release()

    def collect(self, live: Callable[[], Collection[str]], only: Collection[str] | None = None) -> int:
        """Delete all blobs that are neither live nor leased, or those of them in *only*; returns the bytes freed.

        *live* is asked after the leases were noted: what an operation finishes meanwhile is in one or the other. What
        gets leased while blobs are deleted is spared too, for its user may already have seen that it is there.
        """
        freed = 0
        with self._collecting:
            with self._lock:
                self._spared = set(self._leases)
            try:
                alive = live()
                for digest, size in list(self.walk()) if only is None else self._sized(only):
                    with self._lock:
                        if digest not in alive and digest not in self._spared:
                            self.delete(digest)
                            freed += size
            finally:
                with self._lock:
                    self._spared = set()
        return freed

    def _sized(self, digests: Collection[str]) -> list[tuple[str, int]]:
        return [(digest, self.size(digest)) for digest in sorted(set(digests)) if self.has(digest)]

    def hold(self, digest: str, by: int) -> None:
        """Count one lease more or less (`Lease` calls this)."""
        with self._lock:
            if self._collecting.locked():
                self._spared.add(digest)
            self._leases[digest] += by
            if not self._leases[digest]:
                del self._leases[digest]


class Lease:
    """Digests that garbage collection leaves alone."""

    def __init__(self, store: Content) -> None:
        self._store = store
        self._held: list[str] = []

    @property
    def digests(self) -> frozenset[str]:
        """What it holds."""
        return frozenset(self._held)

    def add(self, *digests: str) -> None:
        """Hold these too, whether they are there yet or not."""
        for digest in digests:
            hexadecimal(digest)
            self._store.hold(digest, 1)
            self._held.append(digest)

    def release(self) -> None:
        """Let go of all."""
        while self._held:
            self._store.hold(self._held.pop(), -1)
