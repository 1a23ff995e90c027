"""What every distribution of the workspace brings along, and what it says in public."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
from types import ModuleType

import pytest

import pyd_contracts
from source_tree import ROOT, Member, members, parsed, sources, where

sys.path.insert(0, str(ROOT / "scripts"))

PACKAGES = [member for member in members() if member.package]
CONTRACT_MODULES = [info.name for info in pkgutil.iter_modules(pyd_contracts.__path__)]


@pytest.mark.parametrize("member", members(), ids=lambda member: member.name)
def test_each_member_has_a_readme_and_a_description(member: Member) -> None:
    readme = (member.folder / "README.md").read_text()
    assert readme.startswith(f"# {member.name}\n")
    assert readme.partition("\n")[2].strip()
    project = member.document["project"]
    assert project["license"] == "Apache-2.0"
    assert project["requires-python"] == ">=3.11"
    assert project["description"]


@pytest.mark.parametrize("member", PACKAGES, ids=lambda member: member.name)
def test_each_package_is_typed(member: Member) -> None:
    assert member.package is not None
    assert (member.package / "py.typed").is_file()
    assert member.package.name == member.name.replace("-", "_")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_each_module_says_what_it_is(path: object) -> None:
    from pathlib import Path

    assert isinstance(path, Path)
    tree = parsed(path)
    assert ast.get_docstring(tree) or not tree.body, f"{where(path, tree)}: no module docstring"


@pytest.mark.parametrize("name", CONTRACT_MODULES)
def test_public_names_of_the_contracts_are_listed(name: str) -> None:
    module = importlib.import_module(f"pyd_contracts.{name}")
    assert module.__all__ == sorted(module.__all__, key=_constants_first)
    assert set(module.__all__) == _defined_in(module)


def test_the_contracts_package_lists_what_it_offers() -> None:
    listed = pyd_contracts.__all__
    assert listed == sorted(listed, key=_constants_first)
    assert all(hasattr(pyd_contracts, name) for name in listed)


def _constants_first(name: str) -> tuple[int, str]:
    """The order ruff keeps (RUF022): CONSTANTS, then Classes, then the rest."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def _defined_in(module: ModuleType) -> set[str]:
    """Public names a module makes itself or a package its modules: definitions and assignments, not other imports."""
    tree = ast.parse(inspect.getsource(module))
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.ImportFrom(module=str(of), names=parts) if of.startswith(f"{module.__name__}."):
                names.update(part.name for part in parts)  # a package offers what its parts define
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    # one-letter names are type variables
    return {name for name in names if not name.startswith("_") and len(name) > 1}
