"""Progress as it is drawn, on a terminal (an imitated one) and elsewhere."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from pyd_cli.errors import CliError
from pyd_cli.progress import bar, show

MESSAGES: list[dict[str, Any]] = [
    {"status": "Pulling from x/bb", "id": "1"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "aaa"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "bbb"},
    {"status": "Downloading", "progressDetail": {"current": 500000, "total": 1000000}, "id": "aaa"},
    {"status": "Downloading", "progressDetail": {"current": 1000000, "total": 1000000}, "id": "bbb"},
    {"status": "Pull complete", "progressDetail": {}, "id": "bbb"},
    {"status": "Pull complete", "progressDetail": {}, "id": "aaa"},
    {"status": "Digest: sha256:0c1a"},
]


def screen(text: str) -> list[str]:
    """What a terminal shows after `text`."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[\d*[A-Z]|[\r\n]|[^\x1b\r\n]+", text):
        if token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token.endswith("A") and token.startswith("\x1b"):
            row -= int(token[2:-1])
        elif token.endswith("B") and token.startswith("\x1b"):
            row += int(token[2:-1])
        elif token == "\x1b[2K":
            lines[row] = ""
        else:
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
    return lines


def test_each_layer_has_a_line_on_a_terminal() -> None:
    out = io.StringIO()
    show(MESSAGES[:5], out, terminal=True)
    assert screen(out.getvalue())[:3] == [
        "1: Pulling from x/bb",
        "aaa: Downloading    500kB/1MB",
        "bbb: Downloading      1MB/1MB",
    ]
    out = io.StringIO()
    show(MESSAGES, out, terminal=True)
    assert screen(out.getvalue()) == [
        "1: Pulling from x/bb",
        "aaa: Pull complete",
        "bbb: Pull complete",
        "Digest: sha256:0c1a",
        "",
    ]


def test_without_a_terminal_there_are_no_bars() -> None:
    out = io.StringIO()
    show(MESSAGES, out)
    assert out.getvalue() == (
        "1: Pulling from x/bb\naaa: Pulling fs layer\nbbb: Pulling fs layer\nbbb: Pull complete\n"
        "aaa: Pull complete\nDigest: sha256:0c1a\n"
    )


def test_bars() -> None:
    assert bar({}, 130, 0) == ""
    assert bar({"current": 20}, 130, 0) == "     20B"
    assert bar({"current": 50, "total": 100}, 130, 0) == f"[{'=' * 25}>{' ' * 25}]      50B/100B"
    assert bar({"current": 120, "total": 100}, 80, 0) == "    120B"
    assert bar({"current": 3, "total": 9, "units": "files"}, 80, 0) == "3/9 files"


def test_an_error_among_the_messages_ends_it() -> None:
    out = io.StringIO()
    with pytest.raises(CliError, match="^manifest unknown$"):
        show([MESSAGES[0], {"errorDetail": {"message": "manifest unknown"}, "error": "x"}], out)
    assert out.getvalue() == "1: Pulling from x/bb\n"


def test_streams_and_extras() -> None:
    out = io.StringIO()
    assert show([{"stream": "Loaded image: a\n"}, {"aux": {"ID": "x"}}], out) == [{"ID": "x"}]
    assert out.getvalue() == "Loaded image: a\n"
