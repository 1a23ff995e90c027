"""Clauses: the numbered promises of a contract, and the tests that prove them.

The numbers live in the docstrings of the hook specifications (``STO-25  key is gone and ...``). A test names the
clause it proves; an architecture test holds both lists against each other with `documented` and `proved`. No pytest in
here: documentation tools read clauses too.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["CONTRACTS", "Clause", "clause", "clauses_of", "contract_of", "documented", "needs", "needs_of", "proved"]

F = TypeVar("F", bound=Callable[..., Any])
_CLAUSES = "pyd_clauses"
_NEEDS = "pyd_needs"
CONTRACTS = {
    "STO": "storage",
    "NET": "network",
    "ISO": "isolation",
    "LOG": "log",
    "VOL": "volume",
    "IPA": "ipam",
    "FRO": "frontend",
}
"""What the numbers of a contract's clauses begin with, and its name, in the order of reports."""
_LINE = re.compile(r"^\s*([A-Z]{3}-\d+)\s{2,}(\S.*)$")


@dataclass(frozen=True, slots=True)
class Clause:
    """One promise and what a test shows of it."""

    id: str
    text: str


def clause(number: str, text: str) -> Callable[[F], F]:
    """Say which promise a test proves, and in a few words what of it. May be given several times."""

    def mark(test: F) -> F:
        setattr(test, _CLAUSES, (Clause(number, text), *clauses_of(test)))
        return test

    return mark


def contract_of(number: str) -> str:
    """The name of the contract that a clause is of; of a contract that is not pyd's, what its numbers begin with."""
    family = number.partition("-")[0]
    return CONTRACTS.get(family, family.lower())


def clauses_of(test: object) -> tuple[Clause, ...]:
    """The clauses a test proves; empty for a test of something else."""
    return tuple(getattr(test, _CLAUSES, ()))


def needs(*capabilities: str) -> Callable[[F], F]:
    """Skip the test for drivers that do not declare all of *capabilities*: declaring less is honest."""

    def mark(test: F) -> F:
        setattr(test, _NEEDS, (*capabilities, *needs_of(test)))
        return test

    return mark


def needs_of(test: object) -> tuple[str, ...]:
    """The capabilities a test asks for."""
    return tuple(getattr(test, _NEEDS, ()))


def documented(contract: type[object]) -> dict[str, str]:
    """Every clause in the docstrings of a hook-specification class and of its hooks: id to first line."""
    return {found[1]: found[2] for doc in _docs(contract) for line in doc.splitlines() if (found := _LINE.match(line))}


def proved(suite: type[object]) -> dict[str, list[str]]:
    """Every clause that a suite has tests for: id to names of tests."""
    tests: dict[str, list[str]] = {}
    for name, test in inspect.getmembers(suite, inspect.isfunction):
        for each in clauses_of(test):
            tests.setdefault(each.id, []).append(name)
    return tests


def _docs(contract: type[object]) -> Iterator[str]:
    yield inspect.getdoc(contract) or ""
    for _name, hook in inspect.getmembers(contract, inspect.isfunction):
        yield inspect.getdoc(hook) or ""
