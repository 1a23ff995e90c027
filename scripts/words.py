"""Words that must not stand in this repository: addresses of package indexes, and places of one person's machine.

Where packages come from is the business of whoever installs; a path of one machine is a bug on every other.
Prints ``file:line: word`` for each find; exit status 1 when there is one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {"__pycache__", "dist", "build"}  # and every hidden folder but .ci

# Written in pieces, or this file would find itself.
_HOSTS = [
    ("pypi", "org"),
    ("files", "pythonhosted"),
    ("deb", "debian", "org"),
    ("security", "debian", "org"),
    ("registry", "npmjs"),
    ("proxy", "golang", "org"),
]
_PLACES = ["work", "farm"]
FORBIDDEN = re.compile(
    "|".join(
        [r"\.".join(host) for host in _HOSTS]
        + [rf"(?:^|(?<=[\s\"'(=`:]))/(?:{'|'.join(_PLACES)})/(?=[A-Za-z.])"]
        + [r"\.\./shar" + "ed"]
    )
)


def files(root: Path = ROOT) -> Iterator[Path]:
    """Every text file that belongs to the repository: what git tracks or would track, else all but the caches."""
    if (root / ".git").exists():
        listing = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-coz", "--exclude-standard"], capture_output=True, check=False
        )
        if listing.returncode == 0:
            for name in listing.stdout.split(b"\0"):
                path = root / os.fsdecode(name)
                if name and path.is_file():
                    yield path
            return
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED and (name[0] != "." or name == ".ci")]
        yield from (Path(folder, name) for name in names)


def finds(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and forbidden word, for each in *path*; binary files have none."""
    content = path.read_bytes()
    if b"\0" in content[:4096]:
        return
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        for match in FORBIDDEN.finditer(line):
            yield number, match[0]


def main() -> int:
    """Print all finds; 1 when there is one."""
    found = [f"{path.relative_to(ROOT)}:{number}: {word}" for path in files() for number, word in finds(path)]
    for line in sorted(found):
        sys.stdout.write(line + "\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
