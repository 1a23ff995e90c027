"""Who a process is: names and numbers, tricks with both, and files that were made to hurt who reads them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyd_conformance.isolation_stage import IsolationStage, oci_spec
from pyd_contracts.errors import InvalidArgument

pytestmark = pytest.mark.root


def run_as(stage: IsolationStage, user: str) -> list[str]:
    """uid, gid and groups of a process, as the kernel says: id(1) would read the hostile files itself."""
    spec = oci_spec(["cat", "/proc/self/status"])
    spec["process"]["user"] = {"username": user}
    said, state = stage.output(spec=spec)
    assert state.exit_code == 0, said
    lines = dict(line.partition(":")[::2] for line in said[1].decode().splitlines())
    uids, gids = set(lines["Uid"].split()), set(lines["Gid"].split())
    assert (len(uids), len(gids)) == (1, 1), "real, effective, saved and file system ids are one"
    return [*uids, *gids, " ".join(sorted(lines["Groups"].split(), key=lambda group: group != gids.copy().pop()))]


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", ["0", "0", "0"]),
        ("root", ["0", "0", "0"]),
        ("user", ["1000", "1000", "1000 50"]),
        ("1000", ["1000", "1000", "1000 50"]),
        ("user:staff", ["1000", "50", "50"]),
        ("user:7", ["1000", "7", "7"]),
        ("4321", ["4321", "0", "0"]),
        ("4321:1234", ["4321", "1234", "1234"]),
        ("2147483647", ["2147483647", "0", "0"]),
    ],
)
def test_users(stage: IsolationStage, user: str, ids: list[str]) -> None:
    assert run_as(stage, user) == ids


def test_a_number_is_a_number_even_when_a_user_is_called_so(stage: IsolationStage) -> None:
    with (stage.place.tree / "etc/passwd").open("a") as passwd:
        passwd.write("1001:x:0:0:root in disguise:/:/bin/sh\n")

    assert run_as(stage, "1001") == ["1001", "0", "0"]


TRICKS = [
    "1_000",
    "\uff10",
    "\u0661\u0660",
    "+0",
    "-0",
    "-1",
    " 0",
    "0\n",
    "0x0",
    "1e3",
    "2147483648",
    "4294967296",
    "18446744073709551616",
]


@pytest.mark.parametrize(
    "user", [*TRICKS, "nobody-here", "user:nobody-here", "user:-1", "user:4294967295", "a:b:c"], ids=ascii
)
def test_what_is_no_user_is_refused(stage: IsolationStage, user: str) -> None:
    with pytest.raises(InvalidArgument):
        run_as(stage, user)

    container = stage.start("sleep", "100")
    with pytest.raises(InvalidArgument):
        stage.execute(container, "true", user={"username": user})
    assert stage.walk() == {container}


@pytest.mark.parametrize("line", ["big:x:4294967295:0::/:", "big:x:1000:4294967295::/:", "big:x:1000:4294967296::/:"])
def test_numbers_in_files_are_bounded_too(stage: IsolationStage, line: str) -> None:
    (stage.place.tree / "etc/passwd").write_text(line + "\n")

    with pytest.raises(InvalidArgument):
        run_as(stage, "big")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _zero(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _long(path: Path) -> None:
    path.write_bytes(b"user:" * 3_000_000)


def _binary(path: Path) -> None:
    path.write_bytes(b"\0\xff:user:\n:::::::\nuser:x:\xff:0:::\n")


HOSTILE: dict[str, Callable[[Path], None]] = {
    "fifo": _fifo,
    "device": _zero,
    "link-to-zero": lambda path: path.symlink_to("/dev/zero"),
    "link-to-host": lambda path: path.symlink_to("../../../../../../../../etc/passwd"),
    "loop": lambda path: path.symlink_to("passwd"),
    "directory": lambda path: path.mkdir(),
    "huge": _huge,
    "one-long-line": _long,
    "binary": _binary,
    "missing": lambda _path: None,
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
@pytest.mark.parametrize("name", ["passwd", "group"])
def test_hostile_files_neither_block_nor_fill_memory(stage: IsolationStage, kind: str, name: str) -> None:
    path = stage.place.tree / "etc" / name
    path.unlink()
    HOSTILE[kind](path)
    before = time.monotonic()

    assert run_as(stage, "0")[0] == "0"
    with pytest.raises(InvalidArgument):
        run_as(stage, "user" if name == "passwd" else "user:staff")

    assert time.monotonic() - before < 5
