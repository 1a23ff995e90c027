"""Dockerfiles that cannot be: each message has file, line, and the words that clients know from dockerd."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Plan

_BUILDKIT = "requires BuildKit. Refer to https://docs.docker.com/go/buildkit/"

MISTAKES = [
    ("", 1, "the Dockerfile (Dockerfile) cannot be empty"),
    ("# only\n", 1, "file with no instructions"),
    ("ARG a\n", 1, "there is no FROM"),
    ("RUN x\n", 1, "no build stage in current context"),
    ("ENV a=b\nFROM base\n", 1, "no build stage in current context"),
    ("FORM x\n", 1, "unknown instruction: FORM"),
    ("FROM base\nRUN a \\\n b\n\nFOO\n", 5, "unknown instruction: FOO"),
    ("#escape=x\nFROM base\n", 1, "invalid escape token 'x' does not match ` or \\"),
    ("# escape=\\\n# escape=`\nFROM base\n", 2, "only one escape parser directive can be used"),
    ("FROM base\nCMD a\0\n", 2, "a NUL"),
    ("FROM base\nCMD a\ud800\n", 2, "what is no text"),
    # FROM
    ("FROM\n", 1, "FROM requires either one or three arguments"),
    ("FROM a b\n", 1, "FROM requires either one or three arguments"),
    ("FROM a to b\n", 1, "FROM requires either one or three arguments"),
    ("FROM a AS 1x\n", 1, 'invalid name for build stage: "1x", name can\'t start with a number or contain symbols'),
    ("FROM a AS x\nFROM a AS X\n", 2, "x stage name already used"),
    ("FROM $T\n", 1, "base name ($T) should not be blank"),
    ("FROM a:b:c\n", 1, 'invalid reference format: "a:b:c"'),
    ("FROM SCRATCH\n", 1, "invalid reference format: repository name must be lowercase"),
    ("FROM --foo=1 a\n", 1, "Unknown flag: foo"),
    ("FROM --platform=a/b/c/d a\n", 1, "failed to parse platform a/b/c/d"),
    ("FROM --platform=$X a\n", 1, "empty platform value from expression $X"),
    # variables
    ("FROM base\nENV\n", 2, "ENV requires at least one argument"),
    ("FROM base\nENV a\n", 2, "ENV must have two arguments"),
    ("FROM base\nENV a=b c\n", 2, 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
    ("FROM base\nENV =b\n", 2, "ENV names can not be blank"),
    ("FROM base\nENV $x=b\n", 2, "ENV names can not be blank"),
    (
        "FROM base\nENV a='x\n",
        2,
        'failed to process "\'x": unexpected end of statement while looking for matching single',
    ),
    ("FROM base\nENV a=${x:?no}\n", 2, 'failed to process "${x:?no}": x: no'),
    ("FROM base\nLABEL\n", 2, "LABEL requires at least one argument"),
    ("FROM base\nARG\n", 2, "ARG requires at least one argument"),
    ("FROM base\nARG =x\n", 2, "ARG names can not be blank"),
    # programs
    ('FROM base\nRUN ["a", 1]\n', 2, "when using JSON array syntax, arrays must be comprised of strings only"),
    ('FROM base\nCMD ["\\u0000"]\n', 2, "NUL"),
    ("FROM base\nRUN\n", 2, "RUN has no command"),
    ("FROM base\nRUN --mount=type=cache,target=/x true\n", 2, f"the --mount option {_BUILDKIT}"),
    ("FROM base\nRUN --security=insecure true\n", 2, f"the --security option {_BUILDKIT}"),
    ("FROM base\nRUN --network=x true\n", 2, 'invalid network mode "x"'),
    ("FROM base\nRUN --foo true\n", 2, "Unknown flag: foo"),
    ("FROM base\nRUN <<E\nx\n", 2, "unterminated heredoc <<E"),
    ("FROM base\nRUN <<E\n#!\nE\n", 2, "#!"),
    ("FROM base\nSHELL sh\n", 2, "SHELL requires the arguments to be in JSON form"),
    ("FROM base\nSHELL []\n", 2, "SHELL requires at least one argument"),
    ("FROM base\nSHELL\n", 2, "SHELL requires at least one argument"),
    # files
    ("FROM base\nCOPY a\n", 2, "COPY requires at least two arguments, but only one was provided."),
    ("FROM base\nCOPY a b /x\n", 2, "the destination must be a directory and end with a /: /x"),
    ("FROM base\nCOPY --foo=x a b\n", 2, "Unknown flag: foo"),
    ("FROM base\nCOPY --chown a b\n", 2, "Missing a value on flag: chown"),
    ("FROM base\nCOPY --from=a --from=b a b\n", 2, "Duplicate flag specified: from"),
    ("FROM base\nCOPY --link=x a b\n", 2, "Expecting boolean value for flag link, not: x"),
    ("FROM base\nCOPY --chmod=x a b\n", 2, "invalid chmod parameter: 'x'"),
    ("FROM base\nCOPY --parents a b\n", 2, f"the --parents option {_BUILDKIT}"),
    ("FROM base\nADD --from=base /a b\n", 2, "Unknown flag: from"),
    ("FROM base\nADD --checksum=x a b\n", 2, f"the --checksum option {_BUILDKIT}"),
    ("FROM base\nCOPY a <<E\nE\n", 2, "COPY cannot accept a heredoc as a destination"),
    ("FROM base AS x\nCOPY --from=x a b\n", 2, "invalid from flag value x: refers to current build stage"),
    ("FROM base AS x\nCOPY --from=0 a b\n", 2, "invalid from flag value 0: refers to current build stage"),
    ("FROM base\nCOPY --from=1 a b\n", 2, "invalid from flag value 1: index out of bounds"),
    ("FROM base\nCOPY --from=-1 a b\n", 2, "invalid from flag value -1: index out of bounds"),
    ("FROM base AS a\nCOPY --from=b x y\nFROM a AS b\n", 2, "invalid from flag value b: that stage comes later"),
    ("FROM base\nCOPY --from=$x a b\n", 2, "invalid from flag value $x: invalid reference format"),
    ("FROM base\nCOPY --from=scratch a b\n", 2, "invalid from flag value scratch"),
    # the rest
    ("FROM base\nEXPOSE\n", 2, "EXPOSE requires at least one argument"),
    ("FROM base\nEXPOSE abc\n", 2, "Invalid containerPort: abc"),
    ("FROM base\nEXPOSE 90-80\n", 2, "Invalid containerPort: 90-80"),
    ("FROM base\nEXPOSE 70000\n", 2, "Invalid containerPort: 70000"),
    ("FROM base\nEXPOSE 80/foo\n", 2, "Invalid proto: foo"),
    ("FROM base\nEXPOSE x:80\n", 2, "Invalid hostPort: x"),
    ("FROM base\nEXPOSE 1-2:20-22\n", 2, "Invalid ranges specified for container and host Ports: 20-22 and 1-2"),
    ("FROM base\nEXPOSE a:1:2\n", 2, "Invalid ip address: a"),
    ("FROM base\nEXPOSE /tcp\n", 2, "No port specified: /tcp<empty>"),
    ("FROM base\nSTOPSIGNAL 0\n", 2, "Invalid signal: 0"),
    ("FROM base\nVOLUME\n", 2, "VOLUME requires at least one argument"),
    ('FROM base\nVOLUME ["/a", ""]\n', 2, "VOLUME specified can not be an empty string"),
    ("FROM base\nVOLUME $x\n", 2, "VOLUME specified can not be an empty string"),
    ("FROM base\nUSER\n", 2, "USER requires exactly one argument"),
    ("FROM base\nWORKDIR\n", 2, "WORKDIR requires exactly one argument"),
    ("FROM base\nWORKDIR $HOME\n", 2, "cannot normalize nothing"),
    ("FROM base\nMAINTAINER\n", 2, "MAINTAINER requires exactly one argument"),
    ("FROM base\nSTOPSIGNAL FOO\n", 2, "Invalid signal: FOO"),
    ("FROM base\nHEALTHCHECK\n", 2, "HEALTHCHECK requires at least one argument"),
    ("FROM base\nHEALTHCHECK NONE x\n", 2, "HEALTHCHECK NONE takes no arguments"),
    ("FROM base\nHEALTHCHECK CMD\n", 2, "Missing command after HEALTHCHECK CMD"),
    ("FROM base\nHEALTHCHECK FOO x\n", 2, 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
    ("FROM base\nHEALTHCHECK --retries=0 CMD x\n", 2, "--retries must be at least 1 (not 0)"),
    ("FROM base\nHEALTHCHECK --retries=x CMD x\n", 2, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ("FROM base\nHEALTHCHECK --interval=5 CMD x\n", 2, 'time: missing unit in duration "5"'),
    ("FROM base\nHEALTHCHECK --interval=x CMD x\n", 2, 'time: invalid duration "x"'),
    ("FROM base\nHEALTHCHECK --interval=-5s CMD x\n", 2, 'Interval "interval" cannot be less than 1ms'),
    ("FROM base\nHEALTHCHECK --interval=1us CMD x\n", 2, 'Interval "interval" cannot be less than 1ms'),
    ("FROM base\nONBUILD\n", 2, "ONBUILD requires at least one argument"),
    ("FROM base\nONBUILD ONBUILD RUN x\n", 2, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
    ("FROM base\nONBUILD FROM x\n", 2, "FROM isn't allowed as an ONBUILD trigger"),
    ("FROM base\nONBUILD ENV a\n", 2, "ENV must have two arguments"),
]


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES, ids=[repr(text) for text, _, _ in MISTAKES])
def test_a_mistake(plan: Callable[..., Plan], text: str, line: int, words: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        plan(text)

    assert raised.value.message.startswith(f"Dockerfile:{line}: ")
    assert words in raised.value.message


def test_a_message_commands_no_terminal(plan: Callable[..., Plan]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        plan("F\x1b[2JOO x\n")

    assert raised.value.message == "Dockerfile:1: unknown instruction: F\\x1b[2JOO"


@pytest.mark.parametrize(
    "text",
    [
        "FROM base\nENV a=xx\n" + "ENV a=$a$a\n" * 60,
        "FROM base\n" + "".join(f"ENV a{number}=x\n" for number in range(20_000)),
        "FROM base\n" + "".join(f"ARG a{number}=x\n" for number in range(20_000)),
        "FROM base\nENV a=" + "a" * 500_000 + "\n" + "ENV b=${a##*b}\n" * 1000,
        "FROM base\nEXPOSE 1-65535\n" + "EXPOSE 80\n" * 1000,
    ],
    ids=["doubling", "variables", "arguments", "patterns", "ports"],
)
@pytest.mark.timeout(120)
def test_a_short_recipe_does_not_ask_for_everything(plan: Callable[..., Plan], text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^Dockerfile:\d+: .*(too large|more than)"):
        plan(text)
