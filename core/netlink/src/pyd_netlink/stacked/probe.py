"""Whether a kernel knows a kind of interface, asked without making one."""

from __future__ import annotations

import errno

from pyd_netlink.rtnetlink import Netlink
from pyd_netlink.stacked.links import add_stacked

__all__ = ["knows_kind"]

_NOBODY = 0x7FFFFFFF
"""An index that no interface has: the kernel looks for the kind first, and for the parent then."""


def knows_kind(kind: str) -> bool:
    """Whether interfaces of *kind* can be stacked here; a module is loaded when there is one. Raises OSError.

    rtnl_newlink() in net/core/rtnetlink.c answers EOPNOTSUPP for a kind it does not know, and the kind's own newlink
    function ENODEV for a parent that is not there.
    """
    netlink = Netlink()
    try:
        (answer,) = netlink.send(add_stacked("pyd-probe", kind, b"", _NOBODY))
    finally:
        netlink.close()
    if answer is None:
        raise OSError(errno.EEXIST, f"an interface of kind {kind} was made on an interface that is not there")
    return answer.errno != errno.EOPNOTSUPP
