"""What log drivers share: options and their texts, tags, the labels and variables that go along with each message.

The words are Docker's (daemon/logger), because people and programs match on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import LogSource

__all__ = ["DETAILS", "FAILED", "attributes", "boolean", "check_details", "check_known", "size_of", "tag"]

DETAILS = frozenset({"env", "env-regex", "labels", "labels-regex", "tag"})
"""Options that `check_details`, `attributes` and `tag` are about."""

FAILED = "failed to initialize logging driver"
"""How messages begin about values that dockerd looks at when it starts a container."""

_SIZE = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?) ?(?:([kmgtp])i?b?|b)?", re.IGNORECASE)
_FIELD = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_FIELDS: Mapping[str, Callable[[LogSource], str]] = {
    ".ID": lambda source: source.container[:12],
    ".FullID": lambda source: source.container,
    ".Name": lambda source: source.name,
    ".ImageID": lambda source: source.image_id.removeprefix("sha256:")[:12],
    ".ImageFullID": lambda source: source.image_id,
    ".ImageName": lambda source: source.image,
    ".DaemonName": lambda source: source.daemon,
    ".Command": lambda source: " ".join(source.command),
    ".ContainerID": lambda source: source.container,
    ".ContainerName": lambda source: f"/{source.name}",
    ".ContainerImageID": lambda source: source.image_id,
    ".ContainerImageName": lambda source: source.image,
}


def check_known(driver: str, options: Mapping[str, str], known: Collection[str]) -> None:
    """Raise InvalidArgument for the first option that is not known."""
    for key in sorted(options):
        if key not in known:
            raise InvalidArgument(f"unknown log opt '{key}' for {driver} log driver")


def check_details(options: Mapping[str, str]) -> None:
    """Raise InvalidArgument for a tag or a pattern that cannot work."""
    if "{{" in _FIELD.sub("", options.get("tag", "")):
        raise InvalidArgument(f"{FAILED}: log tag {options['tag']!r}: unclosed action")
    for found in _FIELD.findall(options.get("tag", "")):
        if found not in _FIELDS:
            raise InvalidArgument(
                f"{FAILED}: log tag {options['tag']!r}: {{{{{found}}}}} is not known; known are {', '.join(sorted(_FIELDS))}"
            )
    for key in ("labels-regex", "env-regex"):
        try:
            re.compile(options.get(key, ""))
        except re.error as error:
            raise InvalidArgument(f"{FAILED}: error parsing regexp of {key}: {options[key]!r}: {error}") from error


def tag(source: LogSource, default: str = "{{.ID}}") -> str:
    """The option ``tag`` with its fields filled in.

    >>> from pathlib import Path
    >>> tag(LogSource("0f3a" * 16, "web", "nginx:1", "sha256:" + "1" * 64, 0, ("sh",), Path("/"),
    ...               options={"tag": "{{.ImageName}}/{{.Name}}/{{.ID}}"}))
    'nginx:1/web/0f3a0f3a0f3a'
    """
    template = source.options.get("tag") or default
    return _FIELD.sub(lambda match: _FIELDS[match[1]](source), template)


def attributes(source: LogSource) -> dict[str, str]:
    """Labels and variables that the options ``labels``, ``env`` and their patterns select. Variables win."""
    options = source.options
    pairs = (item.partition("=") for item in source.env)
    variables = {name: value for name, equals, value in pairs if equals}
    return {
        **_selected(source.labels, options.get("labels", ""), options.get("labels-regex", "")),
        **_selected(variables, options.get("env", ""), options.get("env-regex", "")),
    }


def _selected(values: Mapping[str, str], names: str, pattern: str) -> dict[str, str]:
    wanted = set(filter(None, names.split(",")))
    matching = re.compile(pattern) if pattern else None
    return {
        key: value for key, value in values.items() if key in wanted or (matching is not None and matching.search(key))
    }


def size_of(text: str) -> int:
    """``10m``, ``1.5gb``, ``100``: bytes, in powers of 1024 (go-units' RAMInBytes). Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    power = "kmgtp".index(match[2].lower()) + 1 if match[2] else 0
    return int(float(match[1]) * 1024**power)


def boolean(options: Mapping[str, str], key: str, default: str = "false", doing: str = "") -> bool:
    """A yes or no as Go's strconv.ParseBool reads it. Raises InvalidArgument; *doing* stands before its words."""
    text = options.get(key, default)
    if text not in _TRUE + _FALSE:
        raise InvalidArgument(f'{doing}strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE
