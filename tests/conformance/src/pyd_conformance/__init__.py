"""The conformance kit for drivers of pyd, and verified in-memory fakes.

The names below are imported on first use: pytest loads this package early, as a plugin, and the test classes must be
imported after assertion rewriting was set up for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyd_conformance.frontend import FrontendContract as FrontendContract
    from pyd_conformance.ipam import IpamContract as IpamContract
    from pyd_conformance.isolation import IsolationContract as IsolationContract
    from pyd_conformance.log import LogContract as LogContract
    from pyd_conformance.network import NetworkContract as NetworkContract
    from pyd_conformance.storage import StorageContract as StorageContract
    from pyd_conformance.volume import VolumeContract as VolumeContract

_WHERE = {
    "StorageContract": "pyd_conformance.storage",
    "IpamContract": "pyd_conformance.ipam",
    "NetworkContract": "pyd_conformance.network",
    "IsolationContract": "pyd_conformance.isolation",
    "VolumeContract": "pyd_conformance.volume",
    "LogContract": "pyd_conformance.log",
    "FrontendContract": "pyd_conformance.frontend",
}

__all__ = [
    "FrontendContract",
    "IpamContract",
    "IsolationContract",
    "LogContract",
    "NetworkContract",
    "StorageContract",
    "VolumeContract",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
