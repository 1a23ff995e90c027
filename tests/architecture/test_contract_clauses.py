"""Each hook says what it promises, each promise has a number, each number has a test in the conformance kit."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

import pytest

from pyd_conformance.clauses import CONTRACTS as REPORTED
from pyd_contracts import CONTRACTS, frontend, ipam, isolation, log, network, storage, volume
from pyd_contracts.markers import PROJECT
from source_tree import ROOT, parsed, where

CLAUSE = re.compile(r"^\s*([A-Z]{3}-\d+)\s{2,}\S", re.MULTILINE)
KIT = ROOT / "tests" / "conformance" / "src"
PREFIXES = {
    "StorageDriver": "STO",
    "LayerTargets": "STO",
    "Rebasing": "STO",
    "DiffSource": "STO",
    "Releasing": "STO",
    "Reclaiming": "STO",
    "NetworkDriver": "NET",
    "NetworkRules": "NET",
    "IpamDriver": "IPA",
    "IsolationBackend": "ISO",
    "Runtimes": "ISO",
    "VolumeDriver": "VOL",
    "LogDriver": "LOG",
    "LogFiles": "LOG",
    "BuildFrontend": "FRO",
    "EngineEvents": "EVT",
}


def hooks(contract: type[object]) -> Iterator[tuple[str, object]]:
    """Name and function of each hook of *contract*."""
    for name, function in inspect.getmembers(contract, inspect.isfunction):
        if hasattr(function, f"{PROJECT}_spec"):
            yield name, function


ALL_HOOKS = [pytest.param(c, f, id=f"{c.__name__}.{name}") for c in CONTRACTS for name, f in hooks(c)]


def numbered(contract: type[object]) -> list[str]:
    """Every clause number of *contract*, in the order of its text, repetitions included."""
    docs = [inspect.getdoc(contract) or "", *(inspect.getdoc(hook) or "" for _, hook in hooks(contract))]
    return [number for doc in docs for number in CLAUSE.findall(doc)]


def proved() -> dict[str, list[str]]:
    """Clause number to the tests of the kit that are marked with it, as ``@clause("STO-1", ...)`` decorators say."""
    found: dict[str, list[str]] = {}
    for path in sorted(KIT.glob("**/*.py")):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            for decorator in node.decorator_list:
                match decorator:
                    case ast.Call(func=ast.Name(id="clause"), args=[ast.Constant(value=str(number)), *_]):
                        found.setdefault(number, []).append(f"{where(path, node)} {node.name}")
    return found


@pytest.mark.parametrize(("contract", "hook"), ALL_HOOKS)
def test_each_hook_is_documented_with_numbered_clauses(contract: type[object], hook: object) -> None:
    doc = inspect.getdoc(hook) or ""
    first = doc.splitlines()[0] if doc else ""
    assert first.endswith("."), f"the first line says in one sentence when it is called or what it does: {first!r}"
    numbers = CLAUSE.findall(doc)
    assert numbers, "a hook that promises nothing numbered cannot be tested"
    assert {number.split("-")[0] for number in numbers} == {PREFIXES[contract.__name__]}


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_clause_numbers_are_unique_and_rise(contract: type[object]) -> None:
    own = [number for _, hook in hooks(contract) for number in CLAUSE.findall(inspect.getdoc(hook) or "")]
    assert len(set(numbered(contract))) == len(numbered(contract))
    source = inspect.getsource(contract)
    in_text = [number for number in CLAUSE.findall(source) if number in own]
    assert in_text == sorted(in_text, key=lambda number: int(number.split("-")[1]))


# Events have no driver and so no suite of the kit: their clauses are about the engine, whose tests prove them.
@pytest.mark.parametrize(
    "number", [number for c in CONTRACTS if c.__name__ != "EngineEvents" for number in numbered(c)]
)
def test_each_clause_has_a_test_in_the_kit(number: str) -> None:
    assert proved().get(number), f'no test in tests/conformance is marked @clause("{number}", ...)'


def test_the_kit_proves_no_clause_that_is_not_written() -> None:
    written = {number for contract in CONTRACTS for number in numbered(contract)}
    assert {number: tests for number, tests in proved().items() if number not in written} == {}


def test_the_kit_reports_by_the_names_that_entry_points_have() -> None:
    groups = [module.GROUP for module in (storage, network, isolation, log, volume, ipam, frontend)]
    assert [f"pyd.{name}.v1" for name in REPORTED.values()] == groups
    assert set(REPORTED) == {*PREFIXES.values()} - {"EVT"}
