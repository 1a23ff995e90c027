"""User-namespace remapping: whose ranges of /etc/subuid and /etc/subgid containers get, and whether this host can do it."""

from __future__ import annotations

import grp
import pwd
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pyd_shim
from pyd_contracts.errors import InvalidArgument, Unsupported
from pyd_shim.idmaps import Extent, outside, unavailable

__all__ = ["Remap", "check_place", "check_powers", "check_storage", "read_remap"]

_DEFAULT = "dockremap"
_FIRST, _COUNT = 100_000, 65_536
"""Where ranges begin, and how long one is, by default (login.defs(5), SUB_UID_MIN and SUB_UID_COUNT)."""
_PROBE = """
import sys
sys.path[:0] = {path!r}
from pyd_shim import kernel
from pyd_shim.idmaps import id_mapped, user_namespace
users = user_namespace([(0, 100000, 65536)], [(0, 100000, 65536)])
id_mapped(lambda: kernel.open_tree(-100, sys.argv[1], kernel.OPEN_TREE_CLONE), users)
"""


@dataclass(frozen=True, slots=True)
class Remap:
    """Ids of containers on this host: extents of (first inside, first outside, how many). *name* is whose they are."""

    name: str
    users: tuple[Extent, ...]
    groups: tuple[Extent, ...]

    @property
    def owner(self) -> tuple[int, int]:
        """What root inside is outside: (user, group)."""
        return outside(0, self.users), outside(0, self.groups)

    def mappings(self) -> dict[str, list[dict[str, int]]]:
        """As an OCI document says it."""
        return {
            key: [dict(zip(("containerID", "hostID", "size"), each, strict=True)) for each in extents]
            for key, extents in (("uidMappings", self.users), ("gidMappings", self.groups))
        }


def read_remap(setting: str, etc: Path = Path("/etc")) -> Remap | None:
    """What ``userns-remap`` asks for: ``default``, ``user``, ``user:group`` or ids; None when it is empty.

    Raises InvalidArgument; where a range is missing the message has the line that makes it.
    """
    if not setting:
        return None
    user, colon, group = setting.partition(":")
    if setting == "default":
        user = _DEFAULT
    if not user or (colon and not group) or ":" in group:
        raise InvalidArgument(f'userns-remap = "{setting}": must be "default", "user", "user:group" or "uid:gid"')
    users = _names(user, _user_by_id, _id_of_user)
    groups = _names(group, _group_by_id, _id_of_group) if colon else users
    return Remap(
        users[0],
        _extents(setting, etc / "subuid", users),
        # Of the group as dockerd reads it; subgid(5) itself has lines of users.
        _extents(setting, etc / "subgid", groups, users),
    )


def _names(given: str, by_id: Callable[[int], str], id_of: Callable[[str], int]) -> list[str]:
    """What an entry of subuid(5) may call it: its name and its number, as far as this host knows them."""
    try:
        return [by_id(int(given)), given] if given.isascii() and given.isdigit() else [given, str(id_of(given))]
    except KeyError:
        return [given]


def _user_by_id(number: int) -> str:
    return pwd.getpwuid(number).pw_name


def _id_of_user(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _group_by_id(number: int) -> str:
    return grp.getgrgid(number).gr_name


def _id_of_group(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _extents(setting: str, path: Path, *owners: list[str]) -> tuple[Extent, ...]:
    """The ranges of the first of *owners*, each of some names, who has any: one after the other from 0 inside."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise InvalidArgument(f"userns-remap: read {path}: {error.strerror}") from error
    ranges: list[tuple[str, int, int]] = []
    for line in lines:
        name, _, numbers = line.strip().partition(":")
        first, _, count = numbers.partition(":")
        if not name.startswith("#") and first.isdigit() and count.isdigit() and int(count):
            ranges.append((name, int(first), int(count)))
    name = owners[0][0]
    own = next((found for names in owners if (found := [each for each in ranges if each[0] in names])), [])
    if not own:
        free = max([_FIRST, *(first + count for _, first, count in ranges)])
        raise InvalidArgument(
            f'userns-remap = "{setting}": {path} has no range for {name}; add one with: '
            f"echo {name}:{free}:{_COUNT} >> {path}"
        )
    if any(first == 0 for _, first, _ in own):
        raise InvalidArgument(f'userns-remap = "{setting}": the range for {name} in {path} holds the host\'s root')
    ordered = sorted((first, first + count) for _, first, count in own)
    if any(end > following for (_, end), (following, _) in pairwise(ordered)):
        raise InvalidArgument(f'userns-remap = "{setting}": ranges for {name} in {path} overlap')
    starts = accumulate((count for _, _, count in own), initial=0)
    return tuple((inside, first, count) for inside, (_, first, count) in zip(starts, own, strict=False))


def check_place(setting: str, directory: Path) -> None:
    """Raises InvalidArgument unless this host makes user namespaces, and mounts of *directory*'s file system can show ids
    through a map: found out by doing it."""
    if why := unavailable():
        raise InvalidArgument(f'userns-remap = "{setting}": {why}; leave userns-remap out')
    path = [str(Path(str(module.__file__)).parent.parent) for module in (pyd_shim,)]
    done: Any = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", _PROBE.format(path=path), str(directory)],
        capture_output=True, text=True, env={"LC_ALL": "C.UTF-8"}, cwd="/", check=False,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise InvalidArgument(
            f'userns-remap = "{setting}": mounts of {directory} cannot be id-mapped here ({said}); it takes a file system that '
            "can (ext4, xfs, btrfs; tmpfs from Linux 6.3): choose another --data-root, or leave userns-remap out"
        )


def check_powers(isolation: tuple[str, Any], storage: tuple[str, Any], storages: Mapping[str, Any]) -> None:
    """Raises Unsupported unless the two (name, driver) of a container can give it a user namespace; *storages* are all."""
    name, driver = isolation
    if "users" not in driver.capabilities:
        raise Unsupported(
            f"the isolation backend {name!r} makes no user namespaces here, which userns-remap asks for; run the container "
            "with --userns=host, or on another backend"
        )
    name, driver = storage
    if "id-mapped" not in driver.capabilities:
        raise Unsupported(
            f"the storage driver {name!r} cannot show files through a map of ids here, which userns-remap asks for; run the "
            f"container with --userns=host, or make it anew with {_able(storages)}"
        )


def check_storage(setting: str, default: str, storages: Mapping[str, Any]) -> None:
    """Raises InvalidArgument unless the default storage driver is one whose files can be shown through a map."""
    if default in storages and "id-mapped" not in storages[default].capabilities:
        raise InvalidArgument(
            f'userns-remap = "{setting}": the storage driver {default!r} cannot show files through a map of ids here (overlay '
            f"mounts take Linux 5.19); leave userns-remap out, or choose {_able(storages, '[storage] default = ')}"
        )


def _able(storages: Mapping[str, Any], option: str = "--storage-opt driver=") -> str:
    """The storage drivers that can do it here, as they are asked for."""
    able = sorted(name for name, each in storages.items() if "id-mapped" in each.capabilities)
    return f"{option}{' or '.join(able)}" if able else "another storage driver: of those that are ready, none can"
