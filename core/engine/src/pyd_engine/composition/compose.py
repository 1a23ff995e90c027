"""Putting the engine together: drivers and plugins found, chosen, made, held to their contracts, wrapped; and undone.

Only a driver that the configuration requires stops the daemon. All faults are collected before it does.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pyd_contracts.context import DriverContext, read_settings
from pyd_contracts.errors import Declined, FailedPrecondition, InvalidArgument, PydError, from_oserror
from pyd_contracts.frontend import BuildFrontend
from pyd_contracts.ipam import IpamDriver
from pyd_contracts.isolation import IsolationBackend
from pyd_contracts.log import LogDriver
from pyd_contracts.markers import settings_of
from pyd_contracts.network import NetworkDriver
from pyd_contracts.storage import StorageDriver
from pyd_contracts.volume import VolumeDriver
from pyd_engine.composition.discovery import Catalogue, Factory, Installed, discover, nearest
from pyd_engine.composition.listeners import EVENT_HOOKS, Listeners, listener_faults
from pyd_engine.composition.relay import ContractError, HookNames, Relay, hooks_of, implementations, wrapper_faults
from pyd_engine.composition.report import DriverReport, DriverState
from pyd_engine.composition.selection import Selection
from pyd_engine.composition.slots import (
    FRONTEND,
    IPAM,
    ISOLATION,
    LOGGING,
    NETWORK,
    PLUGINS,
    SLOTS,
    STORAGE,
    VOLUME,
    AnySlot,
    Slot,
)

__all__ = ["Composition", "CompositionError", "check", "compose"]

C = TypeVar("C")
_DRIVERS: tuple[Slot[Any], ...] = (STORAGE, NETWORK, IPAM, ISOLATION, VOLUME, LOGGING, FRONTEND)


class CompositionError(FailedPrecondition):
    """The daemon cannot start as configured; `faults` has one line for each thing to change."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class Composition:
    """All drivers and plugins that are in use, and the report on all that are installed."""

    def __init__(self, log: logging.Logger) -> None:
        self.storage: dict[str, Relay[StorageDriver]] = {}
        self.network: dict[str, Relay[NetworkDriver]] = {}
        self.ipam: dict[str, Relay[IpamDriver]] = {}
        self.isolation: dict[str, Relay[IsolationBackend]] = {}
        self.volume: dict[str, Relay[VolumeDriver]] = {}
        self.logging: dict[str, Relay[LogDriver]] = {}
        self.frontend: dict[str, Relay[BuildFrontend]] = {}
        self.plugins: dict[str, object] = {}
        self.listeners = Listeners(log)
        self.report: tuple[DriverReport, ...] = ()
        self._closers = ExitStack()
        self._log = log

    def of(self, slot: Slot[C]) -> dict[str, Relay[C]]:
        """The relays of one slot, by name."""
        relays: dict[str, Relay[C]] = getattr(self, slot.kind)
        return relays

    def every(self) -> list[Relay[Any]]:
        """All relays."""
        return [relay for slot in _DRIVERS for relay in self.of(slot).values()]

    def on_close(self, name: str, close: Callable[[], object]) -> None:
        """Run *close* when the composition is closed, before what was made earlier is; its errors are logged."""

        def closing() -> None:
            try:
                close()
            except PydError as error:
                self._log.error("close %s: %s", name, error)

        self._closers.callback(closing)

    def close(self) -> None:
        """Close plugins and drivers, the last made first, each whatever happens to the others. Twice is once."""
        self._closers.close()


def check(selection: Selection, catalogue: Catalogue | None = None) -> list[str]:
    """What is wrong with a selection, one line each, found without making any driver."""
    return _Assembly(selection, catalogue or discover()).check()


def compose(
    config: Selection,
    root: Path,
    run: Path,
    instance: str,
    log: logging.Logger,
    *,
    catalogue: Catalogue | None = None,
    slots: tuple[AnySlot, ...] = SLOTS,
) -> Composition:
    """Find, make and check everything that *config* asks for in *slots*.

    *root* and *run* get one directory for each driver: ``<kind>/<name>``, mode 0700.

    Raises CompositionError that lists all faults; everything that was already made is closed then.
    """
    assembly = _Assembly(config, catalogue or discover(), slots)
    if faults := assembly.check():
        raise CompositionError(faults)
    return assembly.build(_Ground(root, run, instance, log))


