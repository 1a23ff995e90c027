"""The shapes that values of the configuration may have. A shape checks a value and makes it what the daemon uses."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyd_contracts.log_details import size_of
from pyd_daemon.config.hosts import parse_host

__all__ = [
    "BOOLEAN",
    "HOSTS",
    "LABELS",
    "MIRRORS",
    "NAMES",
    "OPTIONS",
    "PATH",
    "POOLS",
    "TEXT",
    "AddressPool",
    "Shape",
    "integer",
    "one_of",
    "size",
]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value must be.

    words  completes "must be …"
    read   returns the value in the daemon's type; raises ValueError, whose text, if any, says what is wrong with a
           value of the right type
    """

    words: str
    read: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class AddressPool:
    """A range that subnets of networks are cut from: *base*, and the prefix length of one subnet."""

    base: ipaddress.IPv4Network | ipaddress.IPv6Network
    size: int

    def __str__(self) -> str:
        return f"{self.base} size {self.size}"


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(_text(item) for item in value)


def _path(value: Any) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError("it must begin with /")
    return path


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _names(value: Any) -> tuple[str, ...]:
    names = _strings(value)
    if len(set(names)) != len(names):
        raise ValueError("a name is there twice")
    return names


def _hosts(value: Any) -> tuple[str, ...]:
    hosts = _strings(value)
    if not hosts:
        raise ValueError("nobody could reach the daemon")
    for host in hosts:
        parse_host(host)
    return hosts


def _labels(value: Any) -> tuple[str, ...]:
    labels = _strings(value)
    for label in labels:
        key, equals, _ = label.partition("=")
        if not key or not equals:
            raise ValueError(f"{label!r} has no key and value")
    return labels


def _options(value: Any) -> dict[str, str]:
    """A table of strings; from the command line a list of ``key=value``."""
    if isinstance(value, list):
        pairs = [text.partition("=") for text in _strings(value)]
        if lacking := [key for key, equals, _ in pairs if not key or not equals]:
            raise ValueError(f"{lacking[0]!r} has no key and value")
        return {key: text for key, _, text in pairs}
    if not isinstance(value, dict):
        raise ValueError
    return {key: _text(text) for key, text in value.items()}


def _mirrors(value: Any) -> tuple[str, ...]:
    mirrors = _strings(value)
    for mirror in mirrors:
        if not mirror.startswith(("https://", "http://")):
            raise ValueError(f"{mirror!r} does not begin with https:// or http://")
    return mirrors


def _pools(value: Any) -> tuple[AddressPool, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError
    return tuple(_pool(item) for item in value)


def _pool(table: dict[str, Any]) -> AddressPool:
    if set(table) != {"base", "size"}:
        raise ValueError(f"a pool has the keys base and size, not {', '.join(sorted(table)) or 'none'}")
    size = table["size"]
    try:
        base = ipaddress.ip_network(table["base"])
    except ValueError as error:
        raise ValueError(f"base: {error}") from error
    if not isinstance(size, int) or isinstance(size, bool) or not base.prefixlen <= size <= base.max_prefixlen - 2:
        raise ValueError(f"size of {base} must be from {base.prefixlen} to {base.max_prefixlen - 2}, not {size!r}")
    return AddressPool(base, size)


def integer(least: int, most: int) -> Shape:
    """A whole number within bounds."""

    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError
        return value

    return Shape(f"a whole number from {least} to {most}", read)


def size(least: int) -> Shape:
    """Bytes, as ``"512m"`` or ``"1g"``: powers of 1024."""

    def read(value: Any) -> int:
        found = size_of(value) if isinstance(value, str) else 0
        if found < least:
            raise ValueError
        return found

    return Shape(f'a size of at least {least} bytes, such as "512m"', read)


def one_of(*words: str) -> Shape:
    """One of a few words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Shape("one of " + ", ".join(f'"{word}"' for word in words), read)


TEXT = Shape("a string", _text)
PATH = Shape("an absolute path", _path)
BOOLEAN = Shape("true or false", _boolean)
NAMES = Shape("a list of different strings", _names)
HOSTS = Shape("a list of addresses to listen on", _hosts)
LABELS = Shape('a list of "key=value" strings', _labels)
OPTIONS = Shape('a table of strings, such as { "max-size" = "10m" }', _options)
MIRRORS = Shape("a list of URLs", _mirrors)
POOLS = Shape('a list of tables { base = "10.0.0.0/8", size = 24 }', _pools)
