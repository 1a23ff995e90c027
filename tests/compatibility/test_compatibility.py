"""The table of what works is true: routes, fields and the tests that show them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import table
from proofs import BUILD, BUILD_REASONS, FIELDS, SHOWN

SERVED = [operation for section, operation in table.operations() if table.served(operation)]
PROVEN = [o for section, o in table.operations() if section in table.MUST_BE_PROVEN and table.served(o)]
HONOURED = [name for record, name, _ in table.fields() if table.state(record, name) == "honoured"]


def test_the_document_is_up_to_date() -> None:
    assert table.DOCUMENT.read_text() == table.render(), "write it again: python tests/compatibility/table.py"


@pytest.mark.parametrize("operation", PROVEN)
def test_each_operation_is_shown_by_a_test(operation: str) -> None:
    assert SHOWN.get(operation), f"{operation}: served, and no test is named in proofs.py"
    assert not [proof for proof in SHOWN[operation] if not table.proof_exists(proof)]


@pytest.mark.parametrize("name", HONOURED)
def test_each_honoured_field_is_shown_by_a_test(name: str) -> None:
    proof = FIELDS.get(name)
    assert proof, f"{name}: honoured, and no test is named in proofs.py"
    assert table.proof_exists(proof) if "::" in proof else table.proven_line(proof), f"nothing matches {proof!r}"


def test_proofs_speak_of_what_there_is() -> None:
    known = {operation for _, operation in table.operations()}
    assert not set(SHOWN) - known
    assert not set(FIELDS) - {name for _, name, _ in table.fields()}
    assert not [proof for operation in SHOWN for proof in SHOWN[operation] if not table.proof_exists(proof)]
    assert len(SERVED) > 50


def test_each_part_of_a_build_is_shown_by_a_test() -> None:
    assert set(table.BUILD_FIELDS) <= set(BUILD)
    assert set(BUILD) <= {*table.BUILD_FIELDS, *BUILD_REASONS}
    assert not [proof for proof in BUILD.values() if not table.proof_exists(proof)]