@dataclass(frozen=True, slots=True)
class _Ground:
    root: Path
    run: Path
    instance: str
    log: logging.Logger


class _Assembly:
    def __init__(self, selection: Selection, catalogue: Catalogue, slots: tuple[AnySlot, ...] = SLOTS) -> None:
        self._slots = slots
        self._selection = selection
        self._catalogue = catalogue
        self._factories: dict[tuple[str, str], Factory | str] = {}

    # --- checking: names, imports, settings -----------------------------------------------------------------------

    def check(self) -> list[str]:
        faults: list[str] = []
        for slot in self._slots:
            choice = self._selection.of(slot.kind)
            for name in choice.required():
                faults += self._missing(slot, name)
            for name in choice.tables:
                if name not in choice.required() and name not in self._catalogue.names(slot.group):
                    hint = nearest(name, self._catalogue.names(slot.group))
                    table = self._selection.table(slot.kind, name)
                    faults.append(f"{table}: no such {_noun(slot)} is installed; {hint}")
            for name in self._catalogue.names(slot.group):
                if choice.tried(name) and not self._missing(slot, name):
                    faults += self._unreadable(slot, name)
        return faults

    def _missing(self, slot: Slot[Any], name: str) -> list[str]:
        choice = self._selection.of(slot.kind)
        if name not in choice.required():
            return []
        setting = self._selection.setting(slot.kind, name)
        if name not in self._catalogue.names(slot.group):
            which = "such" if name == choice.default else f'{_noun(slot)} "{name}"'
            noun = f" {_noun(slot)}" if name == choice.default else ""
            return [f"{setting}: no {which}{noun} is installed; {nearest(name, self._catalogue.names(slot.group))}"]
        if name in choice.disabled:
            return [f"{setting}: [{slot.kind}] disabled names this driver"]
        try:
            self._catalogue.one(slot.group, name)
        except InvalidArgument as error:
            return [f"{setting}: {error}"]
        return []

    def _unreadable(self, slot: Slot[Any], name: str) -> list[str]:
        """Faults of a driver's table, and of importing a driver that is required."""
        factory = self._factory(slot, name)
        if isinstance(factory, str):
            required = name in self._selection.of(slot.kind).required()
            return [f"{self._selection.setting(slot.kind, name)}: {factory}"] if required else []
        given = self._selection.of(slot.kind).tables.get(name, {})
        try:
            read_settings(settings_of(factory), given, self._selection.table(slot.kind, name))
        except InvalidArgument as error:
            return [str(error)]
        return []

    def _factory(self, slot: Slot[Any], name: str) -> Factory | str:
        """The entry point, or why it could not be imported."""
        key = slot.group, name
        if key not in self._factories:
            try:
                self._factories[key] = self._catalogue.load(slot.group, name)
            except PydError as error:
                self._factories[key] = str(error)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a foreign module does while it is imported
                self._factories[key] = f"import {self._where(slot, name)}: {type(error).__name__}: {error}"
        return self._factories[key]

    def _where(self, slot: Slot[Any], name: str) -> str:
        return next((each.value for each in self._catalogue.of(slot.group) if each.name == name), name)

    # --- building --------------------------------------------------------------------------------------------------

    def build(self, ground: _Ground) -> Composition:
        log = ground.log
        composition = Composition(log)
        report: list[DriverReport] = []
        faults: list[str] = []
        with ExitStack() as undo:
            undo.callback(composition.close)
            for slot in self._slots:
                for name in self._catalogue.names(slot.group):
                    began = time.monotonic()
                    entry = self._one(slot, name, composition, ground)
                    report.append(entry)
                    log.debug("%s %s: %s in %.0f ms", slot.kind, name, entry.state, (time.monotonic() - began) * 1000)
                if slot is not PLUGINS:
                    faults += self._refused(slot, report)
            composition.report = tuple(report)
            if faults:
                raise CompositionError(faults)
            undo.pop_all()
        _tell(composition.report, log)
        return composition

    def _refused(self, slot: Slot[Any], report: list[DriverReport]) -> list[str]:
        faults = []
        mine = [entry for entry in report if entry.kind == slot.kind]
        for entry in mine:
            if entry.name in self._selection.of(slot.kind).required() and entry.state != "ready":
                what = "declined" if entry.state == "declined" else "could not be made"
                others = ", ".join(each.name for each in mine if each.state == "ready") or "none"
                faults.append(
                    f'{self._selection.setting(slot.kind, entry.name)}: {_noun(slot)} "{entry.name}" {what}: '
                    f"{entry.reason}; ready: {others}"
                )
        return faults

    def _one(self, slot: Slot[Any], name: str, composition: Composition, ground: _Ground) -> DriverReport:
        choice = self._selection.of(slot.kind)
        found = next(each for each in self._catalogue.of(slot.group) if each.name == name)
        if not choice.tried(name):
            reason = "disabled" if name in choice.disabled else f"not among [{slot.kind}] drivers"
            return _report(slot, found, "not-selected", reason)
        factory = self._factory(slot, name)
        if isinstance(factory, str):
            return _report(slot, found, "failed", factory)
        own = [_directory(ground.root, slot.kind, name), _directory(ground.run, slot.kind, name)]
        table = choice.tables.get(name, {})
        read = read_settings(settings_of(factory), table, self._selection.table(slot.kind, name))
        log = ground.log.getChild(f"{slot.kind}.{name}")
        context = DriverContext(name, own[0], own[1], read, log, ground.instance)
        try:
            made = factory(context)
            if slot is PLUGINS:
                self._plug(made, name, composition)
                return _report(slot, found, "ready")
            relay = Relay(slot, name, made)
        except Declined as error:
            for path in own:  # nothing was made there
                with contextlib.suppress(OSError):
                    path.rmdir()
            return _report(slot, found, "declined", str(error))
        except PydError as error:
            return _report(slot, found, "failed", str(error))
        except (Exception, SystemExit) as error:
            log.debug("making the driver failed", exc_info=True)
            return _report(slot, found, "failed", f"{type(error).__name__}: {error}")
        composition.of(slot)[name] = relay
        composition.on_close(relay.who, relay.close)
        return _report(slot, found, "ready", capabilities=relay.capabilities, default=name == choice.default)

    def _plug(self, plugin: object, name: str, composition: Composition) -> None:
        """Let a plugin listen, and put its wrappers around every driver they are for. Whole or not at all."""
        marked = implementations(plugin)
        hooks: HookNames = {}
        for slot in _DRIVERS:
            for contract in (slot.contract, *slot.powers.values()):
                hooks.update(hooks_of(contract))
        unknown = [hook for hook in marked if hook not in hooks and hook not in EVENT_HOOKS]
        faults = [f"{hook}: no contract has such a hook; {nearest(hook, {*hooks, *EVENT_HOOKS})}" for hook in unknown]
        faults += listener_faults(plugin)
        faults += wrapper_faults({hook: function for hook, function in marked.items() if hook in hooks}, hooks)
        if not marked:
            faults.append("it implements no hook (is @hookimpl missing?)")
        if faults:
            raise ContractError(f"plugin {name!r}", faults)
        for relay in composition.every():
            relay.wrap(plugin, name)
        if not composition.plugins:  # closed first: plugins may use drivers until then
            composition.on_close("plugins", composition.listeners.close)
        composition.listeners.add(plugin, name)
        composition.plugins[name] = plugin


def _noun(slot: Slot[Any]) -> str:
    return "plugin" if slot is PLUGINS else f"{slot.kind} driver"


def _report(
    slot: Slot[Any],
    found: Installed,
    state: DriverState,
    reason: str = "",
    *,
    capabilities: frozenset[str] = frozenset(),
    default: bool = False,
) -> DriverReport:
    return DriverReport(
        slot.kind, found.name, found.distribution, found.version, state, reason, tuple(sorted(capabilities)), default
    )


def _directory(top: Path, kind: str, name: str) -> Path:
    path = top / kind / name
    try:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise from_oserror(error, f"make the directory {path}") from error
    return path


def _tell(report: tuple[DriverReport, ...], log: logging.Logger) -> None:
    for entry in report:
        who = f"{entry.kind} {entry.name} ({entry.distribution} {entry.version})"
        if entry.state == "failed":
            log.error("%s failed: %s", who, entry.reason)
        elif entry.state == "declined":
            log.info("%s declined: %s", who, entry.reason)
