"""Instructions as they stand in the recipe, checked as far as no variable matters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyd_frontend_dockerfile.forms import (
    Command,
    command_form,
    flags_form,
    json_form,
    list_form,
    pairs_form,
    read_flags,
)
from pyd_frontend_dockerfile.health import read_health
from pyd_frontend_dockerfile.lines import Heredoc, Line, split_words
from pyd_frontend_dockerfile.mistakes import Mistake
from pyd_frontend_dockerfile.quoting import quoted

__all__ = ["Files", "Instruction", "Program", "Start", "read_instruction"]

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*", re.ASCII)
_BUILDKIT = (
    "the --{0} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with "
    "BuildKit enabled"
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    text   on one line, as written
    value  what its reader made of it
    """

    keyword: str
    text: str
    line: int
    escape: str
    value: Any


@dataclass(frozen=True, slots=True)
class Start:
    """``FROM``."""

    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """``RUN``, ``CMD`` and ``ENTRYPOINT``."""

    command: Command
    flags: Mapping[str, str] = field(default_factory=dict)
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Files:
    """``COPY`` and ``ADD``."""

    sources: tuple[str, ...]
    destination: str
    flags: Mapping[str, str]
    heredocs: tuple[Heredoc, ...]


@dataclass(frozen=True, slots=True)
class _Text:
    """What stands behind the keyword."""

    keyword: str
    flags: tuple[str, ...]
    rest: str
    line: Line
    escape: str


def read_instruction(line: Line, escape: str) -> Instruction:
    """Read one line."""
    word, *more = re.split(r"[\t\v\f\r ]+", line.text.strip(), maxsplit=1)
    reader = _READERS.get(word.upper())
    if reader is None:
        raise Mistake(f"unknown instruction: {word if len(word) <= 200 else word[:200] + '…'}")
    flags, rest = flags_form(more[0] if more else "", escape)
    value = reader(_Text(word.upper(), flags, rest.strip(), line, escape))
    return Instruction(word.upper(), line.text.strip(), line.number, escape, value)


def _from(text: _Text) -> Start:
    words = text.rest.split()
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise Mistake(
                f"invalid name for build stage: {quoted(words[2])}, name can't start with a number or contain symbols"
            )
    elif len(words) != 1:
        raise Mistake("FROM requires either one or three arguments")
    return Start(words[0], name, read_flags(text.flags, ("platform",)).get("platform", ""))


def _run(text: _Text) -> Program:
    for flag in text.flags:
        name = flag[2:].partition("=")[0]
        if name in ("mount", "security", "device"):
            raise Mistake(_BUILDKIT.format(name))
    flags = read_flags(text.flags, ("network",))
    if flags.get("network", "default") not in ("default", "none", "host"):
        raise Mistake(f"invalid network mode {quoted(flags['network'])}, supported: default, none, host")
    command = command_form(text.rest)
    if not command.words:
        raise Mistake(f"RUN has no command: {quoted(text.line.text.strip())}")
    return Program(command, flags, text.line.heredocs)


def _program(text: _Text) -> Program:
    read_flags(text.flags, ())
    return Program(command_form(text.rest))


def _files(text: _Text) -> Files:
    for flag in text.flags:
        name = flag[2:].partition("=")[0]
        if name in ("parents", "exclude", "checksum", "keep-git-dir", "unpack"):
            raise Mistake(_BUILDKIT.format(name))
    allowed = ("chown", "chmod", "from") if text.keyword == "COPY" else ("chown", "chmod")
    words = list_form(text.rest)
    if len(words) < 2:
        raise Mistake(
            f"{text.keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    if any(each.mark == words[-1] for each in text.line.heredocs):
        raise Mistake(f"{text.keyword} cannot accept a heredoc as a destination")
    return Files(words[:-1], words[-1], read_flags(text.flags, allowed, ("link",)), text.line.heredocs)


def _pairs(text: _Text) -> tuple[tuple[str, str], ...]:
    read_flags(text.flags, ())
    found = pairs_form(text.keyword, text.rest, text.escape)
    if not found:
        raise Mistake(f"{text.keyword} requires at least one argument")
    if not all(name for name, _ in found):
        raise Mistake(f"{text.keyword} names can not be blank")
    return found


def _arg(text: _Text) -> tuple[tuple[str, str | None], ...]:
    read_flags(text.flags, ())
    words = split_words(text.rest, text.escape)
    if not words:
        raise Mistake("ARG requires at least one argument")
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise Mistake("ARG names can not be blank")
        found.append((name, value if equals else None))
    return tuple(found)


def _one(text: _Text) -> str:
    read_flags(text.flags, ())
    if not text.rest:
        raise Mistake(f"{text.keyword} requires exactly one argument")
    return text.rest


def _ports(text: _Text) -> tuple[str, ...]:
    read_flags(text.flags, ())
    if not text.rest:
        raise Mistake("EXPOSE requires at least one argument")
    return tuple(sorted(text.rest.split()))


def _volumes(text: _Text) -> tuple[str, ...]:
    read_flags(text.flags, ())
    found = list_form(text.rest)
    if not found:
        raise Mistake("VOLUME requires at least one argument")
    if not all(each.strip() for each in found):
        raise Mistake("VOLUME specified can not be an empty string")
    return tuple(each.strip() for each in found)


def _shell(text: _Text) -> tuple[str, ...]:
    read_flags(text.flags, ())
    words = json_form(text.rest)
    if words is None and text.rest:
        raise Mistake(f"SHELL requires the arguments to be in JSON form: {quoted(text.rest[:200])}")
    if not words:
        raise Mistake("SHELL requires at least one argument")
    return words


def _onbuild(text: _Text) -> str:
    read_flags(text.flags, ())
    if not text.rest:
        raise Mistake("ONBUILD requires at least one argument")
    trigger, *more = text.rest.split(maxsplit=1)
    trigger = trigger.upper()
    if trigger == "ONBUILD":
        raise Mistake("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("FROM", "MAINTAINER"):
        raise Mistake(f"{trigger} isn't allowed as an ONBUILD trigger")
    if trigger in ("ENV", "LABEL"):  # of others only who stands on the image learns what is wrong, as with dockerd
        pairs_form(trigger, more[0] if more else "", text.escape)
    expression = re.sub(r"^\s*ONBUILD\s*", "", text.line.text, flags=re.IGNORECASE)
    return expression + "".join(f"\n{each.written}{each.name}" for each in text.line.heredocs)


def _health(text: _Text) -> dict[str, Any]:
    return read_health(text.flags, text.rest)


_READERS: Mapping[str, Callable[[_Text], Any]] = {
    "ADD": _files,
    "ARG": _arg,
    "CMD": _program,
    "COPY": _files,
    "ENTRYPOINT": _program,
    "ENV": _pairs,
    "EXPOSE": _ports,
    "FROM": _from,
    "HEALTHCHECK": _health,
    "LABEL": _pairs,
    "MAINTAINER": _one,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _one,
    "USER": _one,
    "VOLUME": _volumes,
    "WORKDIR": _one,
}
