"""Mount propagation of binds: whether the source can give what is asked, and what cannot be given at all.

Only a shared mount tells others of mounts below it, and only a shared or slave one hands on what it is told
(mount_namespaces(7)). On a private mount the option would be taken and do nothing; dockerd refuses it, in these words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.binds import Bind

__all__ = ["check_propagation"]

_MOUNTINFO = "/proc/self/mountinfo"


def check_propagation(binds: Sequence[Bind], *, reaches: bool, mountinfo: str = _MOUNTINFO) -> list[str]:
    """Warnings for what is done in part. Raises InvalidArgument for a source whose mount is private.

    reaches  whether mounts that the container makes can reach this host at all
    """
    warnings = []
    for bind in binds:
        mode = bind.propagation.removeprefix("r")
        if bind.type != "bind" or mode not in ("shared", "slave"):
            continue
        point, kinds = _mount_of(os.path.realpath(bind.source), mountinfo)
        if "shared" not in kinds and (mode == "shared" or "master" not in kinds):
            what = "shared mount" if mode == "shared" else "shared or slave mount"
            raise InvalidArgument(f"path {bind.source} is mounted on {point} but it is not a {what}")
        if mode == "shared" and not reaches:
            warnings.append(
                f"Mounts that the container makes below {bind.destination} stay its own: {bind.propagation} is done as "
                f"{bind.propagation.replace('shared', 'slave')}"
            )
    return warnings


def _mount_of(path: str, mountinfo: str) -> tuple[str, frozenset[str]]:
    """The mount point that *path* is below, and its optional fields without their numbers: ``shared``, ``master``."""
    point, kinds = "/", frozenset[str]()
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            words = line.split(" - ", 1)[0].split(" ")
            here = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), words[4])
            inside = path == here or path.startswith(here.rstrip("/") + "/")
            if inside and len(here) >= len(point):  # the last of several at one place is what is seen
                point, kinds = here, frozenset(word.partition(":")[0] for word in words[6:])
    return point, kinds
