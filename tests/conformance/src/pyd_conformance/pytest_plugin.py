"""The kit's pytest plugin: privileges, capabilities, and one report for each contract, by driver and clause.

It knows nothing of any contract but its name: it reads what `clause` and `needs` left on a test and what its class declares
(``capabilities``, optionally ``subject``, and ``uncertain``: capabilities that a fixture adds where this host has them, each
with what to say where it has not). pytest loads it through its entry point wherever the kit is installed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from pyd_conformance.clauses import CONTRACTS, clauses_of, contract_of, needs_of

__all__ = ["REQUIREMENTS", "absent"]

# Suites are imported by their users' test files; their asserts are to be as talkative as any others.
pytest.register_assert_rewrite(
    "pyd_conformance.storage",
    "pyd_conformance.storage_content",
    "pyd_conformance.storage_crash",
    "pyd_conformance.storage_layers",
    "pyd_conformance.storage_powers",
    "pyd_conformance.storage_room",
    "pyd_conformance.storage_stage",
    "pyd_conformance.network",
    "pyd_conformance.network_faults",
    "pyd_conformance.network_ground",
    "pyd_conformance.network_shapes",
    "pyd_conformance.network_stage",
    "pyd_conformance.network_upkeep",
    "pyd_conformance.ipam",
    "pyd_conformance.frontend",
    "pyd_conformance.isolation",
    "pyd_conformance.isolation_resources",
    "pyd_conformance.isolation_stage",
    "pyd_conformance.isolation_streams",
    "pyd_conformance.volume",
    "pyd_conformance.log",
    "pyd_conformance.log_servers",
)


def _root() -> str | None:
    return None if os.geteuid() == 0 else f"needs root, runs as uid {os.geteuid()}"


REQUIREMENTS: dict[str, Callable[[], str | None]] = {"root": _root}
"""Marker name to a function that says why the requirement is not met here, or None."""


def absent(config: pytest.Config, requirement: str, why: str) -> NoReturn:
    """Skip the running test, saying *why*; or fail it, when ``--pyd-require`` names *requirement*."""
    required = str(config.getoption("pyd_require")).split(",")
    if requirement in required:
        pytest.fail(f"--pyd-require={requirement}: {why}", pytrace=False)
    pytest.skip(why)


@dataclass(frozen=True, slots=True)
class _Line:
    """What one test said of one clause."""

    subject: str
    clause: str
    text: str
    test: str
    result: str
    detail: str


_LINES = pytest.StashKey[list[_Line]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the kit's two options."""
    group = parser.getgroup("pyd", "conformance of pyd's drivers")
    group.addoption(
        "--pyd-require",
        default="",
        metavar="WHAT,...",
        help=f"fail instead of skip when one of these is absent ({', '.join(sorted(REQUIREMENTS))}, ...)",
    )
    group.addoption(
        "--pyd-report", default=None, metavar="FILE", help="write results by contract, driver and clause as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers the kit's suites use, for projects that run with --strict-markers."""
    config.stash[_LINES] = []
    config.addinivalue_line("markers", "root: needs root and a real kernel")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail what cannot run here or was not declared."""
    for name, reason in REQUIREMENTS.items():
        if item.get_closest_marker(name) is not None and (why := reason()) is not None:
            absent(item.config, name, why)
    _skip_undeclared(item, frozenset(_uncertain(item)))


@pytest.hookimpl(trylast=True, specname="pytest_runtest_setup")
def pytest_runtest_setup_afterwards(item: pytest.Item) -> None:
    """Skip what no fixture found here."""
    _skip_undeclared(item, frozenset())


def _skip_undeclared(item: pytest.Item, but: frozenset[str]) -> None:
    if isinstance(item, pytest.Function):
        declared: Iterable[str] = getattr(item.cls, "capabilities", ())
        if missing := sorted(set(needs_of(item.function)) - set(declared) - but):
            reasons = _uncertain(item)
            words = [f"{each} ({reasons[each]})" if each in reasons else each for each in missing]
            pytest.skip(f"the driver does not declare {', '.join(words)}")


def _uncertain(item: pytest.Item) -> Mapping[str, str]:
    return getattr(item.cls, "uncertain", {}) if isinstance(item, pytest.Function) else {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note results of tests that prove clauses."""
    report = yield
    found = clauses_of(item.function) if isinstance(item, pytest.Function) else ()
    # A passed setup or teardown says nothing; a failed or skipped one is the result.
    if found and (call.when == "call" or report.outcome != "passed"):
        subject = _subject(item)
        detail = _detail(report)
        item.config.stash[_LINES].extend(
            _Line(subject, each.id, each.text, item.nodeid, report.outcome, detail) for each in found
        )
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print driver by clause, a table for each contract, and write the report file."""
    lines = config.stash[_LINES]
    if not lines:
        return
    contracts = _by_contract(lines)
    for contract, found in contracts.items():
        terminalreporter.section(f"conformance: {contract}")
        _write_table(terminalreporter, found)
    target = config.getoption("pyd_report")
    if target is not None:
        Path(target).write_text(_json(contracts), encoding="utf-8")
        terminalreporter.write_line(f"written: {target}")


def _by_contract(lines: list[_Line]) -> dict[str, list[_Line]]:
    """Lines by name of their contract: ours first, in the kit's order."""
    order = [*CONTRACTS.values(), *sorted({contract_of(line.clause) for line in lines} - {*CONTRACTS.values()})]
    found = {contract: [line for line in lines if contract_of(line.clause) == contract] for contract in order}
    return {contract: some for contract, some in found.items() if some}


def _write_table(terminalreporter: pytest.TerminalReporter, lines: list[_Line]) -> None:
    """One contract: a column for each driver, a row for each clause that a test was about."""
    subjects = sorted({line.subject for line in lines})
    clauses = sorted({line.clause for line in lines}, key=_order)
    widths = [max(len(subject), len("FAILED 99/99")) for subject in subjects]
    head = "  ".join(subject.ljust(width) for subject, width in zip(subjects, widths, strict=True))
    terminalreporter.write_line(f"{'clause':8}  {head}".rstrip())
    for each in clauses:
        cells = [_cell([x.result for x in lines if (x.subject, x.clause) == (subject, each)]) for subject in subjects]
        row = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        bad = any(cell.startswith("FAILED") for cell in cells)
        terminalreporter.write_line(f"{each:8}  {row}".rstrip(), red=bad)


def _subject(item: pytest.Item) -> str:
    cls = item.cls if isinstance(item, pytest.Function) else None
    if cls is None:
        return item.name
    return str(getattr(cls, "subject", "") or cls.__name__.removeprefix("Test"))


def _detail(report: pytest.TestReport) -> str:
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    if report.outcome == "failed":
        return report.longreprtext.strip().rpartition("\n")[2]
    return ""


def _order(number: str) -> tuple[str, int]:
    family, _, digits = number.partition("-")
    return family, int(digits)


def _cell(results: list[str]) -> str:
    if not results:
        return "no test"
    if failed := results.count("failed"):
        return f"FAILED {failed}/{len(results)}"
    if passed := results.count("passed"):
        skipped = len(results) - passed
        return f"ok {passed}" + (f", skip {skipped}" if skipped else "")
    return f"skip {len(results)}"


def _json(contracts: dict[str, list[_Line]]) -> str:
    report = {
        contract: {
            subject: {
                "conforms": not any(line.result == "failed" for line in lines if line.subject == subject),
                "results": [asdict(line) for line in lines if line.subject == subject],
            }
            for subject in {line.subject for line in lines}
        }
        for contract, lines in contracts.items()
    }
    return json.dumps(report, indent=2, sort_keys=True) + "\n"
