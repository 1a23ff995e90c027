"""The places of the engine that drivers fill: an entry-point group, and the contract that goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

from pyd_contracts import events, frontend, ipam, isolation, log, network, storage, volume
from pyd_contracts.events import EngineEvents
from pyd_contracts.frontend import BuildFrontend
from pyd_contracts.ipam import IpamDriver
from pyd_contracts.isolation import IsolationBackend, Runtimes
from pyd_contracts.log import LogDriver, LogFiles
from pyd_contracts.network import NetworkDriver, NetworkRules
from pyd_contracts.storage import StorageDriver
from pyd_contracts.volume import VolumeDriver

__all__ = [
    "FRONTEND",
    "IPAM",
    "ISOLATION",
    "LOGGING",
    "NETWORK",
    "PLUGINS",
    "SLOTS",
    "STORAGE",
    "VOLUME",
    "AnySlot",
    "Slot",
]

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Slot(Generic[C]):
    """A place that a driver fills.

    kind      one word for messages, reports, and the name of the table in the configuration file
    group     the entry-point group; it carries the contract's version
    contract  the hook specifications a driver must fulfil (a plugin: may)
    powers    further contracts, by the capability that declares them
    """

    kind: str
    group: str
    contract: type[C]
    powers: Mapping[str, type[object]] = field(default_factory=lambda: MappingProxyType({}))


STORAGE: Slot[StorageDriver] = Slot(
    "storage",
    storage.GROUP,
    StorageDriver,
    MappingProxyType({word: contract for word, contract in storage.CAPABILITIES.items() if contract is not None}),
)
NETWORK: Slot[NetworkDriver] = Slot("network", network.GROUP, NetworkDriver, MappingProxyType({"rules": NetworkRules}))
IPAM: Slot[IpamDriver] = Slot("ipam", ipam.GROUP, IpamDriver)
ISOLATION: Slot[IsolationBackend] = Slot(
    "isolation", isolation.GROUP, IsolationBackend, MappingProxyType({"runtimes": Runtimes})
)
VOLUME: Slot[VolumeDriver] = Slot("volume", volume.GROUP, VolumeDriver)
LOGGING: Slot[LogDriver] = Slot("logging", log.GROUP, LogDriver, MappingProxyType({"files": LogFiles}))
FRONTEND: Slot[BuildFrontend] = Slot("frontend", frontend.GROUP, BuildFrontend)
PLUGINS: Slot[EngineEvents] = Slot("plugins", events.GROUP, EngineEvents)

AnySlot = (
    Slot[StorageDriver]
    | Slot[NetworkDriver]
    | Slot[IpamDriver]
    | Slot[IsolationBackend]
    | Slot[VolumeDriver]
    | Slot[LogDriver]
    | Slot[BuildFrontend]
    | Slot[EngineEvents]
)

SLOTS: tuple[AnySlot, ...] = (STORAGE, NETWORK, IPAM, ISOLATION, VOLUME, LOGGING, FRONTEND, PLUGINS)
