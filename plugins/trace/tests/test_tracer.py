"""The tracer around a driver, through a real plugin manager."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pluggy
import pytest

from pyd_contracts import CONTRACTS, DriverContext, EngineEvents, StorageDriver, hookimpl
from pyd_contracts.errors import NotFound
from pyd_contracts.markers import PROJECT
from pyd_contracts.values import Mount
from pyd_plugin_trace.plugin import create


class Driver:
    """Two hooks of a storage driver: enough to be called, and to fail."""

    @hookimpl
    def storage_prepare(self, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        return [Mount("bind", f"/{key}/{parent}", tuple(options))]

    @hookimpl
    def storage_remove(self, name: str) -> None:
        raise NotFound(f"remove {name!r}: no such entry")


@pytest.fixture
def context(tmp_path: Path) -> DriverContext:
    return DriverContext("trace", tmp_path, tmp_path, {}, logging.getLogger("pyd.plugin.trace"))


@pytest.fixture
def hooks(context: DriverContext) -> Any:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(StorageDriver)
    manager.register(Driver(), name="memory")
    manager.register(create(context), name="plugin trace")
    return manager.hook


def test_a_call_is_logged_with_subject_driver_and_time(hooks: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pyd.plugin.trace")
    mounts = hooks.storage_prepare(key="c1", parent=None, options={"size": "1g"})
    assert mounts == [Mount("bind", "/c1/None", ("size",))]
    [line] = caplog.messages
    assert line.startswith("storage_prepare(key='c1') by memory: ")
    assert line.endswith(" ms")
    assert 0 <= float(line.split()[-2]) < 1000


def test_an_error_is_logged_and_passes_unchanged(hooks: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pyd.plugin.trace")
    with pytest.raises(NotFound, match=r"^remove 'x': no such entry$"):
        hooks.storage_remove(name="x")
    assert caplog.messages[0].endswith("ms, raised NotFound: remove 'x': no such entry")


def test_a_long_id_is_cut(hooks: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pyd.plugin.trace")
    hooks.storage_prepare(key="0f3a" * 16, parent=None, options={})
    assert caplog.messages[0].startswith("storage_prepare(key=0f3a0f3a0f3a) by memory")


def test_nothing_is_logged_above_debug(hooks: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pyd.plugin.trace")
    hooks.storage_prepare(key="c1", parent=None, options={})
    assert caplog.messages == []


def test_every_hook_of_every_driver_contract_is_covered(context: DriverContext) -> None:
    covered = {name for name in dir(create(context)) if not name.startswith("_")}
    specified = {
        name
        for contract in CONTRACTS
        if contract is not EngineEvents
        for name, hook in inspect.getmembers(contract, inspect.isfunction)
        if hasattr(hook, f"{PROJECT}_spec")
    }
    assert covered == specified
    for name in covered:
        assert inspect.isgeneratorfunction(getattr(type(create(context)), name)), name
