"""Reading the configuration: defaults, then the file, then the environment, then flags; later wins, value by value."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pyd_daemon.config.configuration import ConfigError, Configuration, Origin, Value
from pyd_daemon.config.keys import DRIVER_TABLES, KEYS, TABLES, Key

__all__ = ["DEFAULT_FILE", "load"]

DEFAULT_FILE = Path("/etc/pyd/pyd.toml")


def load(
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    insecure_tcp: bool = False,
) -> Configuration:
    """Read and check everything.

    file    a file that must be there; None: ``PYD_CONFIG`` if set, else `DEFAULT_FILE` if it is there
    flags   values by key name, for the flags that were given

    Raises ConfigError with every fault found.
    """
    environ = os.environ if environ is None else environ
    file, must = _which(file, environ)
    faults: list[str] = []
    document = _parse(file, must)
    given: dict[str, tuple[Any, Origin]] = {key.name: (key.default, Origin("default")) for key in KEYS.values()}
    tables: dict[str, dict[str, Mapping[str, Any]]] = {}
    if document is not None:
        from_file = Origin("file", str(file))
        given |= {name: (raw, from_file) for name, raw in _flatten(document, str(file), tables, faults).items()}
    for key in KEYS.values():
        if key.env and (text := environ.get(key.env)):
            given[key.name] = (text.split(",") if key.many else text, Origin("env", key.env))
    for name, raw in (flags or {}).items():
        given[name] = (raw, Origin("flag", KEYS[name].flag))
    values = {name: value for name, (raw, origin) in given.items() if (value := _read(KEYS[name], raw, origin, faults))}
    if faults:
        raise ConfigError(faults)
    configuration = Configuration(values, tables, file if document is not None else None, insecure_tcp)
    if faults := _tcp_faults(configuration):
        raise ConfigError(faults)
    return configuration


def _which(file: Path | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    if file is not None:
        return file, True
    if named := environ.get("PYD_CONFIG"):
        return Path(named), True
    return DEFAULT_FILE, False


def _parse(file: Path, must: bool) -> dict[str, Any] | None:
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError as error:
        if must:
            raise ConfigError([f"the configuration file {file} is not there"]) from error
        return None
    except OSError as error:
        raise ConfigError([f"read the configuration file {file}: {(error.strerror or str(error)).lower()}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: byte {error.start} is not UTF-8"]) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{file}: {error}"]) from error


def _flatten(
    document: Mapping[str, Any], where: str, tables: dict[str, dict[str, Mapping[str, Any]]], faults: list[str]
) -> dict[str, Any]:
    """Keys of the document by full name; driver tables go to *tables*."""
    found: dict[str, Any] = {}
    top = {name for name in KEYS if "." not in name}
    for name, raw in document.items():
        if name in TABLES:
            if isinstance(raw, dict):
                found |= _table(name, raw, where, tables, faults)
            else:
                faults.append(f"{where}: [{name}] must be a table, not {raw!r}")
        elif name in top:
            found[name] = raw
        else:
            faults.append(f"{where}: unknown key {_unknown(name, [*top, *TABLES])}")
    return found


def _table(
    table: str,
    content: Mapping[str, Any],
    where: str,
    tables: dict[str, dict[str, Mapping[str, Any]]],
    faults: list[str],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, raw in content.items():
        if name in TABLES[table]:
            found[f"{table}.{name}"] = raw
        elif isinstance(raw, dict) and table in DRIVER_TABLES:
            tables.setdefault(table, {})[name] = raw
        else:
            faults.append(f"{where}: unknown key in [{table}]: {_unknown(name, TABLES[table])}")
    return found


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(sorted(known))}"
    return f'"{name}"; {hint}'


def _read(key: Key, raw: Any, origin: Origin, faults: list[str]) -> Value | None:
    try:
        return Value(key.name, raw, key.shape.read(raw), origin)
    except ValueError as error:
        table, dot, name = key.name.rpartition(".")
        shown = f"[{table}] {name}" if dot else name
        why = f": {error}" if str(error) else ""
        faults.append(f"{shown} {origin.phrase} must be {key.shape.words}, not {raw!r}{why}")
        return None


def _tcp_faults(configuration: Configuration) -> list[str]:
    faults = []
    for text, host in zip(configuration.values["hosts"].raw, configuration.hosts, strict=True):
        where = f'hosts {configuration.values["hosts"].origin.phrase}: "{text}"'
        if host.scheme != "tcp":
            continue
        if not host.loopback:
            faults.append(
                f"{where}: a port without TLS makes everyone who reaches it root on this host; only loopback addresses "
                "are served; from elsewhere, use ssh (docker -H ssh://user@host)"
            )
        elif not configuration.insecure_tcp:
            faults.append(
                f"{where}: every user of this host could become root through it; if that is meant, add --insecure-tcp, "
                "else use unix:///run/pyd/pyd.sock"
            )
    return faults
