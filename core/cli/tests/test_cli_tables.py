"""Columns as Go's tabwriter makes them, rows of listings, and what must not reach a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from pyd_cli import containers
from pyd_cli.commands.images import names_of
from pyd_cli.errors import CliError
from pyd_cli.jsonform import indented
from pyd_cli.listing import ellipsis, filters, listing, short_id
from pyd_cli.tables import aligned, escaped, table


def test_a_column_is_as_wide_as_its_widest_cell_and_three_blanks() -> None:
    assert table(("DRIVER", "VOLUME NAME"), [("local", "vol1"), ("a-long-driver", "v")]) == (
        "DRIVER          VOLUME NAME\nlocal           vol1\na-long-driver   v\n"
    )


def test_no_column_is_narrower_than_ten() -> None:
    assert table(("A", "B"), [("x", "y")]) == "A         B\nx         y\n"


def test_lines_with_fewer_cells_end_a_column() -> None:
    assert aligned([["aaaaaaaaaaaaa", "b"], ["alone"], ["c", "d"]]) == ["aaaaaaaaaaaaa   b", "alone", "c         d"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 名", "plain é 名"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\tb\nc\r", "a\\tb\\nc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown
    assert shown in table(("A",), [(text,)])


CONTAINER: dict[str, Any] = {
    "Id": "0123456789abcdef" * 4,
    "Names": ["/web", "/other/link"],
    "Image": "busybox",
    "ImageID": "sha256:ffff",
    "Command": "sh -c 'while true; do sleep 1; done'",
    "Created": 0,
    "Status": "Up 2 hours",
    "State": "running",
    "Ports": [
        {"IP": "0.0.0.0", "PrivatePort": 81, "PublicPort": 81, "Type": "tcp"},
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 80, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 90, "Type": "udp"},
    ],
    "Labels": {"com.example.some-name": "x", "b": "2"},
    "Mounts": [{"Name": "a-very-long-volume-name", "Driver": "local"}, {"Source": "/tmp"}],
    "NetworkSettings": {"Networks": {"n1": {}, "n2": {}}},
    "SizeRw": 5,
    "SizeRootFs": 1985512,
}


def test_fields_of_a_container() -> None:
    row = containers.row(CONTAINER)
    assert row["ID"] == "0123456789ab"
    assert row["Command"] == '"sh -c \'while true; …"'
    assert row["Names"] == "web"
    assert row["Ports"] == "0.0.0.0:80-81->80-81/tcp, 90/udp, [::]:8080->80/tcp"
    assert row["Mounts"] == "a-very-long-vo…,/tmp"
    assert row["LocalVolumes"] == "1"
    assert row["Networks"] == "n1,n2"
    assert row["Size"] == "5B (virtual 1.99MB)"
    assert row["Labels"] == "b=2,com.example.some-name=x"
    assert containers.row(CONTAINER, trunc=False)["Names"] == "web,other/link"


def test_table_with_a_template_has_heads_made_by_the_same_template() -> None:
    rows = [containers.row(CONTAINER, templates=True)]
    form = 'table {{.Names}}\\t{{.Label "com.example.some-name"}}'
    shown = listing(rows, form, containers.COLUMNS, containers.headers(True), containers.TYPE)
    assert shown == "NAMES     some name\nweb       x\n"


def test_json_rows_have_sorted_fields_and_html_escapes() -> None:
    assert listing([{"B": "<x>", "A": "1"}], "json", (), {}, "t") == '{"A":"1","B":"\\u003cx\\u003e"}\n'


def test_templates_that_fail_say_how() -> None:
    with pytest.raises(CliError, match="failed to parse template: template: :1: unclosed action"):
        listing([], "{{", (), {}, "t")
    with pytest.raises(CliError, match="failed to execute template: .* can't evaluate field Foo in type t"):
        listing([{"A": "1"}], "{{.Foo}}", (), {}, "t")


def test_json_is_laid_out_without_being_changed() -> None:
    text = '[{"a":1.0,"b":[],"c":{},"d":"\\u003c,{\\"","e":[1,2]}]'
    assert indented(text) == (
        '[\n    {\n        "a": 1.0,\n        "b": [],\n        "c": {},\n        "d": "\\u003c,{\\"",\n'
        '        "e": [\n            1,\n            2\n        ]\n    }\n]'
    )
    assert indented("[]") == "[]"


def test_lines_of_an_image() -> None:
    item = {"RepoTags": ["a:1", "r:5000/b:2"], "RepoDigests": ["a@sha256:x", "c@sha256:y"]}
    assert list(names_of(item, digests=True)) == [
        ("a", "1", "sha256:x"),
        ("r:5000/b", "2", "<none>"),
        ("c", "<none>", "sha256:y"),
    ]
    assert list(names_of({"RepoTags": None}, digests=False)) == [("<none>", "<none>", "<none>")]


def test_small_things() -> None:
    assert ellipsis("abcdef", 4) == "abc…"
    assert ellipsis("abcd", 4) == "abcd"
    assert short_id("sha256:0123456789abcdef") == "0123456789ab"
    assert filters([]) is None
    assert filters(["Label=a=b", "label=c"]) == '{"label": {"a=b": true, "c": true}}'
