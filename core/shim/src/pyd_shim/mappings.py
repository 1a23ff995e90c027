"""The maps of a user namespace as an OCI document says them (config-linux.md, "User namespace mappings"), checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyd_contracts.errors import InvalidArgument
from pyd_shim.idmaps import Extent, outside

__all__ = ["extents", "owner"]

_NO_ID = 2**32 - 1
"""No id: it means "leave it" to chown(2)."""
_MOST_EXTENTS = 340
"""Lines of a map that the kernel takes (user_namespaces(7)); one of them is ours (`pyd_shim.idmaps.on_disk`)."""


def extents(linux: Mapping[str, Any], field: str, wanted: bool) -> list[Extent]:
    """``linux.uidMappings`` or ``gidMappings``, as (first inside, first outside, how many)."""
    given = linux.get(field) or ()
    if wanted != bool(given):
        why = "a user namespace needs them" if wanted else "there is no user namespace for them"
        raise InvalidArgument(f"linux.{field}: {why}")
    found: list[Extent] = []
    for each in given:
        try:
            inside, outside, count = (int(each[key]) for key in ("containerID", "hostID", "size"))
        except (KeyError, TypeError, ValueError):
            raise InvalidArgument(f"linux.{field}: {each!r} has no containerID, hostID and size") from None
        if inside < 0 or outside < 0 or count < 1 or inside + count > _NO_ID or outside + count > _NO_ID:
            raise InvalidArgument(f"linux.{field}: {inside} {outside} {count} is no range of ids")
        for other in found:
            for first, second in ((inside, other[0]), (outside, other[1])):
                if first < second + other[2] and second < first + count:
                    raise InvalidArgument(f"linux.{field}: {inside} {outside} {count} overlaps another range")
        found.append((inside, outside, count))
    if len(found) >= _MOST_EXTENTS:
        raise InvalidArgument(f"linux.{field}: {len(found)} ranges; the kernel takes {_MOST_EXTENTS - 1}")
    return found


def owner(users: Sequence[Extent], groups: Sequence[Extent]) -> list[int]:
    """Who the container's root is on this host."""
    return [outside(0, users), outside(0, groups)]
