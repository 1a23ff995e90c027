"""The kit's static half: what can be said of an installed driver distribution without running a hook.

Each rule is a function; its docstring is the rule, its findings are sentences. ``python -m pyd_conformance check DIST``
prints them.
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pyd_contracts import log, network, storage
from pyd_contracts.frontend import BuildFrontend
from pyd_contracts.ipam import IpamDriver
from pyd_contracts.isolation import IsolationBackend, Runtimes
from pyd_contracts.markers import PROJECT, settings_of

__all__ = ["RULES", "Finding", "check"]

_CONTRACTS: dict[str, tuple[type[object], ...]] = {
    "pyd.storage.v1": (storage.StorageDriver, *filter(None, storage.CAPABILITIES.values())),
    "pyd.network.v1": (network.NetworkDriver, network.NetworkRules),
    "pyd.ipam.v1": (IpamDriver,),
    "pyd.isolation.v1": (IsolationBackend, Runtimes),
    "pyd.log.v1": (log.LogDriver, log.LogFiles),
    "pyd.frontend.v1": (BuildFrontend,),
}
_OPTIONAL: frozenset[type[object]] = frozenset(
    {
        *filter(None, storage.CAPABILITIES.values()),
        network.NetworkRules,
        log.LogFiles,
        Runtimes,
    }
)
_ENGINE = frozenset({"pyd_engine", "pyd_daemon", "pyd_cli"})


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that is not kept, and where."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class _Subject:
    """One entry point of the distribution and the package it leads to."""

    point: importlib.metadata.EntryPoint
    create: object
    package: ModuleType

    @property
    def folder(self) -> Path:
        return Path(str(self.package.__file__)).parent

    def modules(self) -> Iterator[tuple[Path, ast.Module]]:
        for path in sorted(self.folder.rglob("*.py")):
            yield path, ast.parse(path.read_bytes(), filename=str(path))


def create_is_callable(subject: _Subject) -> Iterator[str]:
    """An entry point is a callable that takes one argument, the context."""
    if not callable(subject.create):
        yield f"{subject.point.value} is a {type(subject.create).__name__}"
    elif len(parameters := _parameters(subject.create)) != 1:
        yield f"{subject.point.value} takes {parameters}"


def hooks_are_complete(subject: _Subject) -> Iterator[str]:
    """The class that the entry point says it returns has every hook, marked, with the contract's parameters."""
    answer = typing.get_type_hints(subject.create).get("return")
    if not inspect.isclass(answer):
        yield f"{subject.point.value} does not say what class it returns"
        return
    for contract in _CONTRACTS[subject.point.group]:
        for name, spec in inspect.getmembers(contract, inspect.isfunction):
            if not hasattr(spec, f"{PROJECT}_spec"):
                continue
            hook = inspect.getattr_static(answer, name, None)
            if hook is None and contract in _OPTIONAL:
                continue
            if not hasattr(hook, f"{PROJECT}_impl"):
                yield f"{answer.__name__}.{name} is missing or not marked @hookimpl"
            elif (has := _parameters(hook)) != (wants := _parameters(spec)):
                yield f"{answer.__name__}.{name} takes {has}, the contract says {wants}"


def settings_are_explained(subject: _Subject) -> Iterator[str]:
    """Every setting has a help text and a default of its own type."""
    for setting in settings_of(subject.create):
        if not setting.help.strip():
            yield f"{setting.name} has no help"
        if not isinstance(setting.default, setting.type):
            yield f"{setting.name} is a {setting.type.__name__} and its default {setting.default!r} is not"


def the_engine_is_not_imported(subject: _Subject) -> Iterator[str]:
    """A driver imports the contracts and nothing else of the engine."""
    for path, tree in subject.modules():
        for node in ast.walk(tree):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                if name.partition(".")[0] in _ENGINE:
                    yield f"{path.name}:{getattr(node, 'lineno', 0)} imports {name}"


def modules_are_named_alike(subject: _Subject) -> Iterator[str]:
    """Every driver has driver.py (the library) and plugin.py (the entry point)."""
    for name in ("driver.py", "plugin.py"):
        if not (subject.folder / name).exists():
            yield f"{subject.folder.name} has no {name}"


def modules_say_what_they_are(subject: _Subject) -> Iterator[str]:
    """Every module has a docstring."""
    for path, tree in subject.modules():
        if ast.get_docstring(tree) is None:
            yield f"{path.name} has none"


def types_are_shipped(subject: _Subject) -> Iterator[str]:
    """The package carries py.typed."""
    if not (subject.folder / "py.typed").exists():
        yield f"{subject.folder.name} has none"


RULES: tuple[Callable[[_Subject], Iterator[str]], ...] = (
    create_is_callable,
    hooks_are_complete,
    settings_are_explained,
    the_engine_is_not_imported,
    modules_are_named_alike,
    modules_say_what_they_are,
    types_are_shipped,
)


def check(distribution: str) -> list[Finding]:
    """Hold every driver of an installed distribution against the rules. Empty: all kept.

    Raises importlib.metadata.PackageNotFoundError when it is not installed.
    """
    points = [p for p in importlib.metadata.distribution(distribution).entry_points if p.group in _CONTRACTS]
    if not points:
        known = ", ".join(_CONTRACTS)
        return [Finding("A driver has an entry point in the group of its contract.", f"none of: {known}")]
    findings = []
    for point in points:
        package = importlib.import_module(re.split(r"[.:]", point.value)[0])
        subject = _Subject(point, point.load(), package)
        findings += [Finding(inspect.getdoc(rule) or "", text) for rule in RULES for text in rule(subject)]
    return findings


def _parameters(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)
