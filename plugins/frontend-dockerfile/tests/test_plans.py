"""Stages, files, programs and arguments of a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_contracts.values import Copy, Plan, Run

Planner = Callable[..., Plan]


def works(plan: Plan) -> list[Run | Copy | None]:
    """Work of the last stage."""
    return [step.work for step in plan.stages[-1].steps]


# --- stages


def test_stages_that_nobody_needs_are_left_out(plan: Planner) -> None:
    text = "FROM a AS one\nFROM b AS two\nFROM one AS three\nCOPY --from=0 /x /y\nFROM c\nCOPY --from=Three x y\n"

    made = plan(text)

    assert [(stage.base, stage.name, stage.line) for stage in made.stages] == [
        ("a", "one", 1),
        (0, "three", 3),
        ("c", "", 5),
    ]
    assert [work.origin for stage in made.stages for work in [*(step.work for step in stage.steps)] if work] == [0, 1]


def test_a_stage_on_a_stage_begins_where_that_ends(plan: Planner) -> None:
    first, second = plan('FROM base AS a\nENV x=1\nENTRYPOINT ["e"]\nCMD ["c"]\nFROM a\nENTRYPOINT ["f"]\n').stages

    assert second.config == first.steps[-1].config
    assert second.steps[-1].config["Entrypoint"] == ["f"]
    assert "Cmd" not in second.steps[-1].config, "it was set in another stage"


def test_a_name_hides_an_image_for_later_stages_only(plan: Planner) -> None:
    first, second = plan("FROM debian AS debian\nFROM debian\n").stages

    assert (first.base, second.base) == ("debian", 0)


def test_an_image_of_a_number_is_an_image(plan: Planner) -> None:
    assert plan("FROM base\nFROM 0\n").stages[-1].base == "0"


@pytest.mark.parametrize("target", ["one", "ONE", "0"])
def test_targets(plan: Planner, target: str) -> None:
    assert plan("FROM a AS one\nFROM b\n", target=target).stages[-1].base == "a"


def test_no_such_target(plan: Planner) -> None:
    with pytest.raises(NotFound, match="failed to reach build target zz in Dockerfile"):
        plan("FROM a AS one\n", target="zz")


def test_platforms(plan: Planner) -> None:
    text = """\
