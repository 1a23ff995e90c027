"""Constructions that have no place in an engine that runs as root, found in the syntax tree and not by reading."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from source_tree import ROOT, members, parsed, sources, where
from words import files, finds

UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "telnetlib", "pty"}
UNSAFE_CALLS = {"eval", "exec", "compile"}
PROCESS_CALLS = {"run", "Popen", "call", "check_call", "check_output", "create_subprocess_exec"}
UNSAFE_METHODS = {
    ("yaml", "load"),
    ("os", "system"),
    ("os", "popen"),
    ("os", "fork"),  # see FORKERS
    ("tempfile", "mktemp"),
    ("tarfile", "open"),  # hostile archives: the strict reader of the engine, never this one
    ("zipfile", "ZipFile"),
}
# A process that forks must be single-threaded and small: only the zygote's family and the worker that unpacks layers are.
# (And tests, which are not here.)
FORKERS = ("core/shim/src/", "drivers/isolation/", "core/engine/src/pyd_engine/layers/worker.py")
# Archives of our own making may be written with the standard library.
WRITERS = ("core/cli/src/", "tests/conformance/src/")


def offences(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Each forbidden construction of a module, and what it is."""
    managed = {id(item.context_expr) for node in ast.walk(tree) if isinstance(node, ast.With) for item in node.items}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node, f"import {each.name}") for each in names if each.name in UNSAFE_MODULES)
            case ast.ImportFrom(module=str(module)) if module in UNSAFE_MODULES:
                yield node, f"from {module} import"
            case ast.Call(func=ast.Name(id=name)) if name in UNSAFE_CALLS:
                yield node, f"{name}()"
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)) if (module, name) in UNSAFE_METHODS:
                yield node, f"{module}.{name}()"
            # a write error that shows at close is lost when the garbage collector closes: a limit silently not set
            case ast.Call(
                func=ast.Attribute(value=ast.Call(func=ast.Name(id="open")) as opened, attr="write" | "writelines")
            ) if id(opened) not in managed:
                yield node, "open(...).write() without with"
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in PROCESS_CALLS:
            for keyword in node.keywords:
                if keyword.arg == "shell" and getattr(keyword.value, "value", True) is not False:
                    yield keyword.value, "shell="
                if keyword.arg == "preexec_fn":
                    yield keyword.value, "preexec_fn= (forks slowly, and runs Python between fork and exec)"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_forbidden_construction(path: object) -> None:
    from pathlib import Path

    assert isinstance(path, Path)
    name = str(path.relative_to(ROOT))
    found = []
    for node, what in offences(parsed(path)):
        if what == "os.fork()" and name.startswith(FORKERS):
            continue
        if what == "tarfile.open()" and name.startswith(WRITERS):
            continue
        found.append(f"{where(path, node)}: {what}")
    assert not found


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import pickle", "import pickle"),
        ("from marshal import loads", "from marshal import"),
        ("eval('1')", "eval()"),
        ("subprocess.run('ls', shell=True)", "shell="),
        ("open('f', 'w').write('x')", "open(...).write() without with"),
        ("yaml.load(text)", "yaml.load()"),
    ],
)
def test_the_rule_finds_what_it_is_for(code: str, what: str) -> None:
    assert [found for _, found in offences(ast.parse(code))] == [what]


def test_the_rule_leaves_the_right_way_alone() -> None:
    right = "with open('f', 'w') as file:\n    file.write('x')\nsubprocess.run(['ls'], shell=False)\nre.compile('x')"
    assert list(offences(ast.parse(right))) == []


def test_no_word_that_does_not_belong_here() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}: {word}" for path in files() for line, word in finds(path)]
    assert not found


def test_modules_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if (lines := path.read_text().count("\n")) > 450 and not path.name.endswith("_table.py")
    }
    assert not long, "a module of that length hides a second noun"


def test_nothing_is_left_unfinished() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "X" * 3)
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if any(mark in line.split() or f"{mark}:" in line for mark in marks) or "NotImplementedError" in line
    ]
    assert not found


def test_all_members_are_looked_at() -> None:
    assert len(members()) >= 15
