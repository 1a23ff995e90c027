"""`docs/compatibility.md`: which operations and create fields of the Docker Engine API work, and which test shows it.

``python tests/compatibility/table.py`` writes it; `test_compatibility.py` holds it to the routes, to the support tables of
the engine and to the tests that it names.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "compatibility.md"
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "system")]

from operations import OPERATIONS  # noqa: E402 - found beside this file
from proofs import BUILD, BUILD_NOTES, BUILD_REASONS, FIELDS, REASONS, SHOWN  # noqa: E402
from pyd_daemon.routes import ROUTES, absent  # noqa: E402
from pyd_daemon.wire.builds import FIELDS as BUILD_FIELDS  # noqa: E402
from pyd_engine.containers.config import ContainerConfig  # noqa: E402
from pyd_engine.containers.host_config import HostConfig  # noqa: E402
from pyd_engine.containers.records import Record  # noqa: E402
from pyd_engine.containers.support import REFUSED, WARNED  # noqa: E402
from side_by_side_lines import DIFFERENT, LINES  # noqa: E402

__all__ = ["DOCUMENT", "MUST_BE_PROVEN", "fields", "operations", "proof_exists", "proven_line", "render", "served"]

MUST_BE_PROVEN = ("Containers", "Exec", "Volumes", "System")
"""Sections whose operations need a test by name when they are served."""


def _shape(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


@functools.cache
def _served() -> frozenset[tuple[str, str]]:
    answers_no = set(absent.ROUTES)
    return frozenset((route.method, _shape(route.path)) for route in ROUTES if route not in answers_no)


def served(operation: str) -> bool:
    """Whether the daemon has a route for ``METHOD /path`` that does more than refuse."""
    method, _, path = operation.partition(" ")
    return (method, _shape(path)) in _served() or (method == "HEAD" and ("GET", _shape(path)) in _served())


def operations() -> Iterator[tuple[str, str]]:
    """Section and operation, in the document's order."""
    for section, lines in OPERATIONS.items():
        for line in lines.split("\n"):
            if line:
                yield section, line


def fields() -> Iterator[tuple[type[Record], str, str]]:
    """Record, its field, and the field's name in JSON."""
    for record in (ContainerConfig, HostConfig):
        for name, encoded in zip(record.__struct_fields__, record.__struct_encode_fields__, strict=True):
            yield record, name, encoded


def state(record: type[Record], name: str) -> str:
    """``honoured``, or what a client is told."""
    if name in REFUSED[record]:
        return f"refused: {REFUSED[record][name]}"
    if name in WARNED[record]:
        return f"warned: {WARNED[record][name]}"
    return "honoured"


@functools.cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@functools.cache
def _lines() -> tuple[str, ...]:
    return tuple(line for text in LINES.values() for line in text.split("\n") if line and line not in DIFFERENT)


def proven_line(words: str) -> str | None:
    """The first command line beside dockerd that has *words* (a regular expression) and is answered the same."""
    return next((line for line in _lines() if re.search(words, line)), None)


def proof_exists(proof: str) -> bool:
    """``folder/file.py::test`` names a test; ``docker WORDS`` a line of the comparison with dockerd that starts so."""
    if proof.startswith("docker "):
        return proven_line("^" + re.escape(proof.removeprefix("docker ")) + r"\b") is not None
    file, _, name = proof.partition("::")
    path = ROOT / file
    return path.is_file() and name in _functions(path)


def field_proof(name: str) -> str:
    """What shows that a create field is honoured: a test, or a line beside dockerd."""
    proof = FIELDS.get(name, "")
    if "::" in proof:
        return f"`{proof}`"
    line = proven_line(proof) if proof else None
    return f"beside dockerd: `docker {line}`" if line else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def render() -> str:
    """The whole document."""
    out = [
        "# Compatibility with the Docker Engine API",
        "",
        "Written by `tests/compatibility/table.py` from the daemon's routes, the engine's tables of support and the tests;",
        "a test fails when it is out of date, or names a test that does not exist. `docker ...` names a command line that",
        "`tests/system/test_side_by_side.py` gives to dockerd and to pydd, with the same answer.",
        "",
        "## Operations",
    ]
    section = ""
    for each, operation in operations():
        if each != section:
            section = each
            out += ["", f"### {section}", "", "| operation | | shown by |", "|---|---|---|"]
        proofs = ", ".join(f"`{proof}`" for proof in SHOWN.get(operation, ()))
        works = "yes" if served(operation) else f"no: {REASONS.get(operation) or REASONS.get(section, 'not yet')}"
        out.append(f"| `{operation}` | {works} | {_cell(proofs)} |")
    out += ["", "## Query of `POST /build`", "", "| field | | shown by |", "|---|---|---|"]
    for field in (*BUILD_FIELDS, *BUILD_REASONS):
        proof = BUILD.get(field)
        out.append(f"| `{field}` | {BUILD_REASONS.get(field, 'honoured')} | {f'`{proof}`' if proof else ''} |")
    out += ["", *BUILD_NOTES]
    out += ["", "## Fields of `POST /containers/create`", ""]
    last: type[Record] | None = None
    for record, name, encoded in fields():
        if record is not last:
            last = record
            title = "Config" if record is ContainerConfig else "HostConfig"
            out += ["", f"### {title}", "", "| field | | shown by |", "|---|---|---|"]
        out.append(f"| `{encoded}` | {_cell(state(record, name))} | {_cell(field_proof(name))} |")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(render())
