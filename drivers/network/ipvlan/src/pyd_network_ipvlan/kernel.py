"""Whether this kernel has ipvlan; the module is loaded by the question."""

from __future__ import annotations

from pyd_netlink.stacked.probe import knows_kind

__all__ = ["has_ipvlan"]


def has_ipvlan() -> bool:
    """Raises OSError where there is no rtnetlink."""
    return knows_kind("ipvlan")
