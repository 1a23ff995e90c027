"""pydd beside an installed dockerd 20.10: the same docker commands to both, and everything that differs has a reason.

`RULES` in `rival` take out what differs between any two daemons; `OLDER` turns words that dockerd itself has changed since
20.10 into today's; `DIFFERENT` names the lines that differ on purpose and why. Whatever else differs fails. A line in
`DIFFERENT` that no longer differs fails too: the table says what is true.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_under_test import Daemon
from rival import Side, ask_both, dockerd, faults
from side_by_side_lines import DIFFERENT, FIELDS, LINES, UNORDERED

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.dockerd, pytest.mark.slow]
Sides = tuple[Side, Side]


def make_folder(folder: Path, archive: Path) -> Path:
    """What the lines find in ``{here}``, the same for both."""
    (folder / "bind").mkdir(parents=True)
    (folder / "bind" / "file").write_text("content\n")
    (folder / "env").write_text("# a comment\nF=1\nHOME\n\nG=a b\n")
    (folder / "labels").write_text("x=y\n")
    with tarfile.open(folder / "rootfs.tar", "w") as tar:
        entry = tarfile.TarInfo("x")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
    tarfile.open(folder / "empty.tar", "w").close()
    (folder / "busybox.tar").write_bytes(archive.read_bytes())
    return folder


@pytest.fixture(scope="module")
def sides(
    new_pydd: Callable[..., Daemon],
    client_environment: dict[str, str],
    image_archive: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Sides]:
    """dockerd and pydd, both with the busybox image."""
    daemon = new_pydd()
    folders = [make_folder(tmp_path_factory.mktemp(name) / "here", image_archive) for name in ("theirs", "ours")]
    own = ((str(folders[1]), "HERE"), (str(daemon.data), "DATA"), (daemon.url, "URL"), (str(daemon.root), "ROOT"))
    ours = Side("pydd", daemon.url, folders[1], client_environment, own)
    ours.ask(f"load -q -i {image_archive}")
    with dockerd(folders[0], client_environment) as theirs:
        yield theirs, ours


@pytest.fixture(autouse=True)
def cleared(sides: Sides) -> Iterator[None]:
    """Neither side keeps a container from one test to the next."""
    yield
    for side in sides:
        side.clear()


@pytest.mark.parametrize("section", LINES)
def test_the_same_words_give_the_same_answer(sides: Sides, section: str) -> None:
    lines = [line for line in LINES[section].splitlines() if line]
    found = faults(sides, lines, DIFFERENT, UNORDERED)
    assert not found, f"{len(found)} of {len(lines)} lines:\n\n" + "\n\n".join(found)


def test_every_reason_belongs_to_a_line() -> None:
    asked = {line for text in LINES.values() for line in text.splitlines()}
    assert not (set(DIFFERENT) | set(UNORDERED)) - asked
    assert len(asked) > 200


# --- documents ---------------------------------------------------------------------------------------------------


def differing(theirs: Any, ours: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Fields of two documents that are not the same; lists count as one field."""
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs:
        for key in sorted(theirs.keys() | ours.keys()):
            below = f"{path}.{key}" if path else key
            yield from differing(theirs.get(key, "absent"), ours.get(key, "absent"), below)
    elif theirs != ours:
        yield path, theirs, ours


def document(side: Side, *words: str) -> Any:
    """The first object of `docker inspect`, with this run's own words taken out."""
    text = side.ask(" ".join(words)).out
    return json.loads(text)[0]


@pytest.mark.parametrize("kind", FIELDS)
def test_documents_have_the_same_fields(sides: Sides, kind: str) -> None:
    setup, inspect, allowed = FIELDS[kind]
    for _line, (theirs, ours) in ask_both(sides, setup):
        assert (theirs.status, ours.status) == (0, 0), f"{theirs}\n{ours}"
    left, right = (document(side, inspect) for side in sides)
    found = {path: f"dockerd {a!r}, pydd {b!r}" for path, a, b in differing(left, right)}
    unexpected = {path: said for path, said in found.items() if not any(re.fullmatch(each, path) for each in allowed)}
    assert not unexpected, "\n".join(f"{path}: {said}" for path, said in unexpected.items())
    assert all(any(re.fullmatch(each, path) for path in found) for each in allowed), "a field no longer differs"


# --- events ------------------------------------------------------------------------------------------------------


def test_events_come_in_the_same_order(sides: Sides) -> None:
    """Actions, their subjects and the names of their attributes; exec's own ids are taken out by the rules."""
    lines = [
        "run -d --name told --network none busybox sleep 1000",
        "exec told true",
        "pause told",
        "unpause told",
        "rename told retold",
        "kill -s CONT retold",
        "stop -t 0 retold",
        "start retold",
        "kill retold",
        "rm retold",
        "tag busybox other:1",
        "rmi other:1",
    ]
    for _line, (theirs, ours) in ask_both(sides, lines):
        assert theirs.status == ours.status == 0, f"{theirs}\n{ours}"
    told = [events_of(side) for side in sides]
    assert told[0] == told[1]


def events_of(side: Side) -> list[tuple[str, str]]:
    """(type, action) of all events about the test's containers and its tag; networks are not told of alike."""
    raw = side.run(["events", "--since", "0", "--until", str(int(time.time()) + 1), "--format", "{{json .}}"]).stdout
    events = [json.loads(line) for line in raw.decode().splitlines()]
    own = ("told", "retold", "other:1")
    return [
        (event["Type"], event["Action"])
        for event in events
        if event["Type"] != "network" and event["Action"] != "untag" and event["Actor"]["Attributes"].get("name") in own
    ]


def test_info_has_the_same_keys(sides: Sides) -> None:
    """Clients read some; a key that is not there reads as empty, a wrong type ends a client."""
    left, right = (json.loads(side.run(["info", "--format", "{{json .}}"]).stdout) for side in sides)
    assert sorted(set(left) - set(right)) == ["KernelMemory", "KernelMemoryTCP"], "gone from the API with 1.42"
    wrong = {key for key in left if left[key] and right.get(key) and type(left[key]) is not type(right[key])}
    assert not wrong


def test_version_has_the_same_keys(sides: Sides) -> None:
    left, right = (json.loads(side.run(["version", "--format", "{{json .Server}}"]).stdout) for side in sides)
    assert sorted(set(left) - set(right)) == ["BuildTime"], "pydd is not built: there is no time of it"
    engine = [next(each for each in side["Components"] if each["Name"] == "Engine") for side in (left, right)]
    assert engine[0]["Details"].keys() <= engine[1]["Details"].keys()
