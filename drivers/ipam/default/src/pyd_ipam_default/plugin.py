"""The entry point."""

from __future__ import annotations

from pyd_contracts.context import DriverContext
from pyd_ipam_default.driver import DefaultIpam

__all__ = ["create"]


def create(context: DriverContext) -> DefaultIpam:  # noqa: ARG001 - the contract's argument
    """The driver; it has no settings and works everywhere."""
    return DefaultIpam()
