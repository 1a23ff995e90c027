"""A volume driver of plain directories whose users are files, for tests of what stands on one: nothing is ever mounted."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from pyd_contracts.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Usage, Volume

__all__ = ["FakeVolumes"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}")


class FakeVolumes:
    """The volume contract over directories below *root*. Takes the option ``color``."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, root: Path, run: Path) -> None:
        self._root, self._run = root, run
        self._lock = threading.RLock()

    @hookimpl
    def volume_create(self, name: str, options: Mapping[str, str]) -> None:
        """A directory, and one file for each option."""
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"create {name}: malformed name")
        if unknown := set(options) - {"color"}:
            raise InvalidArgument(f"create {name}: unknown options {sorted(unknown)}")
        with self._lock:
            if (self._root / name).exists():
                if self._options(name) != dict(options):
                    raise AlreadyExists(f"create {name}: it is there with other options")
                return
            for part in ("data", "options", "users"):
                (self._root / name / part).mkdir(parents=True)
            for key, value in options.items():
                (self._root / name / "options" / key).write_text(value)

    @hookimpl
    def volume_remove(self, name: str) -> None:
        """Remove the directory."""
        with self._lock:
            if any(self._must(name).joinpath("users").iterdir()):
                raise FailedPrecondition(f"remove {name}: volume is in use")
            shutil.rmtree(self._root / name)

    @hookimpl
    def volume_mount(self, name: str, user: str) -> Path:
        """Note the user."""
        with self._lock:
            (self._must(name) / "users" / user).touch()
            return self._root / name / "data"

    @hookimpl
    def volume_unmount(self, name: str, user: str) -> None:
        """Forget the user."""
        with self._lock:
            (self._root / name / "users" / user).unlink(missing_ok=True)

    @hookimpl
    def volume_get(self, name: str) -> Volume:
        """Describe one."""
        with self._lock:
            return Volume(name, self._options(name), self._must(name) / "data")

    @hookimpl
    def volume_walk(self) -> Iterable[Volume]:
        """All of them."""
        with self._lock:
            return [self.volume_get(each.name) for each in sorted(self._root.iterdir())]

    @hookimpl
    def volume_usage(self, name: str) -> Usage:
        """Sizes of files."""
        files = [each for each in (self._must(name) / "data").rglob("*") if each.is_file()]
        return Usage(sum(each.stat().st_size for each in files), len(files))

    @hookimpl
    def volume_close(self) -> None:
        """Nothing is held."""

    def users(self, name: str) -> set[str]:
        """Who uses a volume, for tests."""
        return {each.name for each in (self._root / name / "users").iterdir()}

    def _must(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or not (self._root / name).is_dir():
            raise NotFound(f"get {name}: no such volume")
        return self._root / name

    def _options(self, name: str) -> dict[str, str]:
        return {each.name: each.read_text() for each in (self._must(name) / "options").iterdir()}
