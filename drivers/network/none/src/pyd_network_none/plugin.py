"""The entry point."""

from __future__ import annotations

import os

from pyd_contracts.context import DriverContext
from pyd_contracts.errors import Declined
from pyd_network_none.driver import NoneDriver

__all__ = ["create"]


def create(context: DriverContext) -> NoneDriver:
    """The driver. Raises Declined where there are no network namespaces."""
    if not os.path.exists("/proc/thread-self/ns/net"):
        raise Declined(f"network driver {context.name}: this kernel has no network namespaces, or /proc is not mounted")
    return NoneDriver()
