"""The workspace as its own rules see it: members, sources, contracts."""

from __future__ import annotations

import ast
import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = ("core/*", "drivers/*/*", "plugins/*", "tests/conformance", "plugin-template")


@dataclass(frozen=True, slots=True)
class Member:
    """One distribution of the workspace."""

    folder: Path
    document: dict[str, Any]

    @property
    def name(self) -> str:
        """The distribution's name."""
        return str(self.document["project"]["name"])

    @property
    def requirements(self) -> set[str]:
        """Names of the distributions it declares, without versions."""
        words = self.document["project"].get("dependencies", [])
        return {word.split(";")[0].rstrip("0123456789.,<>=~! ").split("[")[0] for word in words}

    @property
    def package(self) -> Path | None:
        """The folder of its import package; None for a metapackage."""
        found = sorted(self.folder.glob("src/*/__init__.py"))
        return found[0].parent if found else None


@functools.cache
def members() -> tuple[Member, ...]:
    """Every member of the workspace, by folder."""
    folders = [folder for pattern in PATTERNS for folder in sorted(ROOT.glob(pattern))]
    return tuple(
        Member(folder, tomllib.loads((folder / "pyproject.toml").read_text()))
        for folder in folders
        if (folder / "pyproject.toml").is_file()
    )


@functools.cache
def sources() -> tuple[Path, ...]:
    """Every Python file that is installed somewhere."""
    return tuple(path for member in members() for path in sorted(member.folder.glob("src/**/*.py")))


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of *path*."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def where(path: Path, node: ast.AST) -> str:
    """``file:line`` for a message."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"
