"""Volumes as directories: ``<root>/<name>/_data``, beside it ``options.json`` for those that mount something there.

A volume is there when its directory has the final name: it is filled under another one and renamed. Users are files below
the run directory, empty and named ``<volume>/<user>``: a reboot, which ends all mounts, ends all users.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pyd_contracts.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, from_oserror
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Usage, Volume
from pyd_volume_local.mounting import is_mounted, mount, unmount

__all__ = ["LocalDriver"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}")
_OPTIONS = frozenset({"type", "o", "device", "size"})
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_UNFINISHED = ".unfinished-"  # no volume's name begins with a dot
_GONE = ".gone-"
_STRIPES = 64


class LocalDriver:
    """The volume contract over a directory. *root* survives reboots, *run* does not."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, root: Path, run: Path, *, log: logging.Logger | None = None) -> None:
        self._root = Path(os.path.realpath(root))
        self._run = run
        self._log = log or logging.getLogger(__name__)
        self._locks = [threading.Lock() for _ in range(_STRIPES)]
        for entry in os.scandir(self._root):
            if entry.name.startswith((_UNFINISHED, _GONE)):
                self._destroy(Path(entry.path))

    # --- hooks ---------------------------------------------------------------------------------------------------

    @hookimpl
    def volume_create(self, name: str, options: Mapping[str, str]) -> None:
        """Fill a directory, then give it its name."""
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"create {name}: {_why_not(name)}")
        _check(name, options)
        with self._locked(name), _told(f"create {name}"):
            if self._known(name):
                if self._options(name) != dict(options):
                    raise AlreadyExists(f"create {name}: it is there already, with other options")
                return
            new = self._root / f"{_UNFINISHED}{secrets.token_hex(8)}"
            new.mkdir(mode=0o711)
            (new / "_data").mkdir()
            (new / "_data").chmod(0o755)
            if options:
                (new / "options.json").write_text(json.dumps(dict(options)))
            new.rename(self._root / name)

    @hookimpl
    def volume_remove(self, name: str) -> None:
        """Take the name away, then the content."""
        with self._locked(name), _told(f"remove {name}"):
            self._must(name)
            if users := self._users(name):
                raise FailedPrecondition(f"remove {name}: volume is in use - [{', '.join(users)}]")
            unmount(str(self._data(name)))
            gone = self._root / f"{_GONE}{secrets.token_hex(8)}"
            (self._root / name).rename(gone)
            self._destroy(gone)
            with contextlib.suppress(FileNotFoundError):
                (self._run / name).rmdir()

    @hookimpl
    def volume_mount(self, name: str, user: str) -> Path:
        """Note the user; mount for the first one."""
        with self._locked(name), _told(f"mount {name}"):
            self._must(name)
            data, options = self._data(name), self._options(name)
            if options and not is_mounted(str(data)):
                self._mount(data, options)
            (self._run / name).mkdir(mode=0o700, exist_ok=True)
            (self._run / name / user).touch(mode=0o600)
            return data

    @hookimpl
    def volume_unmount(self, name: str, user: str) -> None:
        """Forget the user; unmount after the last one."""
        with self._locked(name), _told(f"unmount {name}"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                (self._run / name / user).unlink()
            with contextlib.suppress(OSError):
                (self._run / name).rmdir()  # after the last one
            if self._known(name) and not self._users(name) and self._options(name):
                unmount(str(self._data(name)))

    @hookimpl
    def volume_get(self, name: str) -> Volume:
        """Describe one."""
        with self._locked(name), _told(f"get {name}"):
            self._must(name)
            return Volume(name, self._options(name), self._data(name))

    @hookimpl
    def volume_walk(self) -> Iterable[Volume]:
        """All of them."""
        with _told("list volumes"):
            names = sorted(entry.name for entry in os.scandir(self._root) if self._known(entry.name))
            return [Volume(name, self._options(name), self._data(name)) for name in names]

    @hookimpl
    def volume_usage(self, name: str) -> Usage:
        """Bytes on this file system: what is mounted there is counted while it is."""
        with _told(f"measure {name}"):
            self._must(name)
            return _usage(self._data(name))

    @hookimpl
    def volume_close(self) -> None:
        """Nothing is held."""

    # --- parts ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with self._locks[hash(name) % _STRIPES]:
            yield

    def _known(self, name: str) -> bool:
        return _NAME.fullmatch(name) is not None and (self._root / name).is_dir()

    def _must(self, name: str) -> None:
        if not self._known(name):
            raise NotFound(f"get {name}: no such volume")

    def _data(self, name: str) -> Path:
        return self._root / name / "_data"

    def _options(self, name: str) -> dict[str, str]:
        try:
            options: dict[str, str] = json.loads((self._root / name / "options.json").read_text())
        except FileNotFoundError:
            return {}
        return options

    def _users(self, name: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self._run / name))
        except FileNotFoundError:
            return []

    @staticmethod
    def _mount(data: Path, options: Mapping[str, str]) -> None:
        try:
            mount(options["type"], options["device"], str(data), options.get("o", ""))
        except OSError as error:
            why = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
            raise FailedPrecondition(
                f"error while mounting volume '{data}': failed to mount local volume: {why}"
            ) from error

    def _destroy(self, path: Path) -> None:
        """Remove a directory that has lost its name; what a dead daemon left mounted there is not its content."""
        unmount(str(path / "_data"))
        shutil.rmtree(path)


def _check(name: str, options: Mapping[str, str]) -> None:
    """Refuse what cannot be done, in dockerd's words."""
    for key in options:
        if key not in _OPTIONS:
            raise InvalidArgument(f'create {name}: invalid option: "{key}"')
    if "size" in options:
        raise InvalidArgument(f"create {name}: quota size requested but no quota support")
    for key in options:
        for other in _NEEDS[key]:
            if other not in options:
                raise InvalidArgument(f'create {name}: missing required option: "{other}"')


def _why_not(name: str) -> str:
    if len(name) < 2:
        return "volume name is too short, names should be at least two alphanumeric characters"
    if len(name) > 255:
        return "volume name is too long, 255 characters are the most"
    return (
        f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
        "If you intended to pass a host directory, use absolute path"
    )


def _usage(path: Path) -> Usage:
    """Blocks and inodes below *path*, hard links once, as du(1) counts."""
    total, seen = 0, set()
    waiting = [os.fspath(path)]
    while waiting:
        directory = waiting.pop()
        try:
            entries = list(os.scandir(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed meanwhile
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
    return Usage(total, len(seen))


@contextlib.contextmanager
def _told(doing: str) -> Iterator[None]:
    """Errors of the system as errors of the family."""
    try:
        yield
    except OSError as error:
        raise from_oserror(error, doing) from error
