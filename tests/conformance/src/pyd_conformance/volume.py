"""The volume suite. A driver's author writes::

    class TestCloud(VolumeContract):
        def make(self, root: Path, run: Path) -> VolumeDriver:
            return CloudDriver(root, run)

and runs pytest. Clauses are those of `pyd_contracts.volume`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyd_conformance.clauses import clause
from pyd_contracts.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.values import Volume
from pyd_contracts.volume import VolumeDriver

__all__ = ["VolumeContract"]

_MALFORMED = ("", "a", ".hidden", "-x", "a/b", "a b", "..", "ab\n", "a\0b", "k" * 256, "caf\xe9")
_WELL_FORMED = ("ab", "0_", "A.b_c-d", "k" * 255, "trash", "new")
_ONE, _TWO = "1" * 64, "2" * 64


class _Stage:
    """A driver that can be closed, lost and opened again."""

    def __init__(self, suite: VolumeContract, place: Path) -> None:
        self._suite = suite
        self.root, self.run = place / "root", place / "run"
        for each in (self.root, self.run):
            each.mkdir(mode=0o700)
        self.driver = self.lose()

    def lose(self) -> VolumeDriver:
        """Open the driver without closing it, as after a crash."""
        self.driver = self._suite.make(self.root, self.run)
        return self.driver

    def reopen(self) -> VolumeDriver:
        """Close the driver and open it again on the same root."""
        self.driver.volume_close()
        return self.lose()

    def names(self) -> set[str]:
        """What walk shows."""
        return {each.name for each in self.driver.volume_walk()}

    def clear(self) -> None:
        """Remove everything."""
        for name in self.names():
            for user in (_ONE, _TWO):
                self.driver.volume_unmount(name=name, user=user)
            self.driver.volume_remove(name=name)
        self.driver.volume_close()


def _mounts() -> list[str]:
    return [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


class VolumeContract:
    """Base of a driver's test class; ``subject`` names the driver in the report (default: the class's name).

    ``options`` are some that the driver knows, None when it knows none; with ``mounts``, a volume that has them is
    mounted while it is used.
    """

    capabilities: frozenset[str] = frozenset()
    options: Mapping[str, str] | None = None
    mounts: bool = False

    def make(self, root: Path, run: Path) -> VolumeDriver:
        """Open the driver under test on these directories."""
        raise TypeError(f"{type(self).__name__} must override make(root, run)")

    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[_Stage]:
        """The driver, open and empty; emptied afterwards."""
        stage = _Stage(self, tmp_path)
        yield stage
        stage.clear()

    # --- create --------------------------------------------------------------------------------------------------

    @clause("VOL-11", "a malformed name is refused")
    @pytest.mark.parametrize("name", _MALFORMED, ids=ascii)
    def test_create_refuses_a_malformed_name(self, stage: _Stage, name: str) -> None:
        with pytest.raises(InvalidArgument):
            stage.driver.volume_create(name=name, options={})
        assert stage.names() == set()

    @clause("VOL-10", "every well-formed name is taken, and shown")
    @clause("VOL-35", "walk lists what was made")
    def test_create_takes_well_formed_names(self, stage: _Stage) -> None:
        for name in _WELL_FORMED:
            stage.driver.volume_create(name=name, options={})
        assert stage.names() == set(_WELL_FORMED)

    @clause("VOL-11", "an unknown option is refused and leaves nothing")
    @clause("VOL-1", "a create that fails leaves nothing")
    def test_create_refuses_an_unknown_option(self, stage: _Stage) -> None:
        with pytest.raises(InvalidArgument):
            stage.driver.volume_create(name="one", options={"no-such-option-of-any-driver": "x"})
        assert stage.names() == set()
        with pytest.raises(NotFound):
            stage.driver.volume_get(name="one")

    @clause("VOL-10", "twice is once, content stays")
    @clause("VOL-2", "create may be repeated")
    def test_create_twice(self, stage: _Stage) -> None:
        stage.driver.volume_create(name="one", options={})
        (stage.driver.volume_mount(name="one", user=_ONE) / "file").write_text("content")
        stage.lose().volume_create(name="one", options={})
        assert (stage.driver.volume_mount(name="one", user=_ONE) / "file").read_text() == "content"

    @clause("VOL-12", "the same name with other options is refused")
    def test_create_with_other_options(self, stage: _Stage) -> None:
        if self.options is None:
            pytest.skip("the driver has no options to differ in")
        stage.driver.volume_create(name="one", options={})
        with pytest.raises(AlreadyExists):
            stage.driver.volume_create(name="one", options=self.options)

    # --- use -----------------------------------------------------------------------------------------------------

    @clause("VOL-20", "an empty directory at first, the same for every user")
    @clause("VOL-21", "a second mount of a user changes nothing")
    def test_users_share(self, stage: _Stage) -> None:
        stage.driver.volume_create(name="one", options={})
        path = stage.driver.volume_mount(name="one", user=_ONE)
        assert path.is_dir()
        assert os.listdir(path) == []
        (path / "file").write_text("content")
        other = stage.driver.volume_mount(name="one", user=_TWO)
        assert (other / "file").read_text() == "content"
        assert stage.driver.volume_mount(name="one", user=_ONE) == path

    @clause("VOL-22", "a volume that is not there cannot be mounted")
    @clause("VOL-16", "nor removed")
    @clause("VOL-30", "nor described")
    def test_what_is_not_there(self, stage: _Stage) -> None:
        with pytest.raises(NotFound):
            stage.driver.volume_mount(name="nope", user=_ONE)
        with pytest.raises(NotFound):
            stage.driver.volume_remove(name="nope")
        with pytest.raises(NotFound):
            stage.driver.volume_get(name="nope")

    @clause("VOL-26", "strangers and repetitions end nothing")
    def test_unmount_of_nothing(self, stage: _Stage) -> None:
        stage.driver.volume_unmount(name="nope", user=_ONE)
        stage.driver.volume_create(name="one", options={})
        path = stage.driver.volume_mount(name="one", user=_ONE)
        (path / "file").write_text("content")
        stage.driver.volume_unmount(name="one", user=_TWO)
        assert (path / "file").read_text() == "content"
        stage.driver.volume_unmount(name="one", user=_ONE)
        stage.driver.volume_unmount(name="one", user=_ONE)
        assert stage.names() == {"one"}

    @clause("VOL-25", "no mount is left after the last user")
    @clause("VOL-21", "two mounts of a user end with one unmount")
    @clause("VOL-5", "mounts are below the driver's own directories")
    @pytest.mark.root
    def test_mounts_come_and_go(self, stage: _Stage) -> None:
        if not self.mounts:
            pytest.skip("the driver mounts nothing")
        assert self.options is not None
        before = _mounts()
        stage.driver.volume_create(name="one", options=self.options)
        path = stage.driver.volume_mount(name="one", user=_ONE)
        stage.driver.volume_mount(name="one", user=_ONE)
        assert stage.driver.volume_mount(name="one", user=_TWO) == path
        made = [each for each in _mounts() if each not in before]
        assert made
        assert all(each.startswith((str(stage.root), str(stage.run))) for each in made)
        stage.driver.volume_unmount(name="one", user=_ONE)
        assert [each for each in _mounts() if each not in before] == made
        stage.driver.volume_unmount(name="one", user=_TWO)
        assert _mounts() == before

    @clause("VOL-2", "a mount may be repeated and undone by the next driver on the same root")
    @pytest.mark.root
    def test_mounts_survive_a_crash(self, stage: _Stage) -> None:
        if not self.mounts:
            pytest.skip("the driver mounts nothing")
        assert self.options is not None
        before = _mounts()
        stage.driver.volume_create(name="one", options=self.options)
        path = stage.driver.volume_mount(name="one", user=_ONE)
        (path / "file").write_text("content")
        assert (stage.lose().volume_mount(name="one", user=_ONE) / "file").read_text() == "content"
        stage.driver.volume_unmount(name="one", user=_ONE)
        assert _mounts() == before

    # --- end -----------------------------------------------------------------------------------------------------

    @clause("VOL-16", "a volume with a user stays")
    @clause("VOL-1", "a remove that fails leaves everything")
    def test_remove_in_use(self, stage: _Stage) -> None:
        stage.driver.volume_create(name="one", options={})
        path = stage.driver.volume_mount(name="one", user=_ONE)
        (path / "file").write_text("content")
        with pytest.raises(FailedPrecondition):
            stage.driver.volume_remove(name="one")
        assert (path / "file").read_text() == "content"
        stage.driver.volume_unmount(name="one", user=_ONE)
        stage.driver.volume_remove(name="one")
        assert stage.names() == set()

    @clause("VOL-15", "nothing is left; a volume made anew is empty")
    def test_remove_leaves_nothing(self, stage: _Stage) -> None:
        def files() -> list[str]:
            found = sorted(os.fspath(each.relative_to(stage.root)) for each in stage.root.rglob("*"))
            return [each for each in found if "one" in each]

        stage.driver.volume_create(name="one", options={})
        path = stage.driver.volume_mount(name="one", user=_ONE)
        (path / "directory").mkdir()
        (path / "directory" / "file").write_text("content")
        stage.driver.volume_unmount(name="one", user=_ONE)
        stage.driver.volume_remove(name="one")
        assert files() == []
        stage.driver.volume_create(name="one", options={})
        assert os.listdir(stage.driver.volume_mount(name="one", user=_ONE)) == []

    @clause("VOL-4", "volumes and content survive reopen")
    @clause("VOL-30", "name and options are those it was made with")
    @clause("VOL-45", "close twice is close once")
    def test_reopen(self, stage: _Stage) -> None:
        stage.driver.volume_create(name="one", options={})
        if self.options is not None:
            stage.driver.volume_create(name="two", options=self.options)
        path = stage.driver.volume_mount(name="one", user=_ONE)
        (path / "file").write_text("content")
        stage.driver.volume_unmount(name="one", user=_ONE)
        stage.driver.volume_close()
        stage.reopen()
        assert (stage.driver.volume_mount(name="one", user=_TWO) / "file").read_text() == "content"
        assert _plain(stage.driver.volume_get(name="one")) == ("one", {})
        if self.options is not None:
            assert _plain(stage.driver.volume_get(name="two")) == ("two", dict(self.options))

    @clause("VOL-40", "usage grows with what is written")
    def test_usage(self, stage: _Stage) -> None:
        stage.driver.volume_create(name="one", options={})
        path = stage.driver.volume_mount(name="one", user=_ONE)
        before = stage.driver.volume_usage(name="one")
        (path / "file").write_bytes(os.urandom(300_000))
        after = stage.driver.volume_usage(name="one")
        assert after.bytes - before.bytes >= 300_000
        assert after.inodes == before.inodes + 1

    @clause("VOL-3", "names at once do not disturb each other")
    def test_at_once(self, stage: _Stage) -> None:
        def life(number: int) -> bool:
            name = f"volume{number}"
            stage.driver.volume_create(name=name, options={})
            path = stage.driver.volume_mount(name=name, user=_ONE)
            (path / "file").write_text(name)
            same = (stage.driver.volume_mount(name=name, user=_TWO) / "file").read_text() == name
            for user in (_ONE, _TWO):
                stage.driver.volume_unmount(name=name, user=user)
            stage.driver.volume_remove(name=name)
            return same

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(life, range(40)))
        assert stage.names() == set()


def _plain(volume: Volume) -> tuple[str, dict[str, str]]:
    return volume.name, dict(volume.options)
