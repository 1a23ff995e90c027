"""An image's configuration, and what single instructions make of it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from pyd_contracts.errors import InvalidArgument
from pyd_frontend_dockerfile.budget import Budget
from pyd_frontend_dockerfile.mistakes import Mistake

__all__ = ["Configuration", "absolute", "base_config", "read_ports", "read_signal", "read_workdir"]

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LISTS = ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild")
_TABLES = ("ExposedPorts", "Volumes", "Labels")
_TEXTS = ("User", "WorkingDir", "StopSignal")
_SIGNALS = frozenset(
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN"
    " TTOU UNUSED URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX".split()
    + [f"RTMIN+{n}" for n in range(1, 16)]
    + [f"RTMAX-{n}" for n in range(1, 15)]
)


def base_config(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The ``config`` object of a base image's document, without what is null."""
    config = document.get("config")
    if config is None:
        config = {}
    if not isinstance(config, Mapping):
        raise InvalidArgument(f"image {name}: its config is no object")
    found = {key: value for key, value in config.items() if value is not None}
    for key in _LISTS:
        if key in found and not _strings(found[key]):
            raise InvalidArgument(f"image {name}: {key} of its config is no list of strings")
    for key in _TABLES:
        if key in found and not isinstance(found[key], Mapping):
            raise InvalidArgument(f"image {name}: {key} of its config is no object")
    for key in _TEXTS:
        if key in found and not isinstance(found[key], str):
            raise InvalidArgument(f"image {name}: {key} of its config is no string")
    return found


class Configuration:
    """A configuration that steps change. What was given out before does not change with it."""

    def __init__(self, config: Mapping[str, Any], budget: Budget) -> None:
        self._config = dict(config)
        self._budget = budget
        self._environment: dict[str, str] | None = None
        if "PATH" not in self.environment:
            self.set("Env", [*self._config.get("Env", ()), PATH])

    @property
    def whole(self) -> dict[str, Any]:
        """As it is now."""
        self._budget.spend(len(self._config))
        return dict(self._config)

    @property
    def environment(self) -> dict[str, str]:
        """Variables by name."""
        if self._environment is None:
            pairs = (item.partition("=") for item in self._config.get("Env", ()))
            self._environment = {name: value for name, _, value in pairs}
        return self._environment

    @property
    def shell(self) -> list[str]:
        """What runs a command line."""
        return list(self._config.get("Shell") or ["/bin/sh", "-c"])

    @property
    def workdir(self) -> str:
        """Where relative paths begin."""
        return str(self._config.get("WorkingDir") or "/")

    def set(self, key: str, value: Any) -> None:
        """Put a value in place; None: take it out."""
        if key == "Env":
            self._environment = None
        if value is None:
            self._config.pop(key, None)
            return
        self._budget.spend(len(value) if isinstance(value, list | dict) else 1)
        self._config[key] = value

    def set_variables(self, pairs: Sequence[tuple[str, str]]) -> None:
        """``ENV``: a variable that is there keeps its place."""
        items = list(self._config.get("Env", ()))
        places: dict[str, int] = {}
        for place, item in enumerate(items):
            places.setdefault(item.partition("=")[0], place)
        for name, value in pairs:
            if name in places:
                items[places[name]] = f"{name}={value}"
            else:
                places[name] = len(items)
                items.append(f"{name}={value}")
        self.set("Env", items)

    def add_to(self, key: str, entries: Mapping[str, Any]) -> None:
        """Add entries to a table."""
        self.set(key, {**self._config.get(key, {}), **entries})

    def append(self, key: str, item: str) -> None:
        """Add an item to a list."""
        self.set(key, [*self._config.get(key, ()), item])


def read_ports(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``80``, ``80-90/udp``; an address and ports of the host before them mean nothing to an image, but have to be such."""
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        ports, _, protocol = word.partition("/")
        protocol = protocol.lower() or "tcp"
        before, _, ports = ports.rpartition(":")
        address, _, host = before.rpartition(":")
        if not ports:
            raise Mistake(f"No port specified: {word}<empty>")
        inner = _range(ports, "containerPort")
        if host and len(outer := _range(host, "hostPort")) not in (1, len(inner)):
            raise Mistake(f"Invalid ranges specified for container and host Ports: {ports} and {outer[0]}-{outer[-1]}")
        if address and not _is_address(address.strip("[]")):
            raise Mistake(f"Invalid ip address: {address}")
        if protocol not in ("tcp", "udp", "sctp"):
            raise Mistake(f"Invalid proto: {protocol}")
        found.update({f"{port}/{protocol}": {} for port in inner})
    return found


def _range(text: str, what: str) -> range:
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < 65536:
        raise Mistake(f"Invalid {what}: {text}")
    return range(first, last + 1)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def read_signal(text: str) -> str:
    """A signal by number or name. Any number but 0 will do, as it does with dockerd."""
    if re.fullmatch(r"[+-]?[0-9]{1,9}", text, re.ASCII):
        if int(text) == 0:
            raise Mistake(f"Invalid signal: {text}")
    elif text.upper().removeprefix("SIG") not in _SIGNALS:
        raise Mistake(f"Invalid signal: {text}")
    return text


def read_workdir(now: str, wanted: str) -> str:
    """A directory; a relative one is below the one of *now*, an absolute one stays as it was written."""
    if not wanted:
        raise Mistake("cannot normalize nothing")
    return wanted if wanted.startswith("/") else absolute(now, wanted)


def absolute(now: str, path: str) -> str:
    """*path*, seen from *now*, without what is superfluous."""
    return "/" + posixpath.normpath(posixpath.join("/", now, path)).lstrip("/")


def _strings(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
