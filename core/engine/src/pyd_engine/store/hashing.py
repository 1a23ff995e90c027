"""SHA-256 of streams, beside whoever reads or writes them. Standard library only: the unpack worker runs it."""

from __future__ import annotations

import hashlib
import queue
import threading

__all__ = ["Sha256Aside"]


class Sha256Aside:
    """SHA-256 in a thread of its own: hashlib lets go of the interpreter, so a second core takes that part of the work.

    What is handed over must not change. The thread ends with `hexdigest` or `close`. *begun* is what it goes on with.
    """

    def __init__(self, begun: hashlib._Hash | None = None) -> None:
        self._hash = begun or hashlib.sha256()
        self._queue: queue.SimpleQueue[bytes | memoryview] = queue.SimpleQueue()
        self._room = threading.Semaphore(16)
        self._thread = threading.Thread(target=self._run, name="sha256", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while chunk := self._queue.get():
            self._hash.update(chunk)
            self._room.release()

    def update(self, chunk: bytes | memoryview) -> None:
        """Take one more chunk; waits while many are waiting."""
        if chunk:
            self._room.acquire()
            self._queue.put(chunk)

    def hexdigest(self) -> str:
        """The digest of all chunks. Twice is once; nothing may follow it."""
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """End the thread."""
        if self._thread.is_alive():
            self._queue.put(b"")
            self._thread.join()
