"""All containers: in memory by id and name, each change written through to the database first."""

from __future__ import annotations

import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable

import msgspec

from pyd_contracts.errors import Conflict, InvalidArgument, NotFound, ResourceExhausted
from pyd_engine.containers.container import Container
from pyd_engine.store.database import Database

__all__ = ["ContainerStore"]

log = logging.getLogger(__name__)

_MIGRATIONS = ["CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record BLOB NOT NULL) STRICT"]
_HEX = re.compile(r"[0-9a-f]{1,64}")


class ContainerStore:
    """The records. Thread-safe; a reader sees whole records only."""

    def __init__(self, database: Database) -> None:
        database.migrate("containers", _MIGRATIONS)
        self._database = database
        self._lock = threading.RLock()
        decode = msgspec.json.Decoder(Container).decode
        rows = database.rows("SELECT record FROM containers ORDER BY rowid")
        self._by_id = {record.id: record for record in map(decode, (row[0] for row in rows))}
        self._by_name = {record.name: record.id for record in self._by_id.values()}
        self._parents: dict[str, set[str]] = defaultdict(set)
        for record in self._by_id.values():
            self._index(None, record)

    def __len__(self) -> int:
        return len(self._by_id)

    def all(self) -> list[Container]:
        """Every container, oldest first."""
        return list(self._by_id.values())

    def find(self, container_id: str) -> Container | None:
        """By full id."""
        return self._by_id.get(container_id)

    def parents(self, child: str) -> list[Container]:
        """Those that have a link to a container."""
        return [self._by_id[parent] for parent in sorted(self._parents.get(child, ())) if parent in self._by_id]

    def _index(self, old: Container | None, new: Container | None) -> None:
        """Keep up who has links to whom."""
        for child in set(old.links.values()) if old else ():
            self._parents[child].discard(old.id if old else "")
            if not self._parents[child]:
                del self._parents[child]
        for child in set(new.links.values()) if new else ():
            self._parents[child].add(new.id if new else "")

    def get(self, ref: str) -> Container:
        """By id, name (with or without the leading slash), a link's name (``parent/alias``) or unique prefix of an id, in
        Docker's order."""
        found = self._by_id.get(ref) or self._by_id.get(self._by_name.get(ref.removeprefix("/"), ""))
        if found is not None:
            return found
        parent, slash, alias = ref.strip("/").partition("/")
        if slash and (holder := self._by_id.get(self._by_name.get(parent, ""))) is not None:
            found = self._by_id.get(holder.links.get(alias, ""))
            if found is not None:
                return found
        if _HEX.fullmatch(ref):
            with self._lock:
                matches = [container for key, container in self._by_id.items() if key.startswith(ref)]
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise InvalidArgument(f"Multiple IDs found with provided prefix: {ref}")
        raise NotFound(f"No such container: {ref}")

    def name_taken(self, name: str) -> bool:
        """Whether a container has this name."""
        return name in self._by_name

    def add(self, container: Container) -> None:
        """A new record. Raises Conflict when the name is taken."""
        with self._lock:
            holder = self._by_name.get(container.name)
            if holder is not None:
                raise Conflict(
                    f'Conflict. The container name "/{container.name}" is already in use by container "{holder}". '
                    "You have to remove (or rename) that container to be able to reuse that name."
                )
            with self._database.transaction() as sql:
                sql.execute(
                    "INSERT INTO containers VALUES (?, ?, ?)",
                    (container.id, container.name, msgspec.json.encode(container)),
                )
            self._by_id[container.id] = container
            self._by_name[container.name] = container.id
            self._index(None, container)

    def change(self, container_id: str, change: Callable[[Container], Container], *, fact: bool = False) -> Container:
        """Replace a record by what *change* makes of it, on disk and then in memory. Raises NotFound.

        *fact*: it has happened, and a disk that is full does not undo it: the record in memory is right then, the one on
        disk catches up at the next change, and a daemon that starts in between finds out again (`adoption`).
        """
        with self._lock:
            old = self._by_id.get(container_id)
            if old is None:
                raise NotFound(f"No such container: {container_id}")
            new = change(old)
            if new.name != old.name and new.name in self._by_name:
                raise Conflict(
                    f'Conflict. The container name "/{new.name}" is already in use by container '
                    f'"{self._by_name[new.name]}". You have to remove (or rename) that container to be able to reuse '
                    "that name."
                )
            try:
                with self._database.transaction() as sql:
                    sql.execute(
                        "UPDATE containers SET name = ?, record = ? WHERE id = ?",
                        (new.name, msgspec.json.encode(new), new.id),
                    )
            except ResourceExhausted as error:
                if not fact:
                    raise
                log.error("container %s is %s, and that could not be kept: %s", new.name, new.state.phase.value, error)
            self._by_id[new.id] = new
            if new.links or old.links:
                self._index(old, new)
            if new.name != old.name:
                del self._by_name[old.name]
                self._by_name[new.name] = new.id
            return new

    def drop(self, container_id: str) -> None:
        """Forget a container; one that is not there is fine."""
        with self._lock:
            old = self._by_id.get(container_id)
            if old is None:
                return
            with self._database.transaction() as sql:
                sql.execute("DELETE FROM containers WHERE id = ?", (container_id,))
            self._index(old, None)
            del self._by_id[container_id]
            del self._by_name[old.name]
