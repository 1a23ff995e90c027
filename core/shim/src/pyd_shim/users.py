"""Who a process is to be: names looked up in the container's own /etc/passwd and /etc/group.

By a bounded reader: no NSS, whose modules would be loaded from the container's file system (CVE-2019-14271), no trust in the
file's type or size.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from pyd_shim.ends import LaunchError

__all__ = ["Identity", "Open", "identify"]

Open = Callable[[str, int], int]
"""Opens a path below the container's root, by whatever way does not lead out of it; raises OSError."""

_MAX_BYTES = 4 << 20
_MAX_ID = 2**31 - 1
"""Ids end here as in dockerd: larger ones wrap to 0 in some programs (CVE-2024-40635)."""


class Identity:
    """Numeric ids, and what /etc/passwd says of the home directory."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def _lines(open_: Open, path: str) -> list[list[str]]:
    """The fields of each line of a passwd(5) or group(5) file; none when there is no such regular file."""
    try:
        fd = open_(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return []
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        data = b""
        while len(data) < _MAX_BYTES:
            chunk = os.read(fd, 65536)
            if not chunk:
                break
            data += chunk
    except OSError:
        return []
    finally:
        os.close(fd)
    return [line.split(":") for line in data.decode("utf-8", "surrogateescape").split("\n") if ":" in line]


def _number(text: str) -> int | None:
    """A decimal id in ASCII digits and nothing else: int() would take "1_000", "+0" and other scripts' digits."""
    if text and len(text) <= 10 and all(character in "0123456789" for character in text):
        return int(text)
    return None


def _wished(text: str) -> int | None:
    """As `_number`, for what a user asks for: a number that is no id (-1 here) is told so, not looked up as a name."""
    digits = text.removeprefix("-")
    if digits and len(digits) <= 19 and all(character in "0123456789" for character in digits):
        return int(digits) if digits == text else -1
    return None


def _bounded(number: int, what: str) -> int:
    if not 0 <= number <= _MAX_ID:
        raise LaunchError("invalid-argument", f"uids and gids must be in range 0-{_MAX_ID}: {what}")
    return number


def identify(open_: Open, user: dict[str, Any]) -> Identity:
    """Resolve an OCI *user* object: ``username`` (``name|uid[:group|gid]``) in the container, or numeric ids.

    Docker's rules: a numeric name is always an id; a primary group given explicitly drops memberships; the primary group
    is among the supplementary ones (CVE-2022-36109).
    """
    wanted = user.get("username")
    extra = list(user.get("additionalGids") or ())
    names = list(user.get("additionalGroups") or ())
    if wanted is None:
        wanted = f"{user.get('uid', 0)}:{user.get('gid', 0)}"
    name, colon, group = wanted.partition(":")
    passwd = [f for f in _lines(open_, "/etc/passwd") if len(f) >= 6 and _number(f[2]) is not None]
    uid = _wished(name) if name else 0
    if uid is not None:
        _bounded(uid, name)
        entry = next((f for f in passwd if _number(f[2]) == uid), None)
    else:
        entry = next((f for f in passwd if f[0] == name), None)
        if entry is None:
            raise LaunchError("invalid-argument", f"unable to find user {name}: no matching entries in passwd file")
        uid = _bounded(_number(entry[2]) or 0, name)
    # 2^32-1 in a file would mean "leave it as it is" to setresgid(2): root's.
    gid = _bounded(_number(entry[3]) or 0, name) if entry else 0
    groups: list[int] = []
    group_file = _lines(open_, "/etc/group") if (group or names or entry) else []
    if colon and group:
        gid = _group(group_file, group)
    elif entry is not None:
        groups = [
            _bounded(_number(f[2]) or 0, f[0])
            for f in group_file
            if len(f) >= 4 and entry[0] in f[3].split(",") and _number(f[2]) is not None
        ]
    groups += [_group(group_file, each) for each in names]
    home = entry[5] if entry and entry[5] else "/"
    return Identity(uid, gid, list(dict.fromkeys([gid, *groups, *extra])), home)


def _group(group_file: list[list[str]], wanted: str) -> int:
    number = _wished(wanted)
    if number is not None:
        return _bounded(number, wanted)
    for fields in group_file:
        if len(fields) >= 3 and fields[0] == wanted and _number(fields[2]) is not None:
            return _bounded(_number(fields[2]) or 0, wanted)
    raise LaunchError("invalid-argument", f"unable to find group {wanted}: no matching entries in group file")
