"""The entry point."""

from __future__ import annotations

from pyd_contracts.context import DriverContext
from pyd_contracts.errors import Declined
from pyd_network_host.driver import HostDriver
from pyd_network_host.kernel import netns_id

__all__ = ["create"]


def create(context: DriverContext) -> HostDriver:
    """The driver. Raises Declined where the kernel has no network namespaces to tell apart."""
    if netns_id("/proc/thread-self/ns/net") is None:
        raise Declined(f"network driver {context.name}: /proc/thread-self/ns/net is missing; mount /proc")
    return HostDriver()
