"""Who a container's process is, told to the kernel."""

from __future__ import annotations

import errno
import os

from pyd_shim import kernel as k
from pyd_shim.ends import LaunchError
from pyd_shim.users import Identity

__all__ = ["become", "become_root", "drop_bounding"]

_LAST_CAP = 40


def drop_bounding(bounding: int) -> None:
    """Reduce the bounding set to *bounding*; capabilities this kernel does not know end the list."""
    for number in range(_LAST_CAP + 24):
        if not bounding >> number & 1:
            try:
                k.prctl(k.PR_CAPBSET_DROP, number)
            except OSError:
                if number > _LAST_CAP:
                    return
                raise


def become_root() -> None:
    """Be root of the user namespace that was just made or entered: until then this process is no user that it knows.

    The new ids are others on this host; the kernel makes the process not dumpable with them (prctl(2) PR_SET_DUMPABLE), so
    nobody who has the same ids looks into it.
    """
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def become(identity: Identity, capabilities: dict[str, int]) -> None:
    """Take on ids and capability sets (capabilities(7)). The order is that of runc's finalizeNamespace.

    Capabilities that this process does not have itself are dropped from what is asked: the kernel would refuse all of them.
    Raises LaunchError for ids that the user namespace has not.
    """
    k.prctl(k.PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        ids = f"{identity.uid}:{identity.gid}, groups {' '.join(map(str, identity.groups))}"
        raise LaunchError("invalid-argument", f"the user namespace does not have all of the ids {ids}") from error
    k.prctl(k.PR_SET_KEEPCAPS, 0)
    k.capset(capabilities["permitted"], capabilities["effective"], capabilities["inheritable"])
    k.prctl(k.PR_CAP_AMBIENT, k.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(_LAST_CAP + 1):
        if capabilities["ambient"] >> number & 1:
            k.prctl(k.PR_CAP_AMBIENT, k.PR_CAP_AMBIENT_RAISE, number)
