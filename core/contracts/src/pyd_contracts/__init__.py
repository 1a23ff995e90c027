"""The contracts of pyd. A driver imports from here and from nothing else of pyd."""

from __future__ import annotations

from pyd_contracts.context import DriverContext, Setting, read_settings
from pyd_contracts.events import EngineEvents
from pyd_contracts.frontend import BuildFrontend
from pyd_contracts.ipam import IpamDriver
from pyd_contracts.isolation import INIT, IsolationBackend, Runtimes
from pyd_contracts.log import LogDriver, LogFiles
from pyd_contracts.markers import hookimpl, hookspec, settings
from pyd_contracts.network import NetworkDriver, NetworkRules
from pyd_contracts.storage import DiffSource, LayerTargets, Rebasing, Reclaiming, Releasing, StorageDriver
from pyd_contracts.volume import VolumeDriver

__all__ = [
    "CONTRACTS",
    "INIT",
    "BuildFrontend",
    "DiffSource",
    "DriverContext",
    "EngineEvents",
    "IpamDriver",
    "IsolationBackend",
    "LayerTargets",
    "LogDriver",
    "LogFiles",
    "NetworkDriver",
    "NetworkRules",
    "Rebasing",
    "Reclaiming",
    "Releasing",
    "Runtimes",
    "Setting",
    "StorageDriver",
    "VolumeDriver",
    "hookimpl",
    "hookspec",
    "read_settings",
    "settings",
]

CONTRACTS: tuple[type[object], ...] = (
    StorageDriver,
    LayerTargets,
    Rebasing,
    DiffSource,
    Releasing,
    Reclaiming,
    NetworkDriver,
    NetworkRules,
    IpamDriver,
    IsolationBackend,
    Runtimes,
    VolumeDriver,
    LogDriver,
    LogFiles,
    BuildFrontend,
    EngineEvents,
)
"""Every hook specification: a relay knows them all, so that one wrapper may cover several kinds of driver."""
