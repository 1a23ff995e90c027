"""The metadata database: SQLite in WAL mode behind one connection and one lock.

Statements take microseconds, so services call it from the event loop and from worker threads alike; nothing here waits for
anything but the disk's write-ahead log. ``synchronous=NORMAL`` keeps the database consistent after a power cut (the last
transactions may be missing, never torn).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyd_contracts.errors import DriverFault, FailedPrecondition, ResourceExhausted

__all__ = ["Database"]

log = logging.getLogger(__name__)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_RESERVE_PAGES = 256  # of 4 KiB


class Database:
    """One metadata file. Each component owns its tables and brings their migrations.

    >>> database = Database(Path(":memory:"))
    >>> database.migrate("things", ["CREATE TABLE things (id TEXT PRIMARY KEY) STRICT"])
    >>> with database.transaction() as sql:
    ...     _ = sql.execute("INSERT INTO things VALUES (?)", ("a",))
    >>> database.rows("SELECT id FROM things")
    [('a',)]
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions (component TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT"
            )
            self._reserve()
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary one (sqlite.org/rescode.html)
            advice = "; restore it from a backup" if code in _DAMAGED else ""
            raise DriverFault(f"open the metadata database {path}: {error}{advice}") from error

    def _reserve(self) -> None:
        """Take the space that small changes need, so that a full disk stops no bookkeeping: removing must always work.

        SQLite has no way to ask for this. Pages of a deleted row stay with the file, and the log is used again from its
        beginning after a checkpoint; so it is made long once, and checkpoints come before it would grow further.
        """
        try:
            self._connection.execute(f"PRAGMA wal_autocheckpoint={_RESERVE_PAGES // 2}")
            size = self._connection.execute("PRAGMA page_size").fetchone()[0] * _RESERVE_PAGES
            self._connection.execute("CREATE TABLE IF NOT EXISTS reserve (space BLOB)")
            self._connection.execute("INSERT INTO reserve VALUES (zeroblob(?))", (size,))
            self._connection.execute("DELETE FROM reserve")
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        except sqlite3.OperationalError as error:
            if not _is_full(error):
                raise
            log.warning("%s: no space to set aside for changes: %s; free some", self.path, error)

    def migrate(self, component: str, steps: Sequence[str]) -> None:
        """Bring *component*'s tables to the newest version: *steps* are scripts, applied once each, in order.

        Raises FailedPrecondition when the file was written by a newer version, and leaves it untouched.
        """
        with self.transaction() as sql:
            row = sql.execute("SELECT version FROM schema_versions WHERE component = ?", (component,)).fetchone()
            version = row[0] if row else 0
            if version > len(steps):
                raise FailedPrecondition(
                    f"{self.path}: tables of {component!r} have version {version}, this daemon knows {len(steps)}; "
                    "run the newer daemon that wrote them"
                )
            for step in steps[version:]:
                for statement in filter(str.strip, step.split(";\n")):
                    sql.execute(statement)
            sql.execute("INSERT OR REPLACE INTO schema_versions VALUES (?, ?)", (component, len(steps)))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. Nested calls join the outer transaction."""
        with self._lock:
            outer = self._depth == 0
            if outer:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self._connection
            except BaseException as error:
                self._depth -= 1
                if outer and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if outer and _is_full(error):
                    raise ResourceExhausted(
                        f"write the metadata database {self.path}: {error}; free some space"
                    ) from error
                raise
            self._depth -= 1
            if outer:
                try:
                    self._connection.execute("COMMIT")
                except sqlite3.OperationalError as error:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    what = f"write the metadata database {self.path}: {error}"
                    if _is_full(error):
                        raise ResourceExhausted(f"{what}; free some space") from error
                    raise DriverFault(what) from error

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(query, parameters).fetchall()

    def close(self) -> None:
        """Close the file; twice is once."""
        with self._lock:
            self._connection.close()


def _is_full(error: BaseException) -> bool:
    """Whether a statement failed for want of space; SQLite says so already before the commit when its cache spills."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL
