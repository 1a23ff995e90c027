"""Whether this kernel has macvlan; the module is loaded by the question."""

from __future__ import annotations

from pyd_netlink.stacked.probe import knows_kind

__all__ = ["has_macvlan"]


def has_macvlan() -> bool:
    """Raises OSError where there is no rtnetlink."""
    return knows_kind("macvlan")
