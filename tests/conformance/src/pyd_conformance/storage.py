"""The storage suite. A driver's author writes::

    class TestBcachefs(StorageContract):
        capabilities = frozenset({"layer-targets"})

        def make(self, root: Path, run: Path) -> StorageDriver:
            return BcachefsDriver(root, run)

and runs pytest. A driver that needs a particular file system below it overrides the fixture ``place`` as well. Clauses
are those of `pyd_contracts.storage`; this module holds what can be shown without looking into a mount.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyd_conformance.clauses import clause, needs
from pyd_conformance.mounting import takes_user_attributes, tight
from pyd_conformance.storage_content import StorageContent
from pyd_conformance.storage_crash import StorageCrash
from pyd_conformance.storage_layers import StorageLayers
from pyd_conformance.storage_powers import StoragePowers
from pyd_conformance.storage_rebase import StorageRebase
from pyd_conformance.storage_room import StorageRoom
from pyd_conformance.storage_stage import Place, Stage
from pyd_contracts.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PydError
from pyd_contracts.storage import StorageDriver
from pyd_contracts.values import Kind, Snapshot

__all__ = ["Place", "Stage", "StorageContract"]

_MALFORMED = ("", ".hidden", "-x", "a/b", "a b", "..", "a\n", "a\0b", "k" * 129, "caf\xe9", ":a")
_WELL_FORMED = ("a", "0", "A.b_c:d-e", "k" * 128, "sha256:" + "0" * 64, "trash", "new", "tmp", "CON")


class StorageContract(StorageContent, StorageCrash, StorageLayers, StoragePowers, StorageRebase, StorageRoom):
    """Base of a driver's test class; ``subject`` names the driver in the report (default: the class's name)."""

    capabilities: frozenset[str] = frozenset()

    def make(self, root: Path, run: Path) -> StorageDriver:
        """Open the driver under test on these directories."""
        raise TypeError(f"{type(self).__name__} must override make(root, run)")

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """The directories of one test. Override it to put ``root`` on another file system."""
        return Place.at(tmp_path / "root", tmp_path)

    @pytest.fixture
    def cramped(self, tmp_path: Path) -> Iterator[Place]:
        """The same with little room, 24 MiB, for ``root``. Override it where ``place`` is overridden."""
        with tight(tmp_path / "cramped", 24 << 20) as small:
            if not takes_user_attributes(small):
                pytest.skip("tmpfs of this kernel takes no attributes user.* (Linux 6.6), which layers have")
            yield Place.at(small / "root", tmp_path)

    @pytest.fixture
    def stage(self, place: Place) -> Iterator[Stage]:
        """The driver, open and empty."""
        stage = Stage(self.make, place)
        yield stage
        stage.driver.storage_close()

    # --- keys and names ----------------------------------------------------------------------------------------

    @clause("STO-12", "a malformed key is refused")
    @pytest.mark.parametrize("key", _MALFORMED, ids=ascii)
    def test_prepare_refuses_a_malformed_key(self, stage: Stage, key: str) -> None:
        with pytest.raises(InvalidArgument):
            stage.driver.storage_prepare(key=key, parent=None, options={})

        assert stage.walk() == set()

    @clause("STO-12", "every well-formed key is taken")
    def test_prepare_takes_well_formed_keys(self, stage: Stage) -> None:
        for key in _WELL_FORMED:
            stage.driver.storage_prepare(key=key, parent=None, options={})

        assert stage.walk() == {Snapshot(key, Kind.ACTIVE, None) for key in _WELL_FORMED}

    @clause("STO-12", "a taken key is refused, whatever took it")
    def test_prepare_refuses_a_taken_key(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.driver.storage_prepare(key="active", parent=None, options={})
        stage.driver.storage_view(key="view", parent="base")

        for taken in ("base", "active", "view"):
            with pytest.raises(AlreadyExists):
                stage.driver.storage_prepare(key=taken, parent=None, options={})

    @clause("STO-12", "a parent must be there")
    def test_prepare_needs_its_parent(self, stage: Stage) -> None:
        with pytest.raises(NotFound):
            stage.driver.storage_prepare(key="a", parent="nobody", options={})

        assert stage.walk() == set()

    @clause("STO-12", "a parent must be committed")
    def test_prepare_needs_a_committed_parent(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.driver.storage_prepare(key="active", parent="base", options={})
        stage.driver.storage_view(key="view", parent="base")

        for parent in ("active", "view"):
            with pytest.raises(InvalidArgument):
                stage.driver.storage_prepare(key="b", parent=parent, options={})

    @clause("STO-12", "an unknown option is refused")
    def test_prepare_refuses_unknown_options(self, stage: Stage) -> None:
        with pytest.raises(InvalidArgument):
            stage.driver.storage_prepare(key="a", parent=None, options={"no-such-option": "1"})

        assert stage.walk() == set()

    @clause("STO-16", "a view refuses what prepare refuses")
    def test_view_refuses(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.driver.storage_prepare(key="active", parent="base", options={})

        with pytest.raises(AlreadyExists):
            stage.driver.storage_view(key="active", parent="base")
        with pytest.raises(NotFound):
            stage.driver.storage_view(key="v", parent="nobody")
        with pytest.raises(InvalidArgument):
            stage.driver.storage_view(key="v", parent="active")
        with pytest.raises(InvalidArgument):
            stage.driver.storage_view(key="a/b", parent="base")

    # --- life cycle --------------------------------------------------------------------------------------------

    @clause("STO-20", "mounts says what prepare and view said")
    def test_mounts_are_said_again(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.layer("upper", "base")
        said = {
            "first": tuple(stage.driver.storage_prepare(key="first", parent=None, options={})),
            "active": tuple(stage.driver.storage_prepare(key="active", parent="upper", options={})),
            "view": tuple(stage.driver.storage_view(key="view", parent="upper")),
            "low-view": tuple(stage.driver.storage_view(key="low-view", parent="base")),
        }

        assert {key: tuple(stage.driver.storage_mounts(key=key)) for key in said} == said
        stage.reopen()
        assert {key: tuple(stage.driver.storage_mounts(key=key)) for key in said} == said
        assert all(said.values()), "an empty list of mounts gives no root file system"

    @clause("STO-21", "only keys have mounts")
    def test_mounts_are_of_keys(self, stage: Stage) -> None:
        stage.layer("base", None)

        with pytest.raises(NotFound):
            stage.driver.storage_mounts(key="nobody")
        with pytest.raises(FailedPrecondition):
            stage.driver.storage_mounts(key="base")

    @clause("STO-25", "the key is gone, the name is there, the parent is kept")
    def test_commit_consumes_the_key(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.driver.storage_prepare(key="key", parent="base", options={})

        answer = stage.driver.storage_commit(name="name", key="key")

        assert answer == Snapshot("name", Kind.COMMITTED, "base")
        assert stage.driver.storage_stat(name="name") == answer
        with pytest.raises(NotFound):
            stage.driver.storage_stat(name="key")
        stage.driver.storage_prepare(key="key", parent="name", options={})  # free again

    @clause("STO-26", "a taken name is refused and the key stays")
    def test_commit_refuses_a_taken_name(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.driver.storage_prepare(key="key", parent="base", options={})
        stage.driver.storage_prepare(key="other", parent="base", options={})
        before = stage.walk()

        for taken in ("base", "other"):
            with pytest.raises(AlreadyExists):
                stage.driver.storage_commit(name=taken, key="key")

        assert stage.walk() == before

    @clause("STO-26", "only an active key is committed")
    def test_commit_refuses_what_is_not_active(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.driver.storage_view(key="view", parent="base")

        with pytest.raises(NotFound):
            stage.driver.storage_commit(name="name", key="nobody")
        with pytest.raises(FailedPrecondition):
            stage.driver.storage_commit(name="name", key="view")
        with pytest.raises(FailedPrecondition):
            stage.driver.storage_commit(name="name", key="base")
        assert stage.walk() == {Snapshot("base", Kind.COMMITTED, None), Snapshot("view", Kind.VIEW, "base")}

    @clause("STO-31", "what something stands on stays")
    def test_remove_keeps_what_is_stood_on(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.layer("middle", "base")
        stage.driver.storage_prepare(key="active", parent="middle", options={})
        stage.driver.storage_view(key="view", parent="base")

        for name in ("base", "middle"):
            with pytest.raises(FailedPrecondition):
                stage.driver.storage_remove(name=name)
        stage.reopen()
        with pytest.raises(FailedPrecondition):
            stage.driver.storage_remove(name="middle")
        for name in ("active", "middle", "view", "base"):
            stage.driver.storage_remove(name=name)
        assert stage.walk() == set()

    @clause("STO-31", "what is not there is NotFound")
    def test_remove_of_nothing(self, stage: Stage) -> None:
        stage.driver.storage_prepare(key="key", parent=None, options={})
        stage.driver.storage_remove(name="key")

        with pytest.raises(NotFound):
            stage.driver.storage_remove(name="key")

    @clause("STO-35", "stat knows what each entry was made with")
    def test_stat(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.driver.storage_prepare(key="active", parent="base", options={})
        stage.driver.storage_view(key="view", parent="base")

        assert stage.driver.storage_stat(name="base") == Snapshot("base", Kind.COMMITTED, None)
        assert stage.driver.storage_stat(name="active") == Snapshot("active", Kind.ACTIVE, "base")
        assert stage.driver.storage_stat(name="view") == Snapshot("view", Kind.VIEW, "base")
        with pytest.raises(NotFound):
            stage.driver.storage_stat(name="nobody")

    @clause("STO-40", "walk lists exactly what stat knows")
    @clause("STO-4", "entries survive close and reopen")
    def test_walk_before_and_after_reopen(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.layer("upper", "base")
        stage.driver.storage_prepare(key="active", parent="upper", options={})
        stage.driver.storage_view(key="view", parent="upper")
        entries = stage.walk()

        assert {entry.name for entry in entries} == {"base", "upper", "active", "view"}
        assert {stage.driver.storage_stat(name=entry.name) for entry in entries} == entries
        stage.reopen()
        assert stage.walk() == entries
        assert {stage.driver.storage_stat(name=entry.name) for entry in entries} == entries

    @clause("STO-45", "usage of what is not there is NotFound, of an empty entry small")
    def test_usage_of_little(self, stage: Stage) -> None:
        stage.layer("base", None)

        usage = stage.driver.storage_usage(name="base")

        assert 0 <= usage.bytes < 1 << 20
        assert usage.inodes >= 0
        with pytest.raises(NotFound):
            stage.driver.storage_usage(name="nobody")

    @clause("STO-50", "closing twice is closing once")
    def test_close_twice(self, stage: Stage) -> None:
        stage.layer("base", None)

        stage.driver.storage_close()
        stage.driver.storage_close()

        stage.lose()
        assert stage.walk() == {Snapshot("base", Kind.COMMITTED, None)}

    # --- capabilities ------------------------------------------------------------------------------------------

    @needs("layer-targets")
    @clause("STO-61", "only an active key has a layer target")
    def test_layer_target_is_of_active_keys(self, stage: Stage) -> None:
        stage.layer("base", None)
        stage.driver.storage_view(key="view", parent="base")
        target: Callable[..., object] = stage.driver.storage_layer_target  # type: ignore[attr-defined]  # LayerTargets

        with pytest.raises(NotFound):
            target(key="nobody")
        for other in ("view", "base"):
            with pytest.raises(FailedPrecondition):
                target(key=other)

    # --- threads -----------------------------------------------------------------------------------------------

    @clause("STO-3", "one of many threads wins a key")
    def test_one_thread_wins_a_key(self, stage: Stage) -> None:
        stage.layer("base", None)
        start = threading.Barrier(6)

        def contend(_number: int) -> str:
            start.wait(timeout=30)
            try:
                stage.driver.storage_prepare(key="wanted", parent="base", options={})
            except AlreadyExists:
                return "lost"
            return "won"

        with ThreadPoolExecutor(6) as threads:
            outcomes = sorted(threads.map(contend, range(6)))

        assert outcomes == ["lost"] * 5 + ["won"]
        assert Snapshot("wanted", Kind.ACTIVE, "base") in stage.walk()

    @clause("STO-3", "threads with keys of their own do not disturb each other")
    def test_threads_with_keys_of_their_own(self, stage: Stage) -> None:
        stage.layer("base", None)

        def live(number: int) -> Snapshot:
            for turn in range(5):
                stage.driver.storage_prepare(key=f"t{number}:{turn}", parent="base", options={})
                stage.driver.storage_view(key=f"v{number}:{turn}", parent="base")
                stage.walk()
                stage.driver.storage_remove(name=f"v{number}:{turn}")
                if turn:
                    stage.driver.storage_remove(name=f"t{number}:{turn}")
            return stage.driver.storage_commit(name=f"done{number}", key=f"t{number}:0")

        with ThreadPoolExecutor(6) as threads:
            done = set(threads.map(live, range(6)))

        assert stage.walk() == done | {Snapshot("base", Kind.COMMITTED, None)}
        stage.reopen()
        assert stage.walk() == done | {Snapshot("base", Kind.COMMITTED, None)}

    @clause("STO-3", "a parent is not removed under a key that is being prepared")
    def test_prepare_against_remove(self, stage: Stage) -> None:
        for turn in range(10):
            stage.layer(f"base{turn}", None)
            start = threading.Barrier(2)

            def attempt(
                call: Callable[..., object], arguments: dict[str, object], start: threading.Barrier = start
            ) -> bool:
                start.wait(timeout=30)
                try:
                    call(**arguments)
                except PydError:
                    return False
                return True

            with ThreadPoolExecutor(2) as threads:
                made = threads.submit(
                    attempt, stage.driver.storage_prepare, {"key": f"k{turn}", "parent": f"base{turn}", "options": {}}
                )
                removed = threads.submit(attempt, stage.driver.storage_remove, {"name": f"base{turn}"})
            assert made.result() != removed.result(), "exactly one of the two can happen"
            names = {entry.name for entry in stage.walk()}
            assert (f"k{turn}" in names, f"base{turn}" in names) == (made.result(), made.result())
