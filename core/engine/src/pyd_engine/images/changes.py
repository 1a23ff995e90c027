"""``--change`` of ``docker import`` and ``docker commit``: single Dockerfile instructions applied to a configuration."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pyd_contracts.errors import InvalidArgument

__all__ = ["apply_changes"]

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)


def apply_changes(config: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The ``config`` object of an image configuration after *changes*. InvalidArgument names the line.

    >>> apply_changes({}, ["ENV a=b", 'CMD ["sh"]'])
    {'Env': ['a=b'], 'Cmd': ['sh']}
    """
    changed = dict(config)
    for line in changes:
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        handler = _HANDLERS.get(word.upper())
        if handler is None:
            raise InvalidArgument(f"{word.lower() or 'an empty line'} is not a valid change command")
        if not rest:
            raise InvalidArgument(f"{word.upper()} requires at least one argument")
        try:
            handler(changed, _expanded(rest, changed) if word.upper() in _EXPANDED else rest)
        except ValueError as error:
            raise InvalidArgument(f"change {line[:200]!r}: {error}") from error
    return changed


def _command(rest: str) -> list[str]:
    """The JSON form, or the shell form wrapped in the shell."""
    if rest.startswith("["):
        try:
            found = json.loads(rest)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return found
    return ["/bin/sh", "-c", rest]


def _pairs(rest: str, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """``a=b "c d"=e`` or the old form ``name value``, with variables of the configuration expanded."""
    words = _words(rest, _variables(config))
    if words and "=" not in words[0]:
        name, _, value = rest.partition(" ")
        if not value.strip():
            raise ValueError(f"{name} must have two arguments")
        return [(name, _expanded(value.strip(), config))]
    pairs = [word.partition("=") for word in words]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise ValueError(f"{name!r}: want name=value")
    return [(name, value) for name, _, value in pairs]


def _names(rest: str) -> list[str]:
    found = json.loads(rest) if rest.startswith("[") else rest.split()
    if not isinstance(found, list) or not all(isinstance(item, str) and item for item in found):
        raise ValueError("want a list of non-empty names")
    return found


def _cmd(config: dict[str, Any], rest: str) -> None:
    config["Cmd"] = _command(rest)


def _entrypoint(config: dict[str, Any], rest: str) -> None:
    config["Entrypoint"] = _command(rest)


def _env(config: dict[str, Any], rest: str) -> None:
    env = list(config.get("Env") or [])
    for name, value in _pairs(rest, config):
        kept = [item for item in env if item.partition("=")[0] != name]
        at = next((i for i, item in enumerate(env) if item.partition("=")[0] == name), len(kept))
        kept.insert(at, f"{name}={value}")
        env = kept
    config["Env"] = env


def _label(config: dict[str, Any], rest: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(rest, config))}


