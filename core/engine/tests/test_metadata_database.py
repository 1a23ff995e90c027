"""The metadata file: all or nothing, versions, and what a damaged or full one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyd_contracts.errors import DriverFault, FailedPrecondition, ResourceExhausted
from pyd_engine.store.database import Database

THINGS = ["CREATE TABLE things (id TEXT PRIMARY KEY) STRICT", "ALTER TABLE things ADD COLUMN more BLOB"]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(tmp_path / "metadata.db")
    made.migrate("things", THINGS)
    return made


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    def change_and_fail() -> None:
        with database.transaction() as sql:
            sql.execute("INSERT INTO things (id) VALUES ('outer')")
            with database.transaction() as inner:
                inner.execute("INSERT INTO things (id) VALUES ('inner')")
            raise KeyError

    with pytest.raises(KeyError):
        change_and_fail()
    assert database.rows("SELECT id FROM things") == []
    with database.transaction() as sql:
        sql.execute("INSERT INTO things (id) VALUES ('kept')")
    assert database.rows("SELECT id FROM things") == [("kept",)]


def test_steps_are_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    for known in (THINGS[:1], THINGS, THINGS):
        database = Database(path)
        database.migrate("things", known)
        database.close()
        database.close()


def test_a_newer_file_is_left_alone(database: Database, tmp_path: Path) -> None:
    database.close()
    with pytest.raises(FailedPrecondition, match="version 2, this daemon knows 1; run the newer daemon"):
        Database(tmp_path / "metadata.db").migrate("things", THINGS[:1])


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_damaged_file_says_what_helps(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "metadata.db"
    path.write_bytes(content)
    with pytest.raises(DriverFault, match=r"open the metadata database .*; restore it from a backup"):
        Database(path)
    assert path.read_bytes() == content


def test_a_full_disk_is_told_and_loses_nothing(database: Database) -> None:
    [(pages,)] = database.rows("PRAGMA page_count")
    database.rows(f"PRAGMA max_page_count={pages}")

    def fill() -> None:
        for number in range(100):
            with database.transaction() as sql:
                sql.execute("INSERT INTO things VALUES (?, zeroblob(100000))", (str(number),))

    with pytest.raises(ResourceExhausted, match="write the metadata database .*; free some space"):
        fill()
    before = database.rows("SELECT id FROM things")
    with database.transaction() as sql:
        sql.execute("DELETE FROM things")
    assert before
    assert database.rows("SELECT id FROM things") == []
