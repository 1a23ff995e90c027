"""Runs import-linter on the rules in pyproject.toml, where ``<drivers>`` stands for every driver and plugin there is.

So a driver that is added, or copied from the template, is under the rules without a change outside its own folder.
Arguments are handed on to ``lint-imports``; its exit status is ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DRIVERS = ("drivers/*/*/src/*", "plugins/*/src/*", "plugin-template/src/*")


def packages(*patterns: str) -> list[str]:
    """The names of the packages whose folders match *patterns*."""
    found = (path for pattern in patterns for path in ROOT.glob(pattern))
    return sorted(path.name for path in found if (path / "__init__.py").is_file())


def rules() -> str:
    """The settings of import-linter, with all packages named."""
    text = (ROOT / "pyproject.toml").read_text()
    names = json.dumps(packages(*DRIVERS))[1:-1]
    return text.replace('"<drivers>"', names)


def main(arguments: list[str]) -> int:
    """Run ``lint-imports``."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(rules())
        file.flush()
        command = [
            str(Path(sys.executable).with_name("lint-imports")),
            "--no-logo",
            "--no-cache",
            "--config",
            file.name,
        ]
        return subprocess.run([*command, *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
