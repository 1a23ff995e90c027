"""`-v` and `--mount`."""

from __future__ import annotations

import os
from typing import Any

from pyd_cli.errors import CliError
from pyd_cli.flags import FALSE, TRUE
from pyd_cli.run_values import csv_fields
from pyd_cli.units import parse_size

_OWNERS = {"volume": "VolumeOptions", "bind": "BindOptions", "tmpfs": "TmpfsOptions", "image": "ImageOptions"}


def mount(text: str) -> dict[str, Any]:
    """`type=bind,src=/a,dst=/b,readonly` as the API's Mount. ValueError says which field is wrong."""
    spec: dict[str, Any] = {"Type": "volume"}
    options: dict[str, dict[str, Any]] = {}
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        key = key.lower().strip()
        if not equals and key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        if key == "type":
            spec["Type"] = value.lower()
        elif key in ("source", "src"):
            spec["Source"] = os.path.abspath(value) if value.startswith(".") else value
        elif key in ("target", "dst", "destination"):
            spec["Target"] = value
        elif key in ("readonly", "ro"):
            spec["ReadOnly"] = switch(key, value, equals)
        elif key == "consistency":
            spec["Consistency"] = value.lower()
        else:
            _option(key, value, equals, options)
    return _checked(spec, options)


def switch(key: str, value: str, equals: str) -> bool:
    if not equals or value in TRUE:
        return True
    if value in FALSE:
        return False
    raise ValueError(f"invalid value for {key}: {value}")


def _option(key: str, value: str, equals: str, options: dict[str, dict[str, Any]]) -> None:
    """Store a field that only one type of mount has."""
    group: dict[str, Any] = options.setdefault(key.partition("-")[0], {})
    if key == "bind-propagation":
        group["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        group["NonRecursive"] = switch(key, value, equals)
    elif key == "bind-recursive":
        recursive = {
            "enabled": {},
            "disabled": {"NonRecursive": True},
            "writable": {"ReadOnlyNonRecursive": True},
            "readonly": {"ReadOnlyForceRecursive": True},
        }
        if value not in recursive:
            raise ValueError(
                f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
            )
        group.update(recursive[value])
    elif key in ("volume-subpath", "image-subpath"):
        group["Subpath"] = value
    elif key == "volume-nocopy":
        group["NoCopy"] = switch(key, value, equals)
    elif key == "volume-label":
        name, _, content = value.partition("=")
        group.setdefault("Labels", {})[name] = content
    elif key == "volume-driver":
        group.setdefault("DriverConfig", {})["Name"] = value
    elif key == "volume-opt":
        name, _, content = value.partition("=")
        group.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = content
    elif key == "tmpfs-size":
        try:
            group["SizeBytes"] = parse_size(value)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
    elif key == "tmpfs-mode":
        try:
            group["Mode"] = int(value, 8)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
    else:
        raise ValueError(f"unexpected key '{key}' in '{key}={value}'")


def _checked(spec: dict[str, Any], options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    kind = spec["Type"]
    if not kind:
        raise ValueError("type is required")
    if not spec.get("Target"):
        raise ValueError("target is required")
    for owner, settings in options.items():
        if owner != kind:
            raise ValueError(f"cannot mix '{owner}-*' options with mount type '{kind}'")
        spec[_OWNERS[owner]] = settings
    bind = options.get("bind", {})
    if bind.get("ReadOnlyNonRecursive") and not spec.get("ReadOnly"):
        raise ValueError("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive"):
        if not spec.get("ReadOnly"):
            raise ValueError("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
        if bind.get("Propagation") != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
            )
    return spec


def volumes(specs: list[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """`-v` values as (binds, anonymous volumes). A host path that starts with a dot is made absolute."""
    binds: list[str] = []
    anonymous: dict[str, dict[str, str]] = {}
    for spec in specs:
        source, colon, rest = spec.partition(":")
        if not spec:
            raise CliError("invalid empty volume spec", 125)
        if not colon:
            anonymous[spec] = {}
            continue
        if not source or not rest or "" in rest.split(":"):
            raise CliError(f"invalid spec: {spec}: empty section between colons", 125)
        if source.startswith("."):
            source = os.path.abspath(source)
        binds.append(f"{source}:{rest}")
    return list(dict.fromkeys(binds)), anonymous
