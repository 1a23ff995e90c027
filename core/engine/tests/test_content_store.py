"""The content store: what has a blob's name is that blob."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pyd_contracts.errors import DriverFault, InvalidArgument, NotFound, ResourceExhausted
from pyd_engine.store.content import Content, DigestMismatch, hexadecimal
from pyd_engine.store.hashing import Sha256Aside


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return Content(tmp_path / "content")


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "sha256:../../../etc/passwd", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:" + "a" * 65,
     "sha1:" + "a" * 40, "sha512:" + "a" * 128, "a" * 64, "sha256:" + "a" * 64 + "\n", "SHA256:" + "a" * 64,
     "sha256:" + "\u0661" * 64],
)  # fmt: skip
def test_only_digests_become_paths(content: Content, digest: str) -> None:
    for call in (hexadecimal, content.path, content.has, content.size, content.open, content.delete):
        with pytest.raises(InvalidArgument, match="invalid digest"):
            call(digest)
    with pytest.raises(InvalidArgument, match="invalid digest"), content.ingest(digest):
        pass


def test_store_and_read(content: Content) -> None:
    data = b"hello" * 1000
    with content.ingest(digest_of(data), len(data)) as ingest:
        ingest.write(data[:10])
        ingest.write(memoryview(data)[10:])
        assert not content.has(digest_of(data))
        assert ingest.commit() == digest_of(data)
    assert content.read(digest_of(data), len(data)) == data
    assert content.size(digest_of(data)) == len(data)
    assert list(content.walk()) == [(digest_of(data), len(data))]
    assert list((content.path(digest_of(data)).parent.parent.parent / "ingest").iterdir()) == []
    with pytest.raises(InvalidArgument, match="limit of 4999"):
        content.read(digest_of(data), 4999)
    assert content.add(data) == digest_of(data)
    content.delete(digest_of(data))
    content.delete(digest_of(data))
    with pytest.raises(NotFound):
        content.open(digest_of(data))


@pytest.mark.parametrize(("digest", "size"), [("right", 4), ("right", 6), ("wrong", 5), ("wrong", None)])
def test_mismatch_leaves_nothing(content: Content, tmp_path: Path, digest: str, size: int | None) -> None:
    expected = digest_of(b"12345") if digest == "right" else digest_of(b"other")

    def store() -> None:
        with content.ingest(expected, size) as ingest:
            ingest.write(b"12345")
            ingest.commit()

    with pytest.raises(DigestMismatch):
        store()
    assert [path for path in (tmp_path / "content").rglob("*") if path.is_file()] == []


def test_restart_forgets(content: Content) -> None:
    with content.ingest(digest_of(b"new"), 3) as ingest:
        ingest.write(b"ol")
        ingest.restart()
        ingest.write(b"new")
        assert ingest.commit() == digest_of(b"new")


def test_leftovers_are_swept_at_start(content: Content, tmp_path: Path) -> None:
    leftover = tmp_path / "content" / "ingest" / "abc"
    leftover.write_bytes(b"partial")
    kept = content.add(b"kept")
    again = Content(tmp_path / "content")
    assert not leftover.exists()
    assert again.has(kept)


def test_damage_on_disk_is_noticed(content: Content) -> None:
    digest = content.add(b"data")
    content.path(digest).write_bytes(b"date")
    with pytest.raises(DriverFault, match="damaged on disk"):
        content.read(digest, 100)


def test_collect_spares_the_live_and_the_leased(content: Content) -> None:
    live, leased, dead = (content.add(name) for name in (b"live", b"leased", b"dead!"))
    with content.lease([leased]) as lease:
        lease.add(leased)
        assert content.collect(lambda: {live}) == 5
        assert {digest for digest, _ in content.walk()} == {live, leased}
    assert not content.has(dead)
    content.collect(lambda: {live})
    assert {digest for digest, _ in content.walk()} == {live}


def test_collect_spares_what_is_finished_meanwhile(content: Content) -> None:
    early, late = content.add(b"early"), content.add(b"late!")

    def live() -> set[str]:
        with content.lease([late]):  # an operation that found the blob, recorded it, and is done
            pass
        return {early}

    assert content.collect(live) == 0
    assert content.collect(lambda: {early}) == 5


def test_a_batch_is_read_before_it_has_names(content: Content, tmp_path: Path) -> None:
    with content.lease() as lease, content.batch(lease) as batch:
        large = bytes(range(256)) * (
            40 << 10
        )  # long enough for the digest's own thread, and for the disk to begin early
        with batch.ingest() as ingest:
            for start in range(0, len(large), 1 << 20):
                ingest.write(large[start : start + (1 << 20)])
            first = ingest.commit()
        assert first == digest_of(large)
        second, third = batch.add(b"small"), batch.add(b"not wanted")
        assert batch.add(b"small") == second
        assert [content.has(digest) for digest in (first, second)] == [False, False]
        assert content.read(second, 10) == b"small"
        assert content.size(first) == len(large)
        assert content.collect(lambda: ()) == 0

        batch.publish({first, second, "sha256:" + "0" * 64})

        assert {digest for digest, _ in content.walk()} == {first, second} == lease.digests
        assert content.read(second, 10) == b"small"
        assert content.read(third, 10) == b"not wanted"
        assert content.collect(lambda: ()) == 0, "it is leased"
    assert content.collect(lambda: ()) == len(large) + 5
    with pytest.raises(NotFound):
        content.open(third)
    assert list((tmp_path / "content" / "ingest").iterdir()) == []


def test_a_batch_that_is_not_published_leaves_nothing(content: Content, tmp_path: Path) -> None:
    kept = content.add(b"same")
    with content.lease() as lease, content.batch(lease) as other:
        with content.batch(lease) as batch:
            assert batch.add(b"same") == other.add(b"same") == kept
            fd = content.open(kept)
        os.close(fd)
        assert content.read(kept, 10) == b"same"
    assert content.read(kept, 10) == b"same"
    assert [path.name for path in (tmp_path / "content").rglob("*") if path.is_file()] == [hexadecimal(kept)]


def test_a_batch_heals_a_damaged_blob(content: Content) -> None:
    digest = content.add(b"data")
    content.path(digest).write_bytes(b"date")
    with content.lease() as lease, content.batch(lease) as batch:
        batch.add(b"data")
        assert content.read(digest, 10) == b"data"
        batch.publish()
    assert content.read(digest, 10) == b"data"


def test_what_the_disk_refuses_is_not_published(content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, os.strerror(28))

    with content.lease() as lease, content.batch(lease) as batch:
        digest = batch.add(b"data")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ResourceExhausted):
            batch.publish()
        monkeypatch.undo()
        assert lease.digests == frozenset()
    assert not content.has(digest)


def test_hashing_aside() -> None:
    aside = Sha256Aside(hashlib.sha256(b"begun "))
    for _ in range(100):
        aside.update(memoryview(b"x"))
        aside.update(b"")
    assert aside.hexdigest() == aside.hexdigest() == hashlib.sha256(b"begun " + b"x" * 100).hexdigest()
