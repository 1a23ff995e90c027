"""What log options mean for the spool and for readers: how much is kept, and which attributes ``--details`` shows.

Options of all drivers (``mode``, ``max-buffer-size``, ``cache-…``) are checked here, in dockerd's words (daemon/logger); a
driver checks its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.log import LogDriver
from pyd_contracts.log_details import attributes, size_of, tag
from pyd_contracts.values import LogSource
from pyd_engine.containers.container import Container
from pyd_engine.containers.host_config import LogConfig
from pyd_shim.segments import Policy

__all__ = ["check", "details", "most_waiting", "own", "policy", "size_of", "source_of"]

_SEGMENT = 16 << 20
_LEAST_SEGMENT = 4096
_LOCAL = (20 << 20, 5)  # max-size and max-file of Docker's driver of that name, and of what it caches for others
_UNREAD = 1 << 20
_BUFFER = 1 << 20
_COMMON = frozenset(
    "mode max-buffer-size cache-disabled cache-max-size cache-max-file cache-compress".split()
)  # fmt: skip
_FILES = ("json-file", "local")
"""Drivers whose own options say how much is kept."""


def own(options: Mapping[str, str] | None) -> dict[str, str]:
    """The options that are the driver's."""
    return {key: value for key, value in (options or {}).items() if key not in _COMMON}


def check(config: LogConfig, drivers: Mapping[str, LogDriver], absent: Mapping[str, str]) -> None:
    """Raise InvalidArgument unless a container can be made so. *absent* says why drivers are not ready, by name."""
    name, options = config.type, config.config or {}
    if name in absent:
        raise InvalidArgument(f"failed to initialize logging driver: {name} is not ready: {absent[name]}")
    driver: Any = drivers.get(name)
    if driver is None:
        raise InvalidArgument(f'error looking up logging plugin {name}: plugin "{name}" not found')
    if "nothing" in driver.capabilities:
        return
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options and mode != "non-blocking":
        raise InvalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    for key in ("max-buffer-size", "cache-max-size"):
        if key in options:
            _size(key, options[key])
    if options.get("cache-disabled", "") not in ("", "true", "false", "1", "0", "t", "f"):
        raise InvalidArgument(f"invalid value for option cache-disabled: {options['cache-disabled']}")
    files = options.get("cache-max-file", "1")
    if not files.isdigit() or int(files) < 1:
        raise InvalidArgument(f"cache-max-file must be a positive number, not {files!r}")
    driver.log_validate(options=own(options))


def _size(key: str, text: str) -> None:
    try:
        size_of(text)
    except ValueError as error:
        raise InvalidArgument(f"error parsing option {key}: {error}") from error


def policy(container: Container, keep: int, hold: int = 0) -> Policy:
    """How much of a container's output is kept: ``max-size`` times ``max-file`` where they are given, else *keep* bytes;
    what is not delivered yet up to *hold* bytes (0: nothing is delivered)."""
    options = container.host_config.log_config.config or {}
    kind = container.host_config.log_config.type
    if kind in _FILES:
        size, files = options.get("max-size"), options.get("max-file")
    else:
        size, files = options.get("cache-max-size"), options.get("cache-max-file")
        if options.get("cache-disabled", "") in ("true", "1", "t"):
            keep = _UNREAD
    bytes_ = size_of(size) if size is not None else _LOCAL[0] if kind == "local" or files is not None else -1
    count = int(files or (1 if kind == "json-file" else _LOCAL[1]))
    if bytes_ <= 0:
        segment = min(_SEGMENT, max(_LEAST_SEGMENT, keep // 4))
    else:
        # At least two segments, so that there is a past at the moment one begins.
        segment = max(_LEAST_SEGMENT, bytes_ * count // max(2, count))
        keep = max(2 * _LEAST_SEGMENT, bytes_ * count)
    if not hold:
        return Policy(segment, keep)
    block = options.get("mode") == "blocking"
    if block:
        segment = min(segment, max(_LEAST_SEGMENT, hold // 4))  # it is looked for room when a segment begins
    return Policy(segment, keep, max(hold, keep), block)


def most_waiting(container: Container) -> int:
    """How much may wait for its sink before the oldest is left out; 0: all of it may."""
    options = container.host_config.log_config.config or {}
    if options.get("mode") != "non-blocking":
        return 0
    return max(1, size_of(options.get("max-buffer-size", str(_BUFFER))))


def source_of(container: Container, place: Path, daemon: str = "pyd") -> LogSource:
    """A container as log drivers know it; *place* is its directory."""
    return LogSource(
        container=container.id,
        name=container.name,
        image=container.image_ref,
        image_id=container.image,
        created_ns=container.created_ns,
        command=(container.path, *container.args),
        place=place,
        env=container.config.env or (),
        labels=container.config.labels or {},
        options=own(container.host_config.log_config.config),
        daemon=daemon,
    )


def details(container: Container) -> str:
    """Labels and variables that the options ``labels``, ``env`` and their patterns select, as dockerd writes them; and the tag,
    if one was asked for and the driver is the one that keeps it."""
    source = source_of(container, Path("/"))
    found = attributes(source)
    if container.host_config.log_config.type == "json-file" and source.options.get("tag"):
        found["tag"] = tag(source)
    return ",".join(f"{quote_plus(key)}={quote_plus(found[key])}" for key in sorted(found))
