"""Image records and their names in the metadata database."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pyd_engine.images.reference import Reference, parse
from pyd_engine.layers.service import LayerDescriptor
from pyd_engine.store.database import Database

__all__ = ["ImageRecord", "ImageRecords"]

_MIGRATIONS = [
    """CREATE TABLE images (
    id TEXT PRIMARY KEY, manifest TEXT NOT NULL, layers TEXT NOT NULL, parent TEXT NOT NULL, added_at INTEGER NOT NULL,
    tagged_at INTEGER NOT NULL
) STRICT;
CREATE TABLE image_names (
    name TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images (id), by_digest INTEGER NOT NULL
) STRICT;
CREATE INDEX image_names_image ON image_names (image)"""
]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of this host.

    id         ``sha256:…``, the digest of its configuration
    manifest   digest of the manifest it came with; empty when it was made or loaded here
    layers     lowest first
    parent     id of the image it was built from, empty when unknown
    tags       canonical names with tags
    digests    canonical names with digests of manifests or indexes
    added_at, tagged_at  nanoseconds since the epoch
    """

    id: str
    manifest: str
    layers: tuple[LayerDescriptor, ...]
    parent: str
    added_at: int
    tagged_at: int
    tags: tuple[Reference, ...] = ()
    digests: tuple[Reference, ...] = ()


class ImageRecords:
    """The tables ``images`` and ``image_names``. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("images", _MIGRATIONS)

    def all(self) -> list[ImageRecord]:
        """All images, newest first."""
        return [self._made(row) for row in self._database.rows("SELECT * FROM images ORDER BY added_at DESC, id")]

    def get(self, image: str) -> ImageRecord | None:
        """One image by its whole id."""
        rows = self._database.rows("SELECT * FROM images WHERE id = ?", (image,))
        return self._made(rows[0]) if rows else None

    def by_prefix(self, digits: str) -> list[ImageRecord]:
        """Images whose id begins with hex digits; two are enough to say that it is not unique."""
        query = "SELECT * FROM images WHERE id >= ? AND id < ? LIMIT 2"
        return [self._made(row) for row in self._database.rows(query, (f"sha256:{digits}", f"sha256:{digits}g"))]

    def by_name(self, reference: Reference) -> ImageRecord | None:
        """The image that has a name; a reference with tag and digest is looked up by digest."""
        name = reference.with_digest(reference.digest) if reference.digest else reference
        rows = self._database.rows("SELECT image FROM image_names WHERE name = ?", (str(name),))
        return self.get(rows[0][0]) if rows else None

    def put(
        self, image: str, layers: Sequence[LayerDescriptor], *, manifest: str = "", parent: str = "",
        names: Sequence[Reference] = (),
    ) -> list[str]:  # fmt: skip
        """Record an image and give it names, all or nothing. Names move; returns the ids that lost one."""
        now = time.time_ns()
        packed = json.dumps([[layer.digest, layer.diff_id, layer.media_type, layer.size] for layer in layers])
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "manifest = CASE excluded.manifest WHEN '' THEN manifest ELSE excluded.manifest END, "
                "layers = CASE excluded.manifest WHEN '' THEN layers ELSE excluded.layers END, "
                "parent = CASE excluded.parent WHEN '' THEN parent ELSE excluded.parent END",
                (image, manifest, packed, parent, now, now),
            )
            return [lost for name in names if (lost := self.name(image, name))]

    def name(self, image: str, name: Reference) -> str:
        """Give an image a name; returns the id of another image that had it, or an empty string."""
        with self._database.transaction() as sql:
            row = sql.execute("SELECT image FROM image_names WHERE name = ?", (str(name),)).fetchone()
            sql.execute(
                "INSERT OR REPLACE INTO image_names VALUES (?, ?, ?)", (str(name), image, name.digest is not None)
            )
            if name.digest is None:
                sql.execute("UPDATE images SET tagged_at = ? WHERE id = ?", (time.time_ns(), image))
        return row[0] if row and row[0] != image else ""

    def unname(self, name: Reference) -> None:
        """Take a name away; twice is once."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM image_names WHERE name = ?", (str(name),))

    def delete(self, image: str) -> None:
        """Forget an image and all its names; twice is once."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM image_names WHERE image = ?", (image,))
            sql.execute("UPDATE images SET parent = '' WHERE parent = ?", (image,))
            sql.execute("DELETE FROM images WHERE id = ?", (image,))

    def _made(self, row: tuple[object, ...]) -> ImageRecord:
        image, manifest, layers, parent, added_at, tagged_at = row
        names = self._database.rows("SELECT name, by_digest FROM image_names WHERE image = ? ORDER BY name", (image,))
        return ImageRecord(
            str(image), str(manifest), tuple(LayerDescriptor(*layer) for layer in json.loads(str(layers))), str(parent),
            int(str(added_at)), int(str(tagged_at)),
            tuple(parse(name) for name, by_digest in names if not by_digest),
            tuple(parse(name) for name, by_digest in names if by_digest),
        )  # fmt: skip
