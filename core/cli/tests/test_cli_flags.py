"""Every flag of every command of docker's that pyd has: same name, same letter, same kind of value.

What each client says for itself in ``--help`` is compared; no daemon is asked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyd_cli.catalog import GROUPS, ROOT
from pyd_cli.command import Command

SOURCE = Path(__file__).parent.parent / "src"
_FLAG = re.compile(r"^ {2,6}(?:-(\w), )? *--([a-z0-9-]+)(?: (\S+(?:<\S+>)?))?(?:  +(.*))?$")
Flag = tuple[str, str]
"""Letter, type of the value."""


def commands() -> Iterator[tuple[str, ...]]:
    """All that both could have."""
    for name, entry in ROOT.items():
        if not entry.hidden and not entry.group and name != "plugin":
            yield (name,)
    for group, members in GROUPS.items():
        if group not in ("", "plugin"):
            yield from ((group, name) for name, entry in members.items() if not entry.hidden)


def flags(program: list[str], command: tuple[str, ...]) -> dict[str, Flag]:
    """By long name."""
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent", "PYTHONPATH": str(SOURCE), "COLUMNS": "80"}
    done = subprocess.run([*program, *command, "--help"], capture_output=True, text=True, env=environment, timeout=30)
    assert done.returncode == 0, done.stderr
    lines = map(_FLAG.match, done.stdout.partition("Options:")[2].splitlines())
    return {match[2]: (match[1] or "", match[3] or "") for match in lines if match and match[2] != "help"}


LEFT_OUT = {
    "checkpoint": "containers are not frozen to files",
    "checkpoint-dir": "containers are not frozen to files",
    "use-api-socket": "experimental: gives a container the daemon",
    "tree": "experimental",
    "disable-content-trust": "what it disables is not there",
    **dict.fromkeys(
        "availability group limit-bytes required-bytes scope secret sharing topology-preferred topology-required type".split(),
        "of volume create: for clusters",
    ),
    "cluster": "of volume ls: for clusters",
    "platform": "of load, save, rmi and image inspect: of an image one platform is kept",
}


def accepted(command: tuple[str, ...]) -> set[str]:
    """Flags that pyd takes though help does not show them."""
    group, name = command if len(command) == 2 else ("", command[0])
    loaded = GROUPS[group][name].load()
    assert isinstance(loaded, Command)
    return {flag.name for flag in loaded.flags}


@pytest.mark.docker
@pytest.mark.parametrize("command", sorted(commands()), ids=" ".join)
def test_flags_are_dockers(command: tuple[str, ...]) -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("not installed here: docker")
    theirs, ours = flags([docker], command), flags([sys.executable, "-m", "pyd_cli"], command)
    missing = {*theirs} - {*ours} - accepted(command) - {*LEFT_OUT}
    other = {name: (ours[name], flag) for name, flag in theirs.items() if name in ours and ours[name] != flag}
    assert (missing, other) == (set(), {})
