"""From names in the configuration to drivers held to their contracts. Only this package knows stevedore."""

from __future__ import annotations

from pyd_engine.composition.compose import Composition, CompositionError, check, compose
from pyd_engine.composition.discovery import Catalogue, Installed, discover
from pyd_engine.composition.relay import ContractError, Relay
from pyd_engine.composition.report import DriverReport
from pyd_engine.composition.selection import Choice, Selection
from pyd_engine.composition.slots import FRONTEND, IPAM, ISOLATION, LOGGING, NETWORK, PLUGINS, STORAGE, VOLUME, Slot

__all__ = [
    "FRONTEND",
    "IPAM",
    "ISOLATION",
    "LOGGING",
    "NETWORK",
    "PLUGINS",
    "STORAGE",
    "VOLUME",
    "Catalogue",
    "Choice",
    "Composition",
    "CompositionError",
    "ContractError",
    "DriverReport",
    "Installed",
    "Relay",
    "Selection",
    "Slot",
    "check",
    "compose",
    "discover",
]
