"""The volumes' table, and their records."""

from __future__ import annotations

import threading

import msgspec

from pyd_engine.store.database import Database

__all__ = ["ANONYMOUS", "VolumeRecord", "VolumeStore"]

ANONYMOUS = "com.docker.volume.anonymous"
"""The label of a volume that nobody named; ``docker volume prune`` goes by it."""

_MIGRATIONS = ["CREATE TABLE volumes (name TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT"]


class VolumeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One volume as the engine knows it.

    leaving  its removal was begun: whoever finds this after a crash finishes it
    """

    name: str
    driver: str
    created_ns: int
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    leaving: bool = False

    @property
    def anonymous(self) -> bool:
        """Nobody gave it a name."""
        return ANONYMOUS in (self.labels or {})


class VolumeStore:
    """The records: in memory by name, each change written through first. Thread-safe."""

    def __init__(self, database: Database) -> None:
        database.migrate("volumes", _MIGRATIONS)
        self._database = database
        self._lock = threading.Lock()
        decode = msgspec.json.Decoder(VolumeRecord).decode
        rows = database.rows("SELECT record FROM volumes ORDER BY rowid")
        self._records = {record.name: record for record in map(decode, (row[0] for row in rows))}

    def all(self) -> list[VolumeRecord]:
        """Every record, oldest first."""
        with self._lock:
            return list(self._records.values())

    def find(self, name: str) -> VolumeRecord | None:
        """By name."""
        return self._records.get(name)

    def put(self, record: VolumeRecord) -> None:
        """Keep a new or changed record."""
        with self._lock:
            with self._database.transaction() as sql:
                sql.execute(
                    "INSERT INTO volumes VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record",
                    (record.name, msgspec.json.encode(record)),
                )
            self._records[record.name] = record

    def drop(self, name: str) -> None:
        """Forget a record; one that is not there is fine."""
        with self._lock:
            with self._database.transaction() as sql:
                sql.execute("DELETE FROM volumes WHERE name = ?", (name,))
            self._records.pop(name, None)