ARG P=arm64
FROM --platform=$P base AS one
FROM --platform=linux/x86_64 base AS two
FROM --platform=$BUILDPLATFORM base AS three
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDARCH
ENV all="$TARGETPLATFORM $TARGETOS $TARGETARCH $TARGETVARIANT $BUILDARCH"
"""

    assert plan(text, target="one").stages[0].platform == "linux/arm64"
    assert plan(text, target="one", P="arm/v7").stages[0].platform == "arm/v7"
    assert plan(text, target="two").stages[0].platform == "", "it is the recipe's"
    assert plan(text).stages[0].platform == ""
    cross = plan(text, platforms=("linux/arm/v7", "linux/amd64")).stages[0]
    assert cross.platform == "linux/amd64"
    assert "all=linux/arm/v7 linux arm v7 amd64" in cross.steps[-1].config["Env"]


# --- arguments


def test_arguments_of_run(plan: Planner) -> None:
    text = "ARG T=base\nFROM $T\nARG T\nARG X=1 Y\nENV X=2\nRUN make $T\n"

    made = plan(text, Q="1", Y="2", HTTP_PROXY="http://proxy", no_proxy="here")

    assert works(made)[-1] == Run(
        ("/bin/sh", "-c", "make $T"), ("T=base", "Y=2"), untold=("HTTP_PROXY=http://proxy", "no_proxy=here")
    )
    assert made.stages[-1].steps[-1].meaning == "/bin/sh -c make $T"
    assert made.preamble == ("ARG T=base",)
    assert made.unused == ("Q",)


def test_a_proxy_that_is_asked_for_is_told(plan: Planner) -> None:
    assert works(plan("FROM base\nARG HTTP_PROXY\nRUN x\n", HTTP_PROXY="p"))[-1] == Run(
        ("/bin/sh", "-c", "x"), ("HTTP_PROXY=p",)
    )


@pytest.mark.parametrize(
    ("lines", "given", "expected"),
    [
        ("ARG a", {}, ()),
        ("ARG a", {"a": "g"}, ("a=g",)),
        ("ARG a", {"a": None}, ()),
        ("ARG a=1", {}, ("a=1",)),
        ("ARG a=1", {"a": None}, ("a=1",)),
        ("ARG a=1\nARG a", {}, ()),
        ("ARG a=1\nARG a=2", {}, ("a=2",)),
        ("ARG outer", {}, ("outer=o",)),
        ("ARG outer", {"outer": "g"}, ("outer=g",)),
        ("ARG outer=1", {}, ("outer=1",)),
        ("ARG a=$PATH b=${a:-c}", {}, ("a=/bin", "b=c")),
        ("ARG a='x y' \"b\"=c", {}, ("a=x y", "b=c")),
        ("ARG derived", {}, ("derived=o/1",)),
        ("ARG derived", {"outer": "g"}, ("derived=g/1",)),
        ("", {"outer": "g"}, ()),
    ],
)
def test_values_of_arguments(plan: Planner, lines: str, given: dict[str, Any], expected: tuple[str, ...]) -> None:
    text = f"ARG outer=o\nARG derived=$outer/1\nFROM base AS other\nARG b=other\nFROM base\n{lines}\nRUN x\n"

    run = works(plan(text, **given))[-1]

    assert isinstance(run, Run)
    assert run.environment == expected


# --- programs


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('RUN ["a", "$b"]', Run(("a", "$b"))),
        ('RUN ["a"] # why', Run(("a",))),
        ("RUN --network=none  a", Run(("/bin/sh", "-c", "a"), network="none")),
        ("RUN -- a", Run(("/bin/sh", "-c", "a"))),
        ('SHELL ["bash", "-c"]\nRUN a', Run(("bash", "-c", "a"))),
        ("RUN <<E\na\n  b\nE", Run(("/bin/sh", "-c", "a\n  b\n"))),
        ("RUN <<-E\n\ta\n\tE", Run(("/bin/sh", "-c", "a\n"))),
        ("RUN <<'E'\n$a\nE", Run(("/bin/sh", "-c", "$a\n"))),
        (
            "RUN <<E\n#!/usr/bin/env python3\nprint()\nE",
            Run(("/usr/bin/env", "python3", "/dev/stdin"), stdin=b"#!/usr/bin/env python3\nprint()\n"),
        ),
        ("RUN cat <<E >x && y <<-F\na\nE\n\tb\nF", Run(("/bin/sh", "-c", "cat <<E >x && y <<-F\na\nE\n\tb\nF"))),
        ("RUN echo $((1 << 2)) $(( 1 <<2 ))", Run(("/bin/sh", "-c", "echo $((1 << 2)) $(( 1 <<2 ))"))),
        ("RUN cat <<<x", Run(("/bin/sh", "-c", "cat <<<x"))),
    ],
)
def test_run(plan: Planner, line: str, expected: Run) -> None:
    assert works(plan(f"FROM base\n{line}\n"))[-1] == expected


# --- files


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("COPY a b", Copy(("a",), "/w/b")),
        ("COPY a .", Copy(("a",), "/w/")),
        ("COPY a ..", Copy(("a",), "/")),
        ("COPY a ./", Copy(("a",), "/w/")),
        ("COPY a /", Copy(("a",), "/")),
        ("COPY a b c/", Copy(("a", "b"), "/w/c/")),
        ("COPY a e/../f", Copy(("a",), "/w/f")),
        ('COPY ["a b", "/c d"]', Copy(("a b",), "/c d")),
        ("COPY $v ${d}/", Copy(("x",), "/z/")),
        ("COPY --chown=$v:1 --chmod=0755 --link a b", Copy(("a",), "/w/b", owner="x:1", mode=0o755)),
        ("COPY --from=busybox:1 /a b", Copy(("/a",), "/w/b", "busybox:1")),
        ("ADD http://x/$v a.tar /y/", Copy(("http://x/x", "a.tar"), "/y/", fetch=True)),
        ("WORKDIR sub", Copy((), "/w/sub/")),
        (
            'COPY <<E <<"F" a /y/\n$v \\$v don\'t\nE\n$v\nF',
            Copy(("a",), "/y/", inline={"E": b"x $v don't\n", "F": b"$v\n"}),
        ),
        ("COPY <<-E f\n\ta\n\tE", Copy((), "/w/f", inline={"E": b"a\n"})),
    ],
)
def test_copy(plan: Planner, line: str, expected: Copy) -> None:
    assert works(plan(f"FROM base\nENV v=x d=/z\nWORKDIR /w\n{line}\n"))[-1] == expected


def test_what_a_copy_means(plan: Planner) -> None:
    (stage,) = plan("FROM base\nENV v=x\nCOPY --chown=$v $v  b/ .\n").stages

    assert stage.steps[-1].text == "COPY --chown=$v $v  b/ ."
    assert stage.steps[-1].meaning == "COPY --chown=x x b/ ."


# --- triggers


def test_triggers_run_after_from(plan: Planner) -> None:
    document = {"config": {"Env": ["PATH=/bin"], "OnBuild": ["ENV a=1", "RUN make", "COPY --from=helper /h /"]}}

    helper, stage = plan("FROM other AS helper\nFROM base\nENV b=$a\n", known={"base": document}).stages

    assert helper.base == "other"
    assert [(step.text, step.line) for step in stage.steps] == [
        ("ENV a=1", 0),
        ("RUN make", 0),
        ("COPY --from=helper /h /", 0),
        ("ENV b=$a", 3),
    ]
    assert "OnBuild" not in stage.config
    assert stage.steps[-1].config == {"Env": ["PATH=/bin", "a=1", "b=1"]}


def test_triggers_of_a_stage_are_for_the_next(plan: Planner) -> None:
    first, second, third = plan("FROM base AS a\nONBUILD WORKDIR x\nFROM a AS b\nFROM b\n").stages

    assert first.steps[-1].config["OnBuild"] == ["WORKDIR x"]
    assert [step.meaning for step in second.steps] == ["WORKDIR /x"]
    assert third.steps == ()


def test_a_trigger_with_a_here_document(plan: Planner) -> None:
    first, second = plan("FROM base AS a\nONBUILD RUN <<E\nx\nE\nFROM a\n").stages

    assert first.steps[-1].config["OnBuild"] == ["RUN <<E\nx\nE"]
    assert second.steps[0].work == Run(("/bin/sh", "-c", "x\n"))


@pytest.mark.parametrize("trigger", ["FOO bar", "FROM x", "ONBUILD RUN x", "RUN a\nRUN b", "", "# x", "ENV a"])
def test_a_bad_trigger_is_named(plan: Planner, trigger: str) -> None:
    with pytest.raises(InvalidArgument, match="^Dockerfile:1: trigger .* of base: "):
        plan("FROM base\n", known={"base": {"config": {"OnBuild": [trigger]}}})


@pytest.mark.parametrize("config", [{"Env": "x"}, {"Env": [1]}, {"OnBuild": {}}, {"Labels": []}, {"WorkingDir": 1}, []])
def test_a_bad_base_is_named(plan: Planner, config: object) -> None:
    with pytest.raises(InvalidArgument, match="^image base: "):
        plan("FROM base\n", known={"base": {"config": config}})
