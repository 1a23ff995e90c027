"""What log drivers share: tags, attributes, addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.log_details import attributes, boolean, check_details, check_known, tag
from pyd_contracts.log_sinks import split_host
from pyd_contracts.values import LogRecord, LogSource

ID, IMAGE = "0f3a" * 16, f"sha256:{'12' * 32}"


def source(**options: str) -> LogSource:
    named = {key.replace("_", "-"): value for key, value in options.items()}
    return LogSource(
        ID, "web", "nginx:1", IMAGE, 0, ("sh", "-c", "x"), Path("/"), ("A=1", "B=2=3", "C"), {"a": "l", "A": "l"}, named
    )


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ID[:12]),
        ("{{.ID}} {{ .FullID }}", f"{ID[:12]} {ID}"),
        ("{{.Name}}/{{.ImageName}}", "web/nginx:1"),
        ("{{.ImageID}} {{.ImageFullID}}", f"{'12' * 6} {IMAGE}"),
        ("{{.DaemonName}}: {{.Command}}", "pyd: sh -c x"),
        ("plain", "plain"),
    ],
)
def test_tags(template: str, text: str) -> None:
    assert tag(source(tag=template)) == text


def test_what_cannot_be_filled_in_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"\{\{\.Nope\}\} is not known; known are \.Command"):
        check_details({"tag": "{{.ID}}{{.Nope}}"})
    with pytest.raises(InvalidArgument, match="unclosed action"):
        check_details({"tag": "{{.ID}}{{.Name"})
    with pytest.raises(InvalidArgument, match="env-regex"):
        check_details({"env-regex": "["})


def test_labels_and_variables_are_selected() -> None:
    assert attributes(source()) == {}
    assert attributes(source(labels="a,b", env="B,C")) == {"a": "l", "B": "2=3"}
    assert attributes(source(labels_regex="^[aA]$", env_regex="^A")) == {"a": "l", "A": "1"}


def test_words_are_dockers() -> None:
    with pytest.raises(InvalidArgument, match="^unknown log opt 'b' for x log driver$"):
        check_known("x", {"a": "", "b": ""}, {"a"})
    with pytest.raises(InvalidArgument, match='^strconv.ParseBool: parsing "maybe": invalid syntax$'):
        boolean({"a": "maybe"}, "a")
    assert boolean({"a": "T"}, "a")
    assert not boolean({}, "a")


@pytest.mark.parametrize(
    ("address", "found"),
    [("h", ("h", 514)), ("h:1", ("h", 1)), ("[::1]", ("::1", 514)), ("[::1]:9", ("::1", 9)), (":7", ("", 7))],
)
def test_addresses(address: str, found: tuple[str, int]) -> None:
    assert split_host(address, 514) == found


@pytest.mark.parametrize("address", ["h:x", "h:0", "h:70000", "a:1:2", "[::1", "[::1]x"])
def test_no_addresses(address: str) -> None:
    with pytest.raises(ValueError, match=r"address "):
        split_host(address, 514)


@pytest.mark.parametrize(("data", "lines"), [(b"a\nb\n", [b"a", b"b"]), (b"a", [b"a"]), (b"\n\n", [b"", b""])])
def test_lines_of_a_record(data: bytes, lines: list[bytes]) -> None:
    assert LogRecord(0, 1, data).lines == lines
