"""Fakes that pass the same suite as the drivers they stand for.

Imported on first use, so that a test of one kind of driver pays for one kind of fake.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyd_conformance.fakes.frontend import FakeFrontend as FakeFrontend
    from pyd_conformance.fakes.isolation import FakeIsolation as FakeIsolation
    from pyd_conformance.fakes.log import FakeLogs as FakeLogs
    from pyd_conformance.fakes.log import FakeSink as FakeSink
    from pyd_conformance.fakes.network import FakeNetwork as FakeNetwork
    from pyd_conformance.fakes.storage import FakeStorage as FakeStorage
    from pyd_conformance.fakes.volume import FakeVolumes as FakeVolumes

_WHERE = {
    "FakeStorage": "pyd_conformance.fakes.storage",
    "FakeNetwork": "pyd_conformance.fakes.network",
    "FakeIsolation": "pyd_conformance.fakes.isolation",
    "FakeLogs": "pyd_conformance.fakes.log",
    "FakeSink": "pyd_conformance.fakes.log",
    "FakeVolumes": "pyd_conformance.fakes.volume",
    "FakeFrontend": "pyd_conformance.fakes.frontend",
}

__all__ = ["FakeFrontend", "FakeIsolation", "FakeLogs", "FakeNetwork", "FakeSink", "FakeStorage", "FakeVolumes"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
