"""Dockerfiles and what they come to: configurations and histories that dockerd 20.10 makes of the same files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyd_contracts.values import Plan

_PATH = "PATH=/bin"
_BASE = {"Env": [_PATH], "Cmd": ["sh"]}
Planner = Callable[..., Plan]

FILES: list[tuple[str, dict[str, Any], list[str]]] = [
    # variables
    ("ENV a b=c $x", {"Env": [_PATH, "a=b=c "]}, ["ENV a=b=c "]),
    (
        "ENV a 1\nENV b=$a c=\"x y\" d='$a' e=\\$a",
        {"Env": [_PATH, "a=1", "b=1", "c=x y", "d=$a", "e=$a"]},
        ["ENV a=1", "ENV b=1 c=x y d=$a e=$a"],
    ),
    ("ENV a=1 b=$a\nENV c=$b a=2 d=$a", {"Env": [_PATH, "a=2", "b=", "c=", "d=1"]}, ["ENV a=1 b=", "ENV c= a=2 d=1"]),
    ("ENV PATH=/x:$PATH", {"Env": ["PATH=/x:/bin"]}, ["ENV PATH=/x:/bin"]),
    ("ENV a=b\\\n c=d", {"Env": [_PATH, "a=b", "c=d"]}, ["ENV a=b c=d"]),
    ("ENV a   b   c  ", {"Env": [_PATH, "a=b   c"]}, ["ENV a=b   c"]),
    # labels
    (
        'ENV a=1\nLABEL z=1 "a b"="c d" k=$a\nLABEL m n o',
        {"Env": [_PATH, "a=1"], "Labels": {"z": "1", "a b": "c d", "k": "1", "m": "n o"}},
        ["ENV a=1", "LABEL z=1 a b=c d k=1", "LABEL m=n o"],
    ),
    ("LABEL a=", {"Labels": {"a": ""}}, ["LABEL a="]),
    # programs
    ("CMD x  y", {"Cmd": ["/bin/sh", "-c", "x  y"]}, ['CMD ["/bin/sh" "-c" "x  y"]']),
    ('CMD ["a", "b\\u00e9\\"\\n"]', {"Cmd": ["a", 'bé"\n']}, ['CMD ["a" "bé\\"\\n"]']),
    ("CMD ['a']", {"Cmd": ["/bin/sh", "-c", "['a']"]}, ['CMD ["/bin/sh" "-c" "[\'a\']"]']),
    ('CMD ["a",]', {"Cmd": ["/bin/sh", "-c", '["a",]']}, ['CMD ["/bin/sh" "-c" "[\\"a\\",]"]']),
    ("CMD []", {"Cmd": []}, ["CMD []"]),
    ("CMD", {"Cmd": ["/bin/sh", "-c"]}, ['CMD ["/bin/sh" "-c"]']),
    ("ENTRYPOINT x", {"Entrypoint": ["/bin/sh", "-c", "x"], "Cmd": None}, ['ENTRYPOINT ["/bin/sh" "-c" "x"]']),
    ("ENTRYPOINT []", {"Cmd": None}, ["ENTRYPOINT []"]),
    (
        'CMD y\nENTRYPOINT ["x"]',
        {"Entrypoint": ["x"], "Cmd": ["/bin/sh", "-c", "y"]},
        ['CMD ["/bin/sh" "-c" "y"]', 'ENTRYPOINT ["x"]'],
    ),
    ('CMD\nENTRYPOINT ["x"]', {"Entrypoint": ["x"], "Cmd": None}, ['CMD ["/bin/sh" "-c"]', 'ENTRYPOINT ["x"]']),
    (
        'SHELL ["/bin/sh", "-ex", "-c"]\nCMD x',
        {"Shell": ["/bin/sh", "-ex", "-c"], "Cmd": ["/bin/sh", "-ex", "-c", "x"]},
        ["SHELL [/bin/sh -ex -c]", 'CMD ["/bin/sh" "-ex" "-c" "x"]'],
    ),
    # ports
    (
        'ENV p="80 81"\nEXPOSE $p 7:8 1.2.3.4:5:6 90-91/UDP',
        {
            "Env": [_PATH, "p=80 81"],
            "ExposedPorts": {f"{p}": {} for p in "6/tcp 8/tcp 80/tcp 81/tcp 90/udp 91/udp".split()},
        },
        ["ENV p=80 81", "EXPOSE 80 81 1.2.3.4:5:6 7:8 90-91/UDP"],
    ),
    ("EXPOSE 443 80\nEXPOSE 80/", {"ExposedPorts": {"443/tcp": {}, "80/tcp": {}}}, ["EXPOSE 443 80", "EXPOSE 80/"]),
    # health
    (
        "HEALTHCHECK --interval=5s --timeout=1m30s --start-period=1h --retries=3 CMD true  x",
        {
            "Healthcheck": {
                "Test": ["CMD-SHELL", "true  x"],
                "Interval": 5 * 10**9,
                "Timeout": 90 * 10**9,
                "StartPeriod": 3600 * 10**9,
                "Retries": 3,
            }
        },
        ['HEALTHCHECK &{["CMD-SHELL" "true  x"] "5s" "1m30s" "1h0m0s" \'\\x03\'}'],
    ),
    (
        'HEALTHCHECK --interval=1.5s --timeout=20ms --retries=65 cmd  ["a"]',
        {"Healthcheck": {"Test": ["CMD", "a"], "Interval": 1_500_000_000, "Timeout": 20_000_000, "Retries": 65}},
        ['HEALTHCHECK &{["CMD" "a"] "1.5s" "20ms" "0s" \'A\'}'],
    ),
    (
        "HEALTHCHECK --start-interval=2s CMD x",
        {"Healthcheck": {"Test": ["CMD-SHELL", "x"], "StartInterval": 2 * 10**9}},
        ['HEALTHCHECK &{["CMD-SHELL" "x"] "0s" "0s" "0s" \'\\x00\'}'],
    ),
    ("HEALTHCHECK none", {"Healthcheck": {"Test": ["NONE"]}}, ['HEALTHCHECK &{["NONE"] "0s" "0s" "0s" \'\\x00\'}']),
    # volumes, users, signals
    (
        'VOLUME /a /b\nVOLUME ["/c d"]',
        {"Volumes": {"/a": {}, "/b": {}, "/c d": {}}},
        ["VOLUME [/a /b]", "VOLUME [/c d]"],
    ),
    ("USER a:b\nUSER $PATH", {"User": "/bin"}, ["USER a:b", "USER /bin"]),
    ("STOPSIGNAL SIGTERM\nSTOPSIGNAL 9", {"StopSignal": "9"}, ["STOPSIGNAL SIGTERM", "STOPSIGNAL 9"]),
    ("STOPSIGNAL rtmin+3", {"StopSignal": "rtmin+3"}, ["STOPSIGNAL rtmin+3"]),
    # directories
    (
        'WORKDIR a\nWORKDIR b/../c/\nWORKDIR /x/../y/\nWORKDIR ../z\nWORKDIR "/q r"\nWORKDIR //d//e\nWORKDIR .',
        {"WorkingDir": "/d/e"},
        [
            "WORKDIR /a",
            "WORKDIR /a/c",
            "WORKDIR /x/../y/",
            "WORKDIR /z",
            "WORKDIR /q r",
            "WORKDIR //d//e",
            "WORKDIR /d/e",
        ],
    ),
    # triggers for others
    (
        "ONBUILD RUN   echo $x\nONBUILD copy a /b\nOnBuild run x \\\n   y\nONBUILD FOO bar",
        {"OnBuild": ["RUN   echo $x", "copy a /b", "run x    y", "FOO bar"]},
        ["ONBUILD RUN   echo $x", "ONBUILD copy a /b", "ONBUILD run x    y", "ONBUILD FOO bar"],
    ),
    # arguments leave no trace but in the history
    ("ARG a=$PATH b=${a:-c}\nENV a=q", {"Env": [_PATH, "a=q"]}, ["ARG a=/bin b=c", "ENV a=q"]),
    # lines
    ("\tlabel a=b \\\n# c\\\n  # d\n   c=d\\\n", {"Labels": {"a": "b", "c": "d"}}, ["LABEL a=b c=d"]),
    ("CMD a \\\r\n b\r\n", {"Cmd": ["/bin/sh", "-c", "a  b"]}, ['CMD ["/bin/sh" "-c" "a  b"]']),
    ("CMD a \\", {"Cmd": ["/bin/sh", "-c", "a"]}, ['CMD ["/bin/sh" "-c" "a"]']),
    ("CMD a\\\\\nLABEL a=b", {"Cmd": ["/bin/sh", "-c", "a\\\\"], "Labels": {"a": "b"}}, []),
]


@pytest.mark.parametrize(("text", "changes", "history"), FILES, ids=[text for text, _, _ in FILES])
def test_a_dockerfile(plan: Planner, text: str, changes: dict[str, Any], history: list[str]) -> None:
    (stage,) = plan("FROM base\n" + text).stages

    expected = {key: value for key, value in (_BASE | changes).items() if value is not None}
    assert stage.steps[-1].config == expected
    if history:
        assert [step.meaning for step in stage.steps] == history


def test_escape_directive(plan: Planner) -> None:
    text = '# syntax=docker/dockerfile:1\n#Escape = `\nFROM base\nENV a=`$b c=\\d e="`"x"\nCMD a `\n  b\n'

    (stage,) = plan(text).stages

    assert stage.steps[-1].config == {"Env": [_PATH, "a=$b", "c=\\d", 'e="x'], "Cmd": ["/bin/sh", "-c", "a   b"]}


def test_directives_are_at_the_head_only(plan: Planner) -> None:
    (stage,) = plan("# nothing\n# escape=`\nFROM base\nCMD a `\n").stages

    assert stage.steps[-1].config["Cmd"] == ["/bin/sh", "-c", "a `"]


def test_a_byte_order_mark_is_no_text(plan: Planner) -> None:
    assert plan("\ufeffFROM base\n").stages[0].text == "FROM base"


def test_empty_continued_lines_are_warned_about(plan: Planner) -> None:
    made = plan("FROM base\nCMD a \\\n\n  b\n")

    assert made.stages[0].steps[0].text == "CMD a   b"
    assert made.warnings == (
        "[WARNING]: Empty continuation line found in:\n    CMD a   b",
        "[WARNING]: Empty continuation lines will become errors in a future release.",
    )


def test_nothing_has_a_path(plan: Planner) -> None:
    (stage,) = plan("FROM scratch\nMAINTAINER me <a@b>\nUSER x\n").stages

    assert stage.base is None
    assert stage.config == {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
    assert [step.author for step in stage.steps] == ["me <a@b>", "me <a@b>"]


def test_null_is_nothing(plan: Planner) -> None:
    document = {"config": {"Env": None, "OnBuild": None, "Labels": None, "Volumes": None, "Cmd": None}}

    (stage,) = plan("FROM base\nENV a=b\nLABEL c=d\nVOLUME /e\nENTRYPOINT f\n", known={"base": document}).stages

    assert sorted(stage.steps[-1].config) == ["Entrypoint", "Env", "Labels", "Volumes"]
