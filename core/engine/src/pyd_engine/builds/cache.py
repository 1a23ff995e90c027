"""Which step over which image gave which image: what was done before is not done again.

A step is known by the image that it stands on, what it is, the configuration after it, and the digest of what it copies; by
nothing that changes without it. An entry whose image is gone, or has another parent now, is no hit. Entries occupy nothing:
what they name are images, which are listed and removed as such.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pyd_contracts.values import Copy, Run, Step
from pyd_engine.images.records import ImageRecord, ImageRecords
from pyd_engine.store.database import Database

__all__ = ["Cache", "Entry", "Intermediates", "key_of"]

_MIGRATIONS = [
    """CREATE TABLE build_cache (
    key TEXT PRIMARY KEY, parent TEXT NOT NULL, image TEXT NOT NULL, description TEXT NOT NULL, made_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL, uses INTEGER NOT NULL
) STRICT;
CREATE INDEX build_cache_image ON build_cache (image)"""
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One step that was done. Times are nanoseconds since the epoch."""

    key: str
    parent: str
    image: str
    description: str
    made_at: int
    used_at: int
    uses: int


def key_of(parent: str, step: Step, created_by: str) -> str:
    """How a step over the image *parent* is known; *created_by* is its history line, with the digest of what it copies."""
    work: dict[str, Any] | None = None
    if isinstance(step.work, Run):
        work = asdict(step.work) | {"stdin": step.work.stdin.hex(), "untold": None}
    elif isinstance(step.work, Copy):  # what is copied, the digest says; where it comes from does not matter
        work = {"destination": step.work.destination, "owner": step.work.owner, "mode": step.work.mode}
        work["fetch"] = step.work.fetch
    known = [1, parent, type(step.work).__name__, work, created_by, step.config, step.author]
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=_plain).encode("utf-8", "replace")).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


class Cache:
    """The table ``build_cache``."""

    def __init__(self, database: Database, images: ImageRecords) -> None:
        database.migrate("builds", [*_MIGRATIONS, *_CONTAINERS])
        self._database = database
        self._images = images

    def find(self, key: str, parent: str, fits: Callable[[ImageRecord], bool] = lambda _: True) -> ImageRecord | None:
        """The image that the step gave; None when it was not done, or the image is gone."""
        rows = self._database.rows("SELECT image FROM build_cache WHERE key = ?", (key,))
        if not rows:
            return None
        image = self._images.get(rows[0][0])
        if image is None or image.parent != parent or not fits(image):
            return None
        with self._database.transaction() as sql:
            sql.execute("UPDATE build_cache SET used_at = ?, uses = uses + 1 WHERE key = ?", (time.time_ns(), key))
        return image

    def add(self, key: str, parent: str, image: str, description: str) -> None:
        """The step was done."""
        now = time.time_ns()
        with self._database.transaction() as sql:
            row = (key, parent, image, description[:1000], now, now, 0)
            sql.execute("INSERT OR REPLACE INTO build_cache VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def entries(self) -> list[Entry]:
        """All whose images are here, oldest first."""
        query = "SELECT c.* FROM build_cache c JOIN images i ON i.id = c.image ORDER BY c.made_at, c.key"
        return [Entry(*row) for row in self._database.rows(query)]

    def forget(self, keys: list[str]) -> None:
        """These are not known any more."""
        with self._database.transaction() as sql:
            sql.executemany("DELETE FROM build_cache WHERE key = ?", [(key,) for key in keys])

    def tidy(self) -> None:
        """Drop entries whose images are gone."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM build_cache WHERE image NOT IN (SELECT id FROM images)")


_CONTAINERS = [
    "CREATE TABLE build_containers (name TEXT PRIMARY KEY, container TEXT NOT NULL) STRICT",
]


class Intermediates:
    """The table ``build_containers``: containers that go with the build that made them, also when the daemon is killed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, container: str = "") -> None:
        """One is about to be made, or was; its id is known then."""
        with self._database.transaction() as sql:
            sql.execute("INSERT OR REPLACE INTO build_containers VALUES (?, ?)", (name, container))

    def drop(self, name: str) -> None:
        """It is gone, or is to be kept."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM build_containers WHERE name = ?", (name,))

    def all(self) -> list[tuple[str, str]]:
        """(name, id) of all."""
        return [
            (str(name), str(container)) for name, container in self._database.rows("SELECT * FROM build_containers")
        ]
