"""Loaded drivers, as composition hands them to the networks service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from pyd_contracts.errors import Unavailable
from pyd_contracts.ipam import IpamDriver
from pyd_contracts.network import NetworkDriver
from pyd_engine.networks.records import NetworkRecord

__all__ = ["Driver", "Manager", "capabilities_of", "choosing", "ready"]


class Driver(Protocol):
    """A loaded network driver behind its contract, as composition holds it."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What it declares."""

    @property
    def call(self) -> NetworkDriver:
        """The contract's hooks."""


class Manager(Protocol):
    """A loaded manager of addresses."""

    @property
    def call(self) -> IpamDriver:
        """The contract's hooks."""


def choosing(drivers: Mapping[str, Driver]) -> Callable[[NetworkRecord], Driver]:
    """A function that gives the driver of a network, and raises Unavailable when it is not among *drivers*."""

    def choose(record: NetworkRecord) -> Driver:
        driver = drivers.get(record.driver)
        if driver is None:
            raise Unavailable(
                f"network {record.name} needs the driver {record.driver!r}, which is not ready; {ready(drivers)}"
            )
        return driver

    return choose


def ready(names: Iterable[str]) -> str:
    """What there is instead, for messages."""
    return f"ready: {', '.join(sorted(names)) or 'none'}"


def capabilities_of(drivers: Mapping[str, Driver], record: NetworkRecord) -> frozenset[str]:
    """What the driver of a network declares; nothing when it is not ready."""
    driver = drivers.get(record.driver)
    return driver.capabilities if driver is not None else frozenset()