def _expose(config: dict[str, Any], rest: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in rest.split():
        match = _PORT.fullmatch(word)
        if match is None:
            raise ValueError(f"invalid containerPort: {word}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 < first <= last < 65536:
            raise ValueError(f"invalid containerPort: {word}")
        ports.update({f"{port}/{(match[3] or 'tcp').lower()}": {} for port in range(first, last + 1)})
    config["ExposedPorts"] = ports


def _volume(config: dict[str, Any], rest: str) -> None:
    config["Volumes"] = {**(config.get("Volumes") or {}), **{name: {} for name in _names(rest)}}


def _user(config: dict[str, Any], rest: str) -> None:
    config["User"] = rest


def _workdir(config: dict[str, Any], rest: str) -> None:
    config["WorkingDir"] = posixpath.normpath(posixpath.join(config.get("WorkingDir") or "/", rest))


def _stopsignal(config: dict[str, Any], rest: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9+-]{1,20}", rest, re.ASCII):
        raise ValueError(f"invalid signal: {rest}")
    config["StopSignal"] = rest


def _onbuild(config: dict[str, Any], rest: str) -> None:
    if rest.split(maxsplit=1)[0].upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise ValueError(f"{rest.split(maxsplit=1)[0].upper()} isn't allowed as an ONBUILD trigger")
    config["OnBuild"] = [*(config.get("OnBuild") or []), rest]


def _healthcheck(config: dict[str, Any], rest: str) -> None:
    health: dict[str, Any] = {}
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        rest = rest.strip()
        name, _, value = flag[2:].partition("=")
        if name == "retries":
            health["Retries"] = int(value)
        elif name in ("interval", "timeout", "start-period", "start-interval"):
            health["".join(part.capitalize() for part in name.split("-"))] = _duration(value)
        else:
            raise ValueError(f"unknown flag: {name}")
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE":
        health = {"Test": ["NONE"]}
    elif kind.upper() == "CMD" and command.strip():
        form = _command(command.strip())
        shell = form[:2] == ["/bin/sh", "-c"] and not command.strip().startswith("[")
        health["Test"] = ["CMD-SHELL", form[2]] if shell else ["CMD", *form]
    else:
        raise ValueError(f"unknown type {kind!r} in HEALTHCHECK (try CMD)")
    config["Healthcheck"] = health


def _duration(text: str) -> int:
    """Go's time.ParseDuration, in nanoseconds."""
    units = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    found = re.findall(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ns|us|ms|s|m|h)", text, re.ASCII)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise ValueError(f"invalid duration {text!r}")
    return int(sum(float(number) * units[unit] for number, unit in found))


_HANDLERS = {
    "CMD": _cmd, "ENTRYPOINT": _entrypoint, "ENV": _env, "LABEL": _label, "EXPOSE": _expose, "VOLUME": _volume,
    "USER": _user, "WORKDIR": _workdir, "STOPSIGNAL": _stopsignal, "ONBUILD": _onbuild, "HEALTHCHECK": _healthcheck,
}  # fmt: skip
_EXPANDED = frozenset({"EXPOSE", "VOLUME", "USER", "WORKDIR", "STOPSIGNAL"})
"""Instructions whose words may name variables, beside ENV and LABEL; in the others it is the shell's business."""


# --- words of a Dockerfile (its reference, "Environment replacement")


def _variables(config: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in config.get("Env") or ())}


def _expanded(text: str, config: Mapping[str, Any]) -> str:
    """*text* with variables in place, quotes and blanks as they are."""
    return "".join(_pieces(text, _variables(config), keep=True))


def _words(text: str, variables: Mapping[str, str]) -> list[str]:
    """Split at blanks that are in no quotes; a value with blanks in it stays one word."""
    found: list[str] = []
    open_word = False
    for piece in _pieces(text, variables, keep=False):
        if piece is _BLANK:
            open_word = False
        elif open_word:
            found[-1] += piece
        else:
            found.append(piece)
            open_word = True
    return found


_BLANK = "\0blank"
_PIECE = re.compile(
    r"""
    (?P<blank>\s+) | '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | \\(?P<escaped>.)
    | \$(?P<name>[A-Za-z_][A-Za-z0-9_]*) | \$\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<how>[-+])(?P<word>[^}]*))?\}
    | (?P<plain>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def _pieces(text: str, variables: Mapping[str, str], *, keep: bool) -> list[str]:
    """The parts of *text* with variables in place. *keep*: with the quotes, and blanks as they are."""
    found = []
    for match in _PIECE.finditer(text):
        part, value = match[0], match[0]
        if match["blank"] is not None:
            value = part if keep else _BLANK
        elif match["single"] is not None:
            value = part if keep else match["single"]
        elif match["double"] is not None:
            inner = "".join(_pieces_within(match["double"], variables))
            value = f'"{inner}"' if keep else inner
        elif match["escaped"] is not None:
            value = match["escaped"]
        elif (name := match["name"] or match["braced"]) is not None:
            value = variables.get(name, "")
            if match["how"] == "-" and not value:
                value = match["word"]
            elif match["how"] == "+":
                value = match["word"] if value else ""
        elif part in "\"'":
            raise ValueError("unexpected end of statement while looking for the matching quote")
        found.append(value)
    return found


def _pieces_within(text: str, variables: Mapping[str, str]) -> list[str]:
    """Between double quotes blanks and single quotes are themselves."""
    return [
        piece
        for part in re.split(r"(\s+|')", text)
        for piece in ([part] if re.fullmatch(r"\s+|'", part) else _pieces(part, variables, keep=False))
    ]
